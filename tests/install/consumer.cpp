/* SPDX-License-Identifier: Apache-2.0 */
/* A C++ program outside the tree: two ranks, as threads, add their numbers. Exits 0 if every rank got the sum. */
#include <onehop.h>

#include <array>
#include <iostream>
#include <thread>
#include <vector>

static bool run(onehop_comm_t *comm) {
    std::vector<double> values(1000);
    for (std::size_t i = 0; i < values.size(); i++) values[i] = static_cast<double>(i) + onehop_comm_rank(comm);
    std::vector<double> sums(values.size());
    if (onehop_all_reduce(values.data(), sums.data(), values.size(), ONEHOP_FLOAT64, ONEHOP_SUM, comm, nullptr) !=
        ONEHOP_SUCCESS) {
        std::cerr << "all_reduce: " << onehop_last_error() << '\n';
        return false;
    }
    for (std::size_t i = 0; i < sums.size(); i++) {
        if (sums[i] != 2.0 * static_cast<double>(i) + 1.0) {
            std::cerr << "element " << i << " is " << sums[i] << ", expected " << 2 * i + 1 << '\n';
            return false;
        }
    }
    return true;
}

int main() {
    std::array<onehop_comm_t *, 2> comms{};
    if (onehop_comm_create_local(2, nullptr, ONEHOP_DEVICE_HOST, comms.data()) != ONEHOP_SUCCESS) {
        std::cerr << "comm_create_local: " << onehop_last_error() << '\n';
        return 1;
    }
    std::array<bool, 2> right{};
    std::thread other([&] { right[1] = run(comms[1]); });
    right[0] = run(comms[0]);
    other.join();
    for (onehop_comm_t *comm : comms) onehop_comm_destroy(comm);
    if (!right[0] || !right[1]) return 1;
    std::cout << "C++, Onehop " << onehop_version() << ": 2 ranks agree\n";
    return 0;
}
