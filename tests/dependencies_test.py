#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dependencies.py must notice when the law is broken: each case breaks it in one way."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import dependencies  # noqa: E402

STATUS = "static _Thread_local char last_error[8]; const char *f(void) { return last_error; }\n"

# What is written where, and what must be said of it.
BREACHES = [
    ("src/base/a.c", '#include "arena/arena.h"\n', "base may not include arena/arena.h"),
    ("src/arena/a.c", '#include "backend/backend.h"\n', "arena may not include backend/backend.h"),
    ("src/backend/host/a.c", '#include "comm.h"\n', "backend/host may not include comm.h"),
    ("src/select/a.c", '#include "arena/arena.h"\n', "select may not include arena/arena.h"),
    ("src/base/a.c", '#include "../comm.h"\n', "is no path from src/"),
    ("src/base/a.c", "#include <base/status.h>\n", 'expected "base/status.h"'),
    ("src/attic/a.c", "\n", "belongs to no room"),
    ("cli/a.c", '#include "base/status.h"\n', "expected onehop.h, or a file of cli/"),
    ("examples/a.c", '#include "../src/comm.h"\n', "expected onehop.h, or a file of examples/"),
    ("src/base/a.c", "static int calls; int f(void) { return calls++; }\n", "calls is mutable and lives in .bss"),
    ("src/base/a.c", "int f(void) { static int calls = 5; return calls++; }\n", "calls is mutable and lives in .data"),
    ("src/base/a.c", "_Thread_local int depth; int *f(void) { return &depth; }\n", "depth is mutable"),
    ("src/base/a.c", "#include <stdlib.h>\nvoid f(void) { exit(1); }\n", "calls exit, which ends the process"),
    ("src/base/a.c", "#include <assert.h>\nvoid f(int x) { assert(x); }\n", "calls __assert_fail"),
    ("src/base/a.c", "#include <stdio.h>\nvoid f(void) { puts(\"\"); }\n", "calls puts, which prints"),
    ("src/base/a.c", "#include <stdio.h>\nvoid f(void) { fflush(stderr); }\n", "calls stderr, which prints"),
    ("src/comm.c", "#include <stdlib.h>\nchar *f(void) { return getenv(\"A\"); }\n", "reads the environment (getenv)"),
]

LAWFUL = [
    ("src/comm.c", '#include "backend/backend.h"\n#include "comm.h"\n#include "onehop.h"\n'),
    ("src/base/a.c", "static const int table[2] = {1, 2}; const int *f(void) { return table; }\n"),
    ("src/base/a.c", 'static const char *const names[2] = {"a", "b"}; const char *const *f(void) { return names; }\n'),
    ("cli/a.c", "#include <onehop.h>\n#include \"b.h\"\n"),
]


def breaches(name, text):
    """What is said of a small house with this file in it. Only files without includes of ours are compiled."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        files = {"src/comm.h": "", "src/arena/arena.h": "", "src/backend/backend.h": "", "src/base/status.h": "",
                 "cli/b.h": "", "src/base/status.c": STATUS, name: text}
        objects = []
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
            if path.startswith("src/") and path.endswith(".c") and '"' not in content.partition("\n")[0]:
                objects.append(str(root / "onehop_objects.dir" / (path.removeprefix("src/") + ".o")))
                pathlib.Path(objects[-1]).parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cc", "-std=gnu11", "-O0", "-fPIC", "-w", "-I", root / "src", "-c", root / path, "-o",
                                objects[-1]], check=True, stderr=subprocess.PIPE)
        return [*dependencies.check_sources(root / "src"), *dependencies.check_outsiders(root),
                *dependencies.check_symbols(objects)]


class Law(unittest.TestCase):
    def test_breaches_are_named(self):
        for name, text, expected in BREACHES:
            with self.subTest(name=name, text=text):
                said = breaches(name, text)
                self.assertEqual(len(said), 1, said)
                self.assertIn(expected, said[0])

    def test_lawful_files_pass(self):
        for name, text in LAWFUL:
            with self.subTest(name=name, text=text):
                self.assertEqual(breaches(name, text), [])

    def test_the_table_goes_downward(self):
        self.assertEqual(list(dependencies.check_rooms()), [])
        upward = {"api.c": ["comm"], "comm": ["api.c"]}
        original, dependencies.ROOMS = dependencies.ROOMS, upward
        try:
            self.assertEqual(len(list(dependencies.check_rooms())), 1)
        finally:
            dependencies.ROOMS = original

    def test_an_allowance_nobody_needs_is_named(self):
        original, dependencies.MAY_CHANGE = dependencies.MAY_CHANGE, {"last_error": "", "attic": "for the old days"}
        try:
            self.assertEqual(breaches("cli/a.c", ""), ["attic may be mutable (for the old days), but does not exist"])
        finally:
            dependencies.MAY_CHANGE = original


if __name__ == "__main__":
    unittest.main()
