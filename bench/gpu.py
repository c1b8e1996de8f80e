#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times all-reduces on the GPUs of this machine, beside NCCL and PyTorch's, with what `make build-gpu` built.

Runs `onehop bench` for bfloat16, float32 and float16: in CUDA graphs beside NCCL, the same with a busy neighbour
between the operations, and call by call; and for the first of these types call by call beside the neighbour, with
registered buffers, with one element more, and with bounds on the blocks of a kernel. The first type's runs in graphs
are made three times, the others between them; the median counts. Writes all of it to bench/results/gpu-NxGPU.json (a
file of the schema "onehop-bench-1", whose list `runs` holds the files of the single runs), and prints tables; report.py
makes those of README.md of it.
Where there is PyTorch, torch_peers.py measures its all-reduces right after; they come among the `peers` of these runs.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from statistics import median

import report
from host_report import human, print_columns

ROOT = pathlib.Path(__file__).resolve().parent.parent
ONEHOP = ROOT / "build-gpu/cli/onehop"
SIZES = "4K,16K,64K,128K,192K,256K,384K,512K,640K,768K,896K,1M,2M,3M,4M,8M,16M,32M"
DTYPES = {"bfloat16": 2, "float32": 4, "float16": 2}  # bytes of an element
NEIGHBOUR = "64M"
BLOCKS = "4,8,16,32,64,132"
TURNS = 3  # of the first type's runs in graphs: processes differ by more than rounds do


def count_gpus():
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], check=True, text=True, stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench/gpu.py: no GPU is found: {error}")
    return len(listing.splitlines())


def need_build(script):
    if not ONEHOP.exists():
        sys.exit(f"{script}: {ONEHOP} is missing: run `make build-gpu` where there is a compiler")


def find_nccl():
    """Where PyTorch's wheel keeps it; None: where the loader looks."""
    for name in ("python3", sys.executable):
        found = subprocess.run([name, "-c", "import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])"], text=True,
                               check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.strip()
        path = pathlib.Path(found) / "lib/libnccl.so.2"
        if found and path.exists():
            return path
    return None


def size(text):
    """Bytes, from a number with K, M, G or nothing behind it."""
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"\"{text}\": expected bytes, with K, M or G behind the number or not")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]


@dataclasses.dataclass
class Wanted:
    """A run of `onehop bench`."""

    name: str
    dtype: str
    arguments: list = dataclasses.field(default_factory=list)
    max_blocks: int = 0  # 0: no bound
    extra_bytes: int = 0  # on top of each size
    turns: int = 1  # how often; the median counts


def plan(options):
    neighbour, calls = ["--neighbour", options.neighbour], ["--mode", "eager"]
    first = options.dtypes[0]
    for dtype in options.dtypes:
        turns = TURNS if dtype == first else 1
        yield Wanted(f"{dtype}, graphs", dtype, options.peers, turns=turns)
        if not options.quick:
            yield Wanted(f"{dtype}, graphs, neighbour", dtype, [*options.peers, *neighbour], turns=turns)
            yield Wanted(f"{dtype}, calls", dtype, calls)
    if options.quick:
        return
    yield Wanted(f"{first}, calls, neighbour", first, [*calls, *neighbour])
    yield Wanted(f"{first}, graphs, registered", first, ["--registered"])
    yield Wanted(f"{first}, graphs, one element more", first, extra_bytes=DTYPES[first])
    for blocks in options.blocks:
        yield Wanted(f"{first}, graphs, at most {blocks} blocks", first, max_blocks=blocks)


def listed(sizes):
    """As the options take them."""
    return ",".join(map(str, sizes))


