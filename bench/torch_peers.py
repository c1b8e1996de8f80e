#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's all-reduces on the GPUs of this machine: torch.distributed with NCCL, and those on symmetric memory.

It measures as `onehop bench` does (cli/bench_gpu.c): bf16 sums in CUDA graphs of 48 operations, 20 from 8 MiB, over
four buffers in turn; alone, and with a neighbour that reads and writes memory between the operations, whose own time is
subtracted; the time of the slowest rank, the median of rounds; results verified. Each GPU has a process, which this one
starts and, when the time is up, ends: what was measured until then is kept. NCCL and two-shot work in place, one-shot
does not. NVLink multicast is off. gpu.py runs this in the same sitting as Onehop, where there is PyTorch.

Writes torch-NxGPU.json, schema "onehop-bench-peers-1", into bench/results/ or the directory $OUT. A size that a peer
refuses is left out, with its reason. The exit status is 77 where PyTorch or two GPUs are missing.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from statistics import median

import report
from gpu import NEIGHBOUR, SIZES, has_torch, size, sizes_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ("torch_nccl", "torch_symm_one_shot", "torch_symm_two_shot")
SETTINGS = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"}
PAIRS, OPERATIONS, OPERATIONS_LARGE, LARGE, WARM_REPLAYS = 4, 48, 20, 8 << 20, 3
DELAY_CYCLES = 1_000_000  # half a millisecond: longer than a rank needs to ask for a meeting and a graph
PATIENCE_S = 30  # of ranks for one another
ELEMENT = 2
SKIPPED = 77


def message_sizes(text):
    sizes = sizes_of(text)
    for nbytes in sizes:
        if nbytes == 0 or nbytes % ELEMENT:
            raise argparse.ArgumentTypeError(f"{nbytes}: expected a multiple of {ELEMENT} bytes above 0")
    return sizes


# ---- a rank: a process with a GPU ----


class Refused(Exception):
    """What a peer would not do, with its reason; on all ranks alike."""


class Ranks:
    """How ranks agree: through the store by which they met, on the host."""

    def __init__(self, store, rank, nranks):
        self.store, self.rank, self.nranks, self.number = store, rank, nranks, 0

    def all(self, value):
        """The values of all ranks."""
        self.store.set(f"{self.number}/{self.rank}", json.dumps(value))
        everyone = [json.loads(self.store.get(f"{self.number}/{rank}")) for rank in range(self.nranks)]
        self.number += 1
        return everyone

    def end(self):
        """The store is in rank 0, which goes last."""
        if self.rank != 0:
            self.store.set(f"end/{self.rank}", "1")
        else:
            for rank in range(1, self.nranks):
                self.store.get(f"end/{rank}")

    def attempt(self, work):
        """What this returns on this rank; refused where it fails on any. It must agree on nothing itself."""
        result = reason = None
        try:
            result = work()
        except Exception as error:  # PyTorch raises many kinds
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        reasons = [each for each in self.all(reason) if each is not None]
        if reasons:
            raise Refused(reasons[0])
        return result


