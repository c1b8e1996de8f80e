#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Onehop in PyTorch's CUDA graphs, through a few lines of ctypes.

usage: torch_graphs.py LIBRARY

For each way in which PyTorch allocates (by default, in expandable segments, by cudaMallocAsync) it starts a process a
GPU. Each captures a chain of matrix products and all-reduces with torch.cuda.graph, as engines do: warm-up calls first,
several sizes that share a pool, replays in changing order with fresh inputs between ordinary calls. All numbers are small
integers, so that results are exact. The exit status is 77 where PyTorch or two GPUs are missing.
"""

import ctypes
import os
import subprocess
import sys
import uuid

ALLOCATORS = {"default": "", "expandable segments": "expandable_segments:True",
              "cudaMallocAsync": "backend:cudaMallocAsync"}
SUCCESS, BFLOAT16, SUM, CUDA = 0, 2, 0, 1
HIDDEN, ONES, TOKENS, ROUNDS, SECONDS = 512, 16, (1, 3, 16, 257), 40, 120


class Config(ctypes.Structure):
    """onehop_config_t as far as every version has it."""

    _fields_ = [("size", ctypes.c_size_t), ("rank", ctypes.c_int), ("nranks", ctypes.c_int), ("device", ctypes.c_int),
                ("device_index", ctypes.c_int), ("rendezvous", ctypes.c_char_p), ("allgather", ctypes.c_void_p),
                ("allgather_ctx", ctypes.c_void_p), ("workspace_bytes", ctypes.c_size_t), ("timeout_ms", ctypes.c_int),
                ("max_blocks", ctypes.c_int), ("bootstrap_timeout_ms", ctypes.c_int), ("job", ctypes.c_char_p),
                ("algorithm", ctypes.c_char_p)]


class Communicator:
    def __init__(self, library, rank, nranks, rendezvous):
        self.library = ctypes.CDLL(library)
        self.library.onehop_last_error.restype = ctypes.c_char_p
        self.comm = ctypes.c_void_p()
        config = Config(size=ctypes.sizeof(Config), rank=rank, nranks=nranks, device=CUDA, device_index=rank,
                        rendezvous=rendezvous.encode())
        self.check(self.library.onehop_comm_create(ctypes.byref(config), ctypes.byref(self.comm)))

    def check(self, code):
        if code != SUCCESS:
            raise RuntimeError(self.library.onehop_last_error().decode())

    def all_reduce(self, tensor, out=None):
        import torch
        out = tensor if out is None else out
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self.check(self.library.onehop_all_reduce(
            ctypes.c_void_p(tensor.data_ptr()), ctypes.c_void_p(out.data_ptr()), ctypes.c_size_t(tensor.numel()), BFLOAT16,
            SUM, self.comm, stream))
        return out

    def graph_register(self):
        self.check(self.library.onehop_graph_register(self.comm))

    def check_status(self):
        error = ctypes.c_int()
        self.check(self.library.onehop_comm_get_async_error(self.comm, ctypes.byref(error)))
        self.check(error.value)

    def destroy(self):
        self.check(self.library.onehop_comm_destroy(self.comm))


def layer(comm, weights, x):
    """Two tensor-parallel products: after each the ranks add up their parts. Signs keep the numbers small."""
    y = comm.all_reduce(x @ weights[0]).sign()
    z = x @ weights[1]
    return y + comm.all_reduce(z, out=z.new_empty(z.shape)).sign()


class Whole:
    """The same layer on one rank: with the sums of all ranks' weights, as the ranks' inputs are the same."""

    def all_reduce(self, tensor, out=None):
        if out is not None:
            out.copy_(tensor)
        return tensor if out is None else out


def rank_main(library, rank, nranks, rendezvous):
    import torch
    torch.cuda.set_device(rank)
    make = {"device": f"cuda:{rank}", "dtype": torch.bfloat16}
    generator = torch.Generator().manual_seed(int(rendezvous[-8:], 16))

    def draw_weights():
        """ONES of each column are 1 or -1: with inputs of -2 to 2, sums of up to 8 ranks are exact in bfloat16."""
        places = torch.randint(0, HIDDEN, (ONES, HIDDEN), generator=generator)
        values = torch.randint(-1, 2, (ONES, HIDDEN), generator=generator)
        return torch.zeros(HIDDEN, HIDDEN, dtype=torch.int64).scatter_(0, places, values)

    shares = [[draw_weights() for _ in range(nranks)] for _ in range(2)]
    mine = [each[rank].to(**make) for each in shares]
    whole = [sum(each).to(**make) for each in shares]
    comm, alone = Communicator(library, rank, nranks, rendezvous), Whole()

    def draw(tokens):
        return torch.randint(-2, 3, (tokens, HIDDEN), generator=generator).to(**make)

    def same(found, x, what):
        if not torch.equal(found, layer(alone, whole, x)):
            raise RuntimeError(f"{what}: wrong numbers")

    graphs, pool = {}, None
    for tokens in TOKENS:
        static = draw(tokens)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm-up calls really reduce
            for _ in range(2):
                warm = layer(comm, mine, static)
        torch.cuda.current_stream().wait_stream(side)
        same(warm, static, f"warm-up of {tokens} tokens")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            result = layer(comm, mine, layer(comm, mine, static))
        pool = pool or graph.pool()
        graphs[tokens] = graph, static, result
    comm.graph_register()
    for number in range(ROUNDS):
        tokens = TOKENS[int(torch.randint(0, len(TOKENS), (1,), generator=generator))]
        graph, static, result = graphs[tokens]
        x = draw(tokens)
        static.copy_(x)
        graph.replay()
        found = result.clone()
        between = draw(5)
        same(layer(comm, mine, between), between, f"a call in round {number}")
        same(found, layer(alone, whole, x), f"a graph of {tokens} tokens in round {number}")
        comm.check_status()
    torch.cuda.synchronize()
    del graphs
    comm.destroy()
    print(f"rank {rank}: {ROUNDS} replays, {torch.cuda.get_allocator_backend()}", flush=True)


def run(library, name, setting, nranks):
    environment = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": setting}
    rendezvous = f"unix:@onehop-torch-{uuid.uuid4().hex}"
    ranks = [subprocess.Popen([sys.executable, __file__, library, str(rank), str(nranks), rendezvous], env=environment)
             for rank in range(nranks)]
    try:
        failed = sum(rank.wait(timeout=SECONDS) != 0 for rank in ranks)
    except subprocess.TimeoutExpired:
        failed = nranks
    for rank in ranks:
        rank.kill()
        rank.wait()
    print(f"{name}: {'passed' if failed == 0 else 'FAILED'}", flush=True)
    return failed == 0


def main():
    if len(sys.argv) == 5:
        return rank_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed")
        sys.exit(77)
    nranks = min(torch.cuda.device_count(), 8)
    if nranks < 2:
        print("there are fewer than two GPUs")
        sys.exit(77)
    good = [run(sys.argv[1], name, setting, nranks) for name, setting in ALLOCATORS.items()]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