def bench(options, path, dtype, sizes, more, max_blocks, variables=None, **how):
    """Runs `onehop bench`, which writes to `path`; `how` is for subprocess.run."""
    command = [ONEHOP, "bench", "--device", "cuda", "-n", options.nranks, "--dtype", dtype, "--sizes", listed(sizes),
               "--rounds", options.rounds, "--json", path, *more]
    path.unlink(missing_ok=True)
    bound = {"ONEHOP_MAX_BLOCKS": str(max_blocks)} if max_blocks else {}
    return subprocess.run([str(word) for word in command], check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, **bound, **(variables or {})}, **how)


def run(wanted, options, folder):
    path = pathlib.Path(folder) / "bench.json"
    sizes = [nbytes + wanted.extra_bytes for nbytes in options.sizes]
    algorithm = ["--algorithm", options.algorithm] if options.algorithm else []
    print(f"== {wanted.name}", flush=True)
    done = bench(options, path, wanted.dtype, sizes, [*algorithm, *wanted.arguments], wanted.max_blocks)
    if not path.exists():
        print(f"== {wanted.name} FAILED: exit status {done.returncode}", flush=True)
        return None
    return {"name": wanted.name, "failed": done.returncode != 0, "max_blocks": wanted.max_blocks,
            "extra_bytes": wanted.extra_bytes, **json.loads(path.read_text())}


def merge_turns(turns):
    """One run of several that were made alike: the median of each time, and all that is wrong."""
    merged = {**turns[0], "failed": any(turn["failed"] for turn in turns), "turns": len(turns)}
    merged["results"] = []
    for rows in zip(*(turn["results"] for turn in turns)):
        row = {**rows[0], "wrong": sum(one["wrong"] for one in rows)}
        for key in ("time_us", "time_p99_us", "host_us", "neighbour_us"):
            row[key] = median(one[key] for one in rows)
        row["peers"] = {peer: median(one["peers"][peer] for one in rows) for peer in rows[0]["peers"]}
        merged["results"].append(row)
    return merged


def measure(options, folder):
    """All runs, a turn at a time; None in place of those that failed."""
    turns = {}
    for turn in range(TURNS):
        for wanted in plan(options):
            if turn < wanted.turns:
                turns.setdefault(wanted.name, []).append(run(wanted, options, folder))
    return [None if None in each else merge_turns(each) for each in turns.values()]


def has_torch(python):
    """Whether this Python has PyTorch, without loading it, which takes long."""
    found = subprocess.run([python, "-c", "import importlib.util; print(importlib.util.find_spec('torch') or '')"],
                           text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.strip()
    return found != ""


def run_torch(options, path):
    """What torch_peers.py has written; None if nothing."""
    python = None if options.no_torch else next(filter(has_torch, ("python3", sys.executable)), None)
    if python is None:
        return None
    print("== PyTorch", flush=True)
    path.unlink(missing_ok=True)
    command = [python, "-B", ROOT / "bench/torch_peers.py", "--nranks", options.nranks, "--sizes", listed(options.sizes),
               "--rounds", options.rounds, "--neighbour", 0 if options.quick else options.neighbour, "--output", path]
    subprocess.run([str(word) for word in command], check=False, stdin=subprocess.DEVNULL)
    return json.loads(path.read_text()) if path.exists() else None


def merge(runs, found):
    """Puts PyTorch's times among the peers of the runs that were made alike."""
    times = {}
    for one in found["results"]:
        times.setdefault((one["bytes"], one["dtype"], one["neighbour_bytes"]), {})[one["peer"]] = one["time_us"]
    for one in runs:
        for row in one["results"] if one["mode"] == "graph" and report.is_plain(one) else ():
            row["peers"].update(times.get((row["bytes"], row["dtype"], one["neighbour_bytes"]), {}))
        one["torch_version"] = found["torch"]


def table(found):
    """One line a size: both places, the processor's time, the others, the ratio of the fastest, and what was chosen."""
    of = report.Run(found, report.read_separate(found["device"], found["nranks"]))
    print(f"\n{found['name']}: {found['nranks']} x {found['device']}, microseconds (*: measured separately)")
    lines = [["bytes", "out", "in", "host", *map(of.label, of.peers), "best/out", "best/in", "chosen"]]
    for nbytes in of.sizes:
        out, inside = of.rows[False][nbytes], of.rows[True][nbytes]
        leads = [of.lead(nbytes, in_place) for in_place in (False, True)]
        slower = "  SLOWER" if any(lead is not None and lead < 1 for lead in leads) else ""
        wrong = f"  {out['wrong'] + inside['wrong']} WRONG" if out["wrong"] + inside["wrong"] else ""
        ours = (out["time_us"], inside["time_us"], out.get("host_us"))
        others = (of.peer_time(peer, nbytes) for peer in of.peers)
        lines.append([human(nbytes), *map(report.us, [*ours, *others]), *map(report.times, leads),
                      f"{out['algorithm']} {out['blocks']} x {out['threads']}{wrong}{slower}"])
    print_columns(lines)


def write(runs, options, path):
    """The first run, with all runs beside it: who knows the schema finds one run where it belongs."""
    added = ("name", "failed", "max_blocks", "extra_bytes", "turns")
    first = {key: value for key, value in runs[0].items() if key not in added}
    whole = {**first, "seconds": options.seconds, "runs": runs}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"results: {path}")


