#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the quick start, and the lines that README.md shows as such, and reads what they say.

usage: examples.py ONEHOP QUICKSTART COMPILER LIBRARY
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What README.md leaves to the reader: its "..." stands for BEFORE.
BEFORE = """#include <stdio.h>
int main(void) {
    float x[4] = {1, 2, 3, 4};
    size_t n = 4;
    const char *rank = getenv("ONEHOP_RANK"), *nranks = getenv("ONEHOP_NRANKS");
"""
AFTER = """
    printf("rank %s of %s: %g %g %g %g\\n", rank, nranks, x[0], x[1], x[2], x[3]);
    return 0;
}
"""


def check_output(onehop, program, nranks):
    done = subprocess.run([onehop, "launch", "-n", str(nranks), "--", program], text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sums = " ".join(str(nranks * value) for value in (1, 2, 3, 4))
    missing = [f"rank {rank} of {nranks}: {sums}" for rank in range(nranks)
               if f"rank {rank} of {nranks}: {sums}\n" not in done.stdout]
    if done.returncode != 0 or missing:
        sys.exit(f"{program}, {nranks} ranks: exit status {done.returncode}, missing lines: {missing}, output:\n"
                 f"{done.stdout}")


def compile_readme(compiler, library, place):
    """The first C code of README.md, made a program."""
    shown = re.search(r"```c\n(.*?)\n\.\.\.\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    if not shown or "onehop_all_reduce(" not in shown[2]:
        sys.exit('README.md shows no C code with "..." and onehop_all_reduce')
    source, program = place / "readme.c", place / "readme"
    source.write_text("#include <stdlib.h>\n" + shown[1] + "\n" + BEFORE + shown[2] + AFTER)
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-I", ROOT / "include", source, library,
                    f"-Wl,-rpath,{pathlib.Path(library).parent}", "-o", program], check=True)
    return program


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    onehop, quickstart, compiler, library = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="onehop-examples-") as place:
        for program in (quickstart, compile_readme(compiler, library, pathlib.Path(place))):
            for nranks in (1, 2, 4):
                check_output(onehop, program, nranks)


if __name__ == "__main__":
    main()
