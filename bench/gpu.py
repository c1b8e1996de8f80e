#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times all-reduces on the GPUs of this machine, beside NCCL, with what `make build-gpu` built.

Runs `onehop bench` for bfloat16 and float32: in CUDA graphs beside NCCL, the same with a busy neighbour between the
operations, and call by call. Writes all of it to bench/results/gpu-NxGPU.json (a file of the schema "onehop-bench-1",
whose list `runs` holds the files of the single runs), prints a table, and draws it where matplotlib is installed.
With --reference, a csv with the columns size_kib and sglang_v2, it also shows the ratio to what is written there.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ONEHOP = ROOT / "build-gpu/cli/onehop"
SIZES = "4K,16K,64K,128K,192K,256K,384K,512K,640K,768K,896K,1M,2M,3M,4M,8M,16M,32M"
DTYPES = ("bfloat16", "float32")
NEIGHBOUR = "64M"


def count_gpus():
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], check=True, text=True, stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench/gpu.py: no GPU is found: {error}")
    return len(listing.splitlines())


def find_nccl():
    """Where PyTorch's wheel keeps it; None: where the loader looks."""
    for name in ("python3", sys.executable):
        found = subprocess.run([name, "-c", "import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])"], text=True,
                               check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.strip()
        path = pathlib.Path(found) / "lib/libnccl.so.2"
        if found and path.exists():
            return path
    return None


def plan(options):
    """The runs: a name, and the arguments of each."""
    for dtype in options.dtypes.split(","):
        yield f"{dtype}, graphs", dtype, options.peers
        if not options.quick:
            yield f"{dtype}, graphs, neighbour", dtype, [*options.peers, "--neighbour", options.neighbour]
            yield f"{dtype}, calls", dtype, ["--mode", "eager"]


def run(name, dtype, more, options, folder):
    path = pathlib.Path(folder) / "bench.json"
    command = [ONEHOP, "bench", "--device", "cuda", "-n", options.nranks, "--dtype", dtype, "--sizes", options.sizes,
               "--rounds", options.rounds, *(["--algorithm", options.algorithm] if options.algorithm else []),
               "--json", path, *more]
    print(f"== {name}", flush=True)
    path.unlink(missing_ok=True)
    done = subprocess.run([str(word) for word in command], check=False, stdin=subprocess.DEVNULL)
    if not path.exists():
        print(f"== {name} FAILED: exit status {done.returncode}", flush=True)
        return None
    return {"name": name, "failed": done.returncode != 0, **json.loads(path.read_text())}


def reference(path):
    """Microseconds of sglang_v2 by bytes."""
    if path is None:
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {int(float(row["size_kib"]) * 1024): float(row["sglang_v2"]) for row in csv.DictReader(file)
                if row.get("sglang_v2")}


def show(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def table(found, known):
    """One line a size: both places, what was chosen, the processor's time, NCCL, and the ratio to the reference."""
    print(f"\n{found['name']}: {found['nranks']} x {found['device']}, microseconds")
    print(f"{'bytes':>10} {'out':>8} {'in':>8} {'host':>6} {'nccl':>8} {'window':>8} {'sglang':>8} {'sglang/out':>10}"
          f" {'sglang/in':>10}  chosen")
    pairs = zip(found["results"][::2], found["results"][1::2])
    for out, inside in pairs:
        other = known.get(out["bytes"])
        peers = out["peers"]
        ratios = [other / row["time_us"] if other and row["time_us"] > 0 else None for row in (out, inside)]
        slower = "  SLOWER" if any(ratio is not None and ratio < 1 for ratio in ratios) else ""
        wrong = f"  {out['wrong'] + inside['wrong']} WRONG" if out["wrong"] + inside["wrong"] else ""
        print(f"{out['bytes']:>10} {show(out['time_us']):>8} {show(inside['time_us']):>8} {show(out.get('host_us')):>6}"
              f" {show(peers.get('nccl')):>8} {show(peers.get('nccl_window')):>8} {show(other):>8}"
              f" {show(ratios[0], 3):>10} {show(ratios[1], 3):>10}  {out['algorithm']} {out['blocks']} x"
              f" {out['threads']}{wrong}{slower}")


def draw(runs, known, path):
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, len(runs), figsize=(6 * len(runs), 5), squeeze=False)
    for axis, found in zip(axes[0], runs):
        rows = [row for row in found["results"] if not row["in_place"]]
        lines = {"onehop": [(row["bytes"], row["time_us"]) for row in rows],
                 "onehop, in place": [(row["bytes"], row["time_us"]) for row in found["results"] if row["in_place"]]}
        for peer in ("nccl", "nccl_window"):
            lines[peer] = [(row["bytes"], row["peers"][peer]) for row in rows if peer in row["peers"]]
        lines["sglang_v2"] = sorted((size, us) for size, us in known.items() if size in {row["bytes"] for row in rows})
        for label, points in lines.items():
            if points:
                axis.plot(*zip(*points), marker=".", label=label)
        axis.set(xscale="log", yscale="log", xlabel="bytes", ylabel="microseconds", title=found["name"])
        axis.set_xscale("log", base=2)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    figure.suptitle(f"{runs[0]['nranks']} x {runs[0]['device']}, onehop {runs[0]['version']} ({runs[0]['commit'][:12]})")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    print(f"plot: {path}")


def write(runs, options, path):
    """The first run, with all runs beside it: who knows the schema finds one run where it belongs."""
    first = {key: value for key, value in runs[0].items() if key not in ("name", "failed")}
    whole = {**first, "seconds": options.seconds, "runs": runs}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"results: {path}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nranks", type=int, help="ranks, one a GPU (default: as many as there are)")
    parser.add_argument("--sizes", default=SIZES, help="what to measure (default: 4K ... 32M)")
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--neighbour", default=NEIGHBOUR, help="bytes that the neighbour reads and writes (default 64M)")
    parser.add_argument("--algorithm", help="force an algorithm")
    parser.add_argument("--quick", action="store_true", help="only graphs, without a neighbour")
    parser.add_argument("--no-nccl", action="store_true", help="do not measure NCCL")
    parser.add_argument("--nccl", help="NCCL's library (default: PyTorch's, else the system's)")
    parser.add_argument("--reference", help="csv with the columns size_kib and sglang_v2 (microseconds)")
    options = parser.parse_args()
    if not ONEHOP.exists():
        sys.exit(f"bench/gpu.py: {ONEHOP} is missing: run `make build-gpu` where there is a compiler")
    options.nranks = options.nranks or count_gpus()
    nccl = options.nccl or find_nccl()
    options.peers = [] if options.no_nccl else ["--peer", "nccl", *(["--nccl", nccl] if nccl else [])]
    return options


def main():
    options = arguments()
    start = time.monotonic()
    known = reference(options.reference)
    with tempfile.TemporaryDirectory(prefix="onehop-bench-gpu-") as folder:
        tried = [run(*each, options, folder) for each in plan(options)]
    runs = [found for found in tried if found is not None]
    options.seconds = round(time.monotonic() - start, 1)
    if not runs:
        sys.exit("bench/gpu.py: nothing was measured")
    for found in runs:
        table(found, known)
    gpu = re.sub(r"[^a-z0-9]+", "-", runs[0]["device"].removeprefix("NVIDIA ").lower())
    folder = pathlib.Path(os.environ.get("OUT") or ROOT / "bench/results")
    path = folder / f"gpu-{options.nranks}x{gpu}.json"
    write(runs, options, path)
    draw([found for found in runs if found["mode"] == "graph"], known, path.with_suffix(".png"))
    failed = [found["name"] for found in runs if found["failed"]]
    sys.exit(f"bench/gpu.py: wrong results in {', '.join(failed)}" if failed else len(runs) != len(tried))


if __name__ == "__main__":
    main()
