#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times builds of the library, and ways to launch its kernels, against one another on the GPUs of this machine.

usage: bench/compare.py --save NAME               keeps the library that `make build-gpu` built, into build-gpu/variants/
       bench/compare.py [options] WHAT [WHAT...]  WHAT: NAME, NAME@ALGORITHM or @ALGORITHM, with one of those libraries or
                                                  the one just built, and what ONEHOP_ALGORITHM may be

A process's times differ from the next one's by more than most changes gain, so all are measured by turns, and the median
counts. Prints microseconds, a line for each WHAT and a column for each size; results are verified.

    bench/compare.py --sizes 8M,16M before after after@two_shot_push:1:512:132
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from statistics import median

import gpu
from host_report import human, print_columns


def build():
    return gpu.ONEHOP.parent.parent


def folder_of(name):
    return build() / "variants" / name


def save(name):
    folder = folder_of(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for library in (build() / "src").glob("libonehop.so*"):
        shutil.copy2(library, folder, follow_symlinks=False)
    print(f"kept in {folder}")


def variables_of(what):
    """The command finds its library beside it, unless the loader is told of another."""
    variant, _, algorithm = what.partition("@")
    variables = {"ONEHOP_ALGORITHM": algorithm} if algorithm else {}
    if variant:
        folder = folder_of(variant)
        if not folder.is_dir():
            known = sorted(each.name for each in folder.parent.iterdir()) if folder.parent.is_dir() else []
            sys.exit(f"bench/compare.py: \"{what}\": there is no {folder}: expected one of {', '.join(known) or 'none'}")
        variables["LD_LIBRARY_PATH"] = f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    return variables


def measure(what, options, path):
    """Microseconds by bytes."""
    neighbour = ["--neighbour", options.neighbour] if options.neighbour else []
    done = gpu.bench(options, path, options.dtype, options.sizes, ["--mode", options.mode, *neighbour],
                     options.max_blocks, variables_of(what), text=True, stdout=subprocess.PIPE,
                     stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(f"bench/compare.py: {what}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    rows = json.loads(path.read_text())["results"]
    return {row["bytes"]: row["time_us"] for row in rows if row["in_place"] == options.in_place}


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT")
    parser.add_argument("--save", metavar="NAME", help="keep the library that was built, and measure nothing")
    parser.add_argument("--nranks", type=int, help="ranks, one a GPU (default: as many as there are)")
    parser.add_argument("--sizes", default=gpu.SIZES, type=gpu.sizes_of, help="what to measure (default: 4K ... 32M)")
    parser.add_argument("--dtype", default="bfloat16", choices=gpu.DTYPES)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--neighbour", type=gpu.size, default=0, help="bytes that it reads and writes (default: none)")
    parser.add_argument("--max-blocks", type=int, default=0, help="bound on the blocks of a kernel")
    parser.add_argument("--mode", default="graph", choices=("graph", "eager"))
    parser.add_argument("--in-place", action="store_true")
    options = parser.parse_args(words)
    if not options.save and not options.what:
        parser.error("expected at least one WHAT, or --save")
    gpu.need_build("bench/compare.py")
    return options


def main():
    options = arguments()
    if options.save:
        save(options.save)
        return
    options.nranks = options.nranks or gpu.count_gpus()
    found = {what: [] for what in options.what}
    with tempfile.TemporaryDirectory(prefix="onehop-compare-") as folder:
        for _ in range(options.turns):
            for what, turns in found.items():
                turns.append(measure(what, options, pathlib.Path(folder) / "bench.json"))
    lines = [["", *map(human, options.sizes)]]
    for what, turns in found.items():
        lines.append([what, *(f"{median(turn[nbytes] for turn in turns):.2f}" for nbytes in options.sizes)])
    print_columns(lines)


if __name__ == "__main__":
    main()