class Bench:
    """A rank's buffers, and what is done with them."""

    def __init__(self, rank, job):
        import torch
        import torch.distributed as dist

        self.torch, self.dist, self.job, self.rank, self.nranks = torch, dist, job, rank, job["nranks"]
        torch.cuda.set_device(rank)
        self.device = torch.device("cuda", rank)
        store = dist.TCPStore("127.0.0.1", job["port"], self.nranks, rank == 0,
                              timeout=datetime.timedelta(seconds=PATIENCE_S))
        dist.init_process_group("nccl", store=dist.PrefixStore("group", store), rank=rank, world_size=self.nranks)
        self.ranks = Ranks(dist.PrefixStore("bench", store), rank, self.nranks)
        self.group = dist.group.WORLD.group_name
        self.given = [self.empty() for _ in range(PAIRS)]
        self.plain = [self.empty() for _ in range(PAIRS)]
        self.symmetric, self.why_not = None, None
        self.neighbour = torch.zeros(max(job["neighbour"], 4) // 4, dtype=torch.int32, device=self.device)
        self.sign = torch.zeros(1, device=self.device)
        self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.random = random.Random(job["seed"])
        self.ranks.attempt(self.meet)  # NCCL connects
        try:
            self.symmetric = self.ranks.attempt(self.share)
        except Refused as refused:
            self.why_not = str(refused)

    def empty(self):
        return self.torch.empty(max(self.job["sizes"]) // ELEMENT, dtype=self.torch.bfloat16, device=self.device)

    def share(self):
        """Symmetric memory."""
        import torch.distributed._symmetric_memory as symm_mem

        count = max(self.job["sizes"]) // ELEMENT
        buffers = [symm_mem.empty(count, dtype=self.torch.bfloat16, device=self.device) for _ in range(PAIRS)]
        for buffer in buffers:
            symm_mem.rendezvous(buffer, self.group)
        return buffers

    def meet(self):
        """All GPUs go on from here at about the same time."""
        self.dist.all_reduce(self.sign)

    def values(self, rank, pair, count, seed):
        """Small integers: sums of 8 of them are exact."""
        mixed = self.torch.arange(count, dtype=self.torch.int64, device=self.device) * 1103515245
        mixed += (seed + 7919 * rank + 104729 * pair) * 12345
        return (((mixed >> 16) ^ mixed) % 15 - 7).to(self.torch.bfloat16)


class Subject:
    """One peer at one size."""

    def __init__(self, bench, peer, nbytes):
        self.bench, self.peer, self.count = bench, peer, nbytes // ELEMENT
        self.operations = OPERATIONS if nbytes < LARGE else OPERATIONS_LARGE
        if peer != "torch_nccl" and bench.symmetric is None:
            raise Refused(bench.why_not)
        self.send = bench.plain if peer == "torch_nccl" else bench.symmetric
        self.recv = bench.plain if peer == "torch_symm_one_shot" else self.send

    def reduce(self, pair):
        bench, send, recv = self.bench, self.send[pair][:self.count], self.recv[pair][:self.count]
        if self.peer == "torch_nccl":
            bench.dist.all_reduce(send)
        elif self.peer == "torch_symm_one_shot":
            bench.torch.ops.symm_mem.one_shot_all_reduce_out(send, "sum", bench.group, recv)
        else:
            bench.torch.ops.symm_mem.two_shot_all_reduce_(send, "sum", bench.group)

    def load(self):
        """Puts the inputs where they are reduced: in place, sums would grow until they are no numbers."""
        for pair in range(PAIRS):
            self.send[pair][:self.count].copy_(self.bench.given[pair][:self.count])

    # Each of what follows is tried on all ranks at once.

    def call(self):
        """The first calls are no part of a graph: libraries connect, and refuse what they cannot do."""
        self.load()
        for pair in range(PAIRS):
            self.reduce(pair)
        self.bench.torch.cuda.synchronize()

    def capture(self, operations, neighbour, alone=False):
        torch = self.bench.torch
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # NCCL's watchdog makes calls of its own
            for i in range(operations):
                if not alone:
                    self.reduce(i % PAIRS)
                if neighbour:
                    self.bench.neighbour.add_(1)
        return graph

    def count_wrong(self, graph, seed):
        """In the results of a graph, with fresh data."""
        bench, wrong = self.bench, 0
        for pair in range(PAIRS):
            bench.given[pair][:self.count].copy_(bench.values(bench.rank, pair, self.count, seed))
            self.recv[pair].fill_(-99)
        self.load()
        graph.replay()
        bench.torch.cuda.synchronize()
        for pair in range(PAIRS):
            expected = bench.torch.zeros(self.count, dtype=bench.torch.bfloat16, device=bench.device)
            for rank in range(bench.nranks):
                expected += bench.values(rank, pair, self.count, seed)
            wrong += int((self.recv[pair][:self.count] != expected).sum())
        return wrong

    def replay(self, graph):
        """Microseconds."""
        bench = self.bench
        self.load()
        bench.torch.cuda._sleep(DELAY_CYCLES)
        bench.meet()
        bench.start.record()
        graph.replay()
        bench.end.record()
        bench.torch.cuda.synchronize()
        return 1e3 * bench.start.elapsed_time(bench.end)

    # ---- all of it ----

    def verify(self):
        ranks = self.bench.ranks
        seed = self.bench.random.randrange(1 << 20)
        ranks.attempt(self.call)
        graph = ranks.attempt(lambda: self.capture(PAIRS, False))
        wrong = sum(ranks.all(ranks.attempt(lambda: self.count_wrong(graph, seed))))
        if wrong:
            raise Refused(f"{wrong} elements were wrong")

    def time_graph(self, neighbour, alone=False):
        """Of the slowest rank: the median of rounds, and their 99th percentile."""
        ranks, rounds = self.bench.ranks, self.bench.job["rounds"]
        graph = ranks.attempt(lambda: self.capture(self.operations, neighbour, alone))
        mine = [ranks.attempt(lambda: self.replay(graph)) for _ in range(WARM_REPLAYS + rounds)][WARM_REPLAYS:]
        slowest = sorted(map(max, zip(*ranks.all(mine))))
        return median(slowest), slowest[math.ceil(0.99 * rounds) - 1]

    def time(self, neighbour):
        """Of one operation; what the neighbour takes alone is no part of it."""
        alone = self.time_graph(neighbour, alone=True) if neighbour else (0, 0)
        return [(us - less) / self.operations for us, less in zip(self.time_graph(neighbour), alone)]


def describe(bench):
    torch = bench.torch
    return {"gpu": torch.cuda.get_device_name(bench.rank), "torch": torch.__version__, "cuda": torch.version.cuda,
            "nccl": ".".join(map(str, torch.cuda.nccl.version()))}


def measure(bench, peer, nbytes, neighbours):
    """Yields what is written of one peer at one size: a line for each neighbour."""
    what = {"peer": peer, "bytes": nbytes, "dtype": "bfloat16"}
    try:
        subject = Subject(bench, peer, nbytes)
        subject.verify()
        for neighbour in neighbours:
            what["neighbour_bytes"] = neighbour
            us, p99 = subject.time(neighbour > 0)
            yield {**what, "time_us": float(f"{us:.6g}"), "time_p99_us": float(f"{p99:.6g}")}
    except Refused as refused:
        yield {**what, "refused": str(refused)}


def rank_main(rank, job):
    import gc

    bench = Bench(rank, job)
    gc.freeze()  # each capture collects garbage, and this is none
    neighbours = [0, job["neighbour"]] if job["neighbour"] else [0]
    with open(job["lines"] if rank == 0 else os.devnull, "a", encoding="utf-8") as file:
        print(json.dumps({"about": describe(bench)}), file=file, flush=True)
        for nbytes in job["sizes"]:
            for peer in job["peers"]:
                for line in measure(bench, peer, nbytes, neighbours):
                    print(json.dumps(line), file=file, flush=True)
                bench.ranks.attempt(bench.torch.cuda.synchronize)  # where the GPU has failed, all else would
    bench.ranks.end()
    os._exit(0)  # without outwaiting what NCCL tears down


# ---- who starts them ----


def ask(*command):
    try:
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def outwait(number, rank):
    if rank.wait() != 0:
        raise RuntimeError(f"rank {number} ended with status {rank.returncode}")


def run_ranks(job, seconds, folder):
    """What went wrong, with the last words of who failed first; None if all is well."""
    logs = [pathlib.Path(folder) / f"{rank}.log" for rank in range(job["nranks"])]
    ranks = []
    with futures.ThreadPoolExecutor(job["nranks"]) as pool:
        try:
            for rank, log in enumerate(logs):
                with open(log, "wb") as file:
                    command = [sys.executable, "-B", __file__, "--rank", str(rank), json.dumps(job)]
                    ranks.append(subprocess.Popen(command, env={**os.environ, **SETTINGS}, stdin=subprocess.DEVNULL,
                                                  stdout=file, stderr=file))
            ends = [pool.submit(outwait, *each) for each in enumerate(ranks)]
            done, running = futures.wait(ends, timeout=seconds, return_when=futures.FIRST_EXCEPTION)
        finally:
            for rank in ranks:
                rank.kill()
    for number, end in enumerate(ends):
        if end in done and end.exception() is not None:
            words = logs[number].read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"{end.exception()}: {words[-1] if words else 'it said nothing'}"
    return "the time was up" if running else None


def sum_up(lines):
    """What the ranks have told: about the machine, what was measured, and what was refused."""
    told = [json.loads(line) for line in lines if line.endswith("\n")]  # a rank that was ended may leave half a line
    about = next((line["about"] for line in told if "about" in line), {})
    refused = [line for line in told if "refused" in line]
    return about, [line for line in told if "time_us" in line], refused


def complain(refused):
    """A line for each peer and reason."""
    by_reason = {}
    for line in refused:
        by_reason.setdefault((line["peer"], line["refused"]), []).append(report.human(line["bytes"]))
    for (peer, reason), sizes in by_reason.items():
        print(f"bench/torch_peers.py: {peer} is left out at {', '.join(sizes)}: {reason}", flush=True)


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nranks", type=int, help="ranks, one a GPU (default: as many as there are)")
    parser.add_argument("--sizes", type=message_sizes, default=SIZES, help="what to measure (default: 4K ... 32M)")
    parser.add_argument("--rounds", type=int, default=9, help="at least 1 (default 9)")
    parser.add_argument("--neighbour", type=size, default=NEIGHBOUR, help="bytes that it moves; 0: without (default 64M)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"some of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=85, help="then it ends (default 85)")
    parser.add_argument("--output", type=pathlib.Path, help="the file (default: torch-NxGPU.json)")
    options = parser.parse_args(words)
    options.peers = options.peers.split(",")
    unknown = set(options.peers) - set(PEERS)
    if unknown:
        parser.error(f"--peers: {', '.join(sorted(unknown))}: expected some of {', '.join(PEERS)}")
    if options.rounds < 1:
        parser.error(f"--rounds: {options.rounds}: expected at least 1")
    if options.nranks is not None and not 2 <= options.nranks <= 8:
        parser.error(f"--nranks: {options.nranks}: expected 2 to 8")
    return options


def main():
    if sys.argv[1:2] == ["--rank"]:
        return rank_main(int(sys.argv[2]), json.loads(sys.argv[3]))
    options = parse(sys.argv[1:])
    gpus = len(ask("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines())
    nranks = options.nranks or min(gpus, 8)
    if not has_torch(sys.executable):
        print("bench/torch_peers.py: PyTorch is not installed")
        sys.exit(SKIPPED)
    if not 2 <= nranks <= gpus:
        print(f"bench/torch_peers.py: there are {gpus} GPUs, and it needs {max(nranks, 2)}")
        sys.exit(SKIPPED)
    begun = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    begin = time.monotonic()
    job = {"nranks": nranks, "port": free_port(), "sizes": options.sizes, "rounds": options.rounds,
           "peers": options.peers, "neighbour": options.neighbour, "seed": random.randrange(1 << 30)}
    with tempfile.TemporaryDirectory(prefix="onehop-torch-peers-") as folder:
        job["lines"] = f"{folder}/lines"
        open(job["lines"], "w", encoding="utf-8").close()
        wrong = run_ranks(job, options.seconds, folder)
        with open(job["lines"], encoding="utf-8") as file:
            about, results, refused = sum_up(file)
    complain(refused)
    if wrong:
        print(f"bench/torch_peers.py: not all was measured: {wrong}", flush=True)
    if not results:
        sys.exit("bench/torch_peers.py: nothing was measured")
    whole = {"schema": "onehop-bench-peers-1", "date": begun, "host": socket.gethostname(), **about, "nranks": nranks,
             "driver": ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0],
             "mode": "graph", "rounds": options.rounds, "seconds": round(time.monotonic() - begin, 1),
             "incomplete": wrong, "results": results, "refused": refused}
    folder = pathlib.Path(os.environ.get("OUT") or ROOT / "bench/results")
    path = options.output or folder / f"torch-{nranks}x{report.gpu_of(about['gpu'])}.json"
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"PyTorch {about['torch']}: {len(results)} times in {whole['seconds']} s: {path}")


if __name__ == "__main__":
    main()
