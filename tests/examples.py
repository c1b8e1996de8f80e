#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the quick start and reads what it says; and what README.md shows as the quick start must be what ran.

usage: examples.py ONEHOP QUICKSTART
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def check_output(onehop, quickstart, nranks):
    done = subprocess.run([onehop, "launch", "-n", str(nranks), "--", quickstart], text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sums = " ".join(str(nranks * value) for value in (1, 2, 3, 4))
    missing = [f"rank {rank} of {nranks}: {sums}" for rank in range(nranks)
               if f"rank {rank} of {nranks}: {sums}\n" not in done.stdout]
    if done.returncode != 0 or missing:
        sys.exit(f"{nranks} ranks: exit status {done.returncode}, missing lines: {missing}, output:\n{done.stdout}")


def check_readme():
    code = (ROOT / "examples/quickstart.c").read_text()
    shown = [block for block in re.findall(r"```c\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
             if "onehop_comm_create(" in block and "main(" in block]
    for block in shown:
        if block.strip() not in code:
            sys.exit(f"README.md shows a program that is no part of examples/quickstart.c:\n{block}")
    print(f"README.md shows {len(shown)} programs, all of which ran")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for nranks in (1, 2, 4):
        check_output(*sys.argv[1:], nranks)
    check_readme()


if __name__ == "__main__":
    main()
