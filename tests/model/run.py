#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks host.pml and gpu.pml with Spin: the protocols must hold, and every mutant of them must be caught.

usage: run.py            run all
       run.py NAME ...   run these, and show what Spin says of them
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

MODELS = pathlib.Path(__file__).resolve().parent
DEADLOCK, ASSERTION = "invalid end state", "assertion violated"

# Name: parameters of the model, what Spin must find. Names that begin with GPU are of gpu.pml, the others of host.pml.
RUNS = {
    # Nothing goes wrong: no slot is used again too early, all end, and no wait ends by the deadline rule. Long
    # operations use every slot of the rings more than once; several operations in a row mix all kinds.
    "2 ranks, long": ("RANKS=2 OPS=1 CHUNKS=9", None),
    "2 ranks, mixed": ("RANKS=2 OPS=2 CHUNKS=5", None),
    "2 ranks, three operations": ("RANKS=2 OPS=3 CHUNKS=1", None),
    "3 ranks, long": ("RANKS=3 OPS=1 CHUNKS=5", None),
    "3 ranks, mixed": ("RANKS=3 OPS=2 CHUNKS=1", None),
    # Something does: all the others still end, and nobody reads what it should not.
    "2 ranks, one dies": ("RANKS=2 OPS=2 CHUNKS=2 DEATH", None),
    "2 ranks, one is late": ("RANKS=2 OPS=2 CHUNKS=2 LATE", None),
    "2 ranks, one aborts": ("RANKS=2 OPS=2 CHUNKS=2 ABORT", None),
    "2 ranks, one differs": ("RANKS=2 OPS=2 CHUNKS=2 MISMATCH", None),
    "3 ranks, one dies": ("RANKS=3 OPS=1 CHUNKS=1 DEATH", None),
    "3 ranks, one is late": ("RANKS=3 OPS=1 CHUNKS=1 LATE", None),
    "3 ranks, one aborts": ("RANKS=3 OPS=1 CHUNKS=1 ABORT", None),
    "3 ranks, one differs": ("RANKS=3 OPS=1 CHUNKS=1 MISMATCH", None),
    # The check is worth something: each of these is wrong, and is found out.
    "mutant: three slots": ("RANKS=2 OPS=1 CHUNKS=5 SLOTS=3", ASSERTION),
    "mutant: one header": ("RANKS=2 OPS=2 CHUNKS=1 HEADERS=1", ASSERTION),
    "mutant: no wait for the inputs": ("RANKS=2 OPS=1 CHUNKS=2 MUTANT_NO_WAIT_FOR_INPUTS", ASSERTION),
    "mutant: no wait for the results": ("RANKS=2 OPS=1 CHUNKS=2 MUTANT_NO_WAIT_FOR_RESULTS", ASSERTION),
    "mutant: direct without its second meeting": ("RANKS=2 OPS=1 CHUNKS=1 MUTANT_NO_SECOND_MEETING", ASSERTION),
    "mutant: a death that nobody looks for": ("RANKS=2 OPS=1 CHUNKS=1 DEATH MUTANT_DEATH_UNSEEN", DEADLOCK),
    "mutant: poison before the record": ("RANKS=2 OPS=1 CHUNKS=1 LATE MUTANT_POISON_FIRST", ASSERTION),
    # Nothing is put upon a packet, or upon a place whose emptying may be seen later; all end. Long launches use the
    # rings more than once; messages end within a step; several launches in a row mix all kinds.
    "GPU, one launch": ("LAUNCHES=1 MOST=6", None),
    "GPU, one launch, messages end within a step": ("LAUNCHES=1 EDGES", None),
    "GPU, two launches": ("LAUNCHES=2", None),
    "GPU, four launches of one warp": ("LAUNCHES=4 MOST=6 WARPS=1 EDGES", None),
    "GPU, 3 ranks": ("RANKS=3 LAUNCHES=2 WARPS=1 EDGES", None),
    "GPU, without credits, were places emptied at once": ("LAUNCHES=2 WARPS=1 PROMPT=true MUTANT_NO_CREDIT", None),
    "GPU mutant: one sum instead of counts": ("LAUNCHES=1 MUTANT_SUM", ASSERTION),
    "GPU mutant: four counts": ("LAUNCHES=1 EDGES COUNTS=4", ASSERTION),
    "GPU mutant: no wait for credit": ("LAUNCHES=1 MUTANT_NO_CREDIT", ASSERTION),
    "GPU mutant: ring of two": ("LAUNCHES=1 RING=2", ASSERTION),
    "GPU mutant: ring of three": ("LAUNCHES=1 RING=3", ASSERTION),
    "GPU mutant: no wait for credit at the end": ("LAUNCHES=2 MUTANT_NO_CREDIT_AT_END", ASSERTION),
    "GPU mutant: three steps blindly": ("LAUNCHES=1 FIRST_TO_WAIT=4", ASSERTION),
    "GPU mutant: no credit for the last three steps": ("LAUNCHES=1 LAST_WITHOUT=3", DEADLOCK),
    "GPU mutant: last result without credit": ("LAUNCHES=1 MUTANT_LAST_RESULT_BLINDLY", ASSERTION),
}


def call(*command, cwd):
    done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def check(name):
    """Returns (whether all is as it must be, one line, all that Spin said)."""
    parameters, expected = RUNS[name]
    model = MODELS / ("gpu.pml" if name.startswith("GPU") else "host.pml")
    with tempfile.TemporaryDirectory(prefix="onehop-model-") as directory:
        call("spin", "-a", *(f"-D{parameter}" for parameter in parameters.split()), str(model), cwd=directory)
        # Compiling takes longer than most runs; a mutant is caught before optimising has paid.
        optimise = "-O1" if expected is None else "-O0"
        call("gcc", optimise, "-w", "-DSAFETY", "-DMEMLIM=2500", "-o", "pan", "pan.c", cwd=directory)
        said = call("./pan", "-m1000000", "-n", cwd=directory)
    summary = re.search(r"errors: (\d+)\n\s*(\d+) states, stored", said)
    complete = summary is not None and not re.search(r"max search depth too small|out of memory|Search not completed|"
                                                     r"reached -DMEMLIM", said)
    found = re.search(f"pan:.*?({DEADLOCK}|{ASSERTION})", said)
    if expected is None:
        right = complete and found is None and summary[1] == "0"
        outcome = "holds" if right else "FAILS"
    else:
        right = found is not None and found[1] == expected
        outcome = f"caught ({expected})" if right else "NOT CAUGHT"
    return right, f"{outcome}, {summary[2] if summary else '?'} states", said


def main():
    names = sys.argv[1:] or list(RUNS)
    unknown = [name for name in names if name not in RUNS]
    if unknown:
        sys.exit(f"no such run: {unknown}; there are: {list(RUNS)}")
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, (right, line, said) in zip(names, pool.map(check, names)):
            failures += not right
            print(f"{name}: {line}", flush=True)
            if not right or sys.argv[1:]:
                print(said)
    print(f"{len(names) - failures} of {len(names)} as they must be")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