def sizes_of(text):
    return [size(word) for word in text.split(",")]


def dtypes_of(text):
    dtypes = text.split(",")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise argparse.ArgumentTypeError(f"{dtype}: expected some of {', '.join(DTYPES)}")
    return dtypes


def blocks_of(text):
    bounds = [size(word) for word in text.split(",") if word]
    if 0 in bounds:
        raise argparse.ArgumentTypeError("0: expected at least 1")
    return bounds


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nranks", type=int, help="ranks, one a GPU (default: as many as there are)")
    parser.add_argument("--sizes", default=SIZES, type=sizes_of, help="what to measure (default: 4K ... 32M)")
    parser.add_argument("--dtypes", default=",".join(DTYPES), type=dtypes_of, help=f"some of {', '.join(DTYPES)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--neighbour", default=NEIGHBOUR, help="bytes that the neighbour reads and writes (default 64M)")
    parser.add_argument("--blocks", default=BLOCKS, type=blocks_of,
                        help="bounds on the blocks of a kernel (default 4 ... 132)")
    parser.add_argument("--algorithm", help="force an algorithm")
    parser.add_argument("--quick", action="store_true", help="only graphs, without a neighbour")
    parser.add_argument("--no-nccl", action="store_true", help="do not measure NCCL")
    parser.add_argument("--no-torch", action="store_true", help="do not measure PyTorch's")
    parser.add_argument("--nccl", help="NCCL's library (default: PyTorch's, else the system's)")
    options = parser.parse_args(words)
    need_build("bench/gpu.py")
    options.nranks = options.nranks or count_gpus()
    nccl = options.nccl or find_nccl()
    options.peers = [] if options.no_nccl else ["--peer", "nccl", *(["--nccl", nccl] if nccl else [])]
    return options


def main():
    options = arguments()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="onehop-bench-gpu-") as folder:
        tried = measure(options, folder)
    runs = [found for found in tried if found is not None]
    if not runs:
        sys.exit("bench/gpu.py: nothing was measured")
    folder = pathlib.Path(os.environ.get("OUT") or ROOT / "bench/results")
    name = f"{options.nranks}x{report.gpu_of(runs[0]['device'])}.json"
    torch = run_torch(options, folder / f"torch-{name}")
    if torch is not None:
        merge(runs, torch)
    options.seconds = round(time.monotonic() - start, 1)
    for found in runs:
        table(found)
    write(runs, options, folder / f"gpu-{name}")
    failed = [found["name"] for found in runs if found["failed"]]
    sys.exit(f"bench/gpu.py: wrong results in {', '.join(failed)}" if failed else len(runs) != len(tried))


if __name__ == "__main__":
    main()
