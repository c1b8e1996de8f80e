#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What needs no GPU in bench/gpu.py, bench/compare.py and bench/torch_peers.py: all but the measuring itself."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import threading
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import compare  # noqa: E402
import gpu  # noqa: E402
import torch_peers  # noqa: E402


class Store:
    """As torch.distributed's, for ranks that are threads."""

    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def set(self, key, value):
        with self.changed:
            self.values[key] = value
            self.changed.notify_all()

    def get(self, key):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, timeout=60):
                raise TimeoutError(key)
            return self.values[key].encode()


def on_ranks(nranks, body):
    """What it returns on each, or the text of what it raises."""
    store, found = Store(), [None] * nranks

    def run(rank):
        try:
            found[rank] = body(torch_peers.Ranks(store, rank, nranks))
        except torch_peers.Refused as refused:
            found[rank] = str(refused)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(nranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Arguments(unittest.TestCase):
    def test_defaults(self):
        options = torch_peers.parse([])
        self.assertEqual(len(options.sizes), 18)
        self.assertEqual((options.sizes[0], options.sizes[-1]), (4096, 32 << 20))
        self.assertEqual((options.neighbour, options.rounds), (64 << 20, 9))

    def test_wrong(self):
        for words, expected in ((["--sizes", "4K,7"], "7: expected a multiple of 2"), (["--sizes", "4X"], "4X"),
                                (["--peers", "torch_nccl,nobody"], "nobody: expected some of"),
                                (["--rounds", "0"], "0: expected at least 1"),
                                (["--nranks", "9"], "9: expected 2 to 8")):
            said = io.StringIO()
            with self.subTest(words), contextlib.redirect_stderr(said), self.assertRaises(SystemExit):
                torch_peers.parse(words)
            self.assertIn(expected, said.getvalue())


class Plan(unittest.TestCase):
    def plan(self, *words):
        with mock.patch.object(gpu, "ONEHOP", pathlib.Path(__file__)):
            return list(gpu.plan(gpu.arguments(["--nranks", "2", "--no-nccl", *words])))

    def test_plan(self):
        runs = self.plan("--blocks", "4,8")
        self.assertEqual(len({run.name for run in runs}), 3 * 3 + 3 + 2)
        self.assertEqual([run.max_blocks for run in runs[-2:]], [4, 8])
        self.assertEqual([run.extra_bytes for run in runs if run.extra_bytes], [2])
        self.assertEqual([run.name for run in self.plan("--quick", "--dtypes", "float32")], ["float32, graphs"])

    def test_wrong(self):
        for words, expected in ((["--dtypes", "float32,int3"], "int3: expected some of bfloat16"),
                                (["--blocks", "4,0"], "0: expected at least 1"), (["--sizes", "4X"], "4X")):
            said = io.StringIO()
            with self.subTest(words), contextlib.redirect_stderr(said), self.assertRaises(SystemExit):
                self.plan(*words)
            self.assertIn(expected, said.getvalue())


# As `onehop bench` would write it, if it took as many microseconds as there are KiB; half as many with a library that is
# called fast, and one more with an algorithm.
FAKE = """#!{python}
import json, os, sys
words = dict(zip(sys.argv, sys.argv[1:]))
fast, forced = "/variants/fast:" in os.environ.get("LD_LIBRARY_PATH", ""), "ONEHOP_ALGORITHM" in os.environ
rows = [{{"bytes": int(size), "in_place": place, "dtype": words["--dtype"], "algorithm": "one_shot_push", "blocks": 1,
         "threads": 64, "registered": "--registered" in sys.argv, "wrong": 0, "host_us": 1.0, "neighbour_us": 0.0, "peers": {{}},
         "time_us": int(size) / 1024 / (1 + fast) + forced, "time_p99_us": 9.0}} for size in words["--sizes"].split(",") for place in (False, True)]
bound = os.environ.get("ONEHOP_MAX_BLOCKS")
if bound == "7":
    sys.exit(3)
json.dump({{"device": "NVIDIA T1", "nranks": 2, "mode": words.get("--mode", "graph"), "bound": bound,
           "neighbour_bytes": 1 if "--neighbour" in sys.argv else 0, "results": rows}}, open(words["--json"], "w"))
"""


class Whole(unittest.TestCase):
    def run_main(self, *words):
        """What is written, and what the script ends with."""
        with tempfile.TemporaryDirectory() as directory:
            onehop = pathlib.Path(directory) / "onehop"
            onehop.write_text(FAKE.format(python=sys.executable))
            onehop.chmod(0o755)
            argv = ["gpu.py", "--nranks", "2", "--no-nccl", "--no-torch", "--sizes", "4K,8K", *words]
            with mock.patch.object(gpu, "ONEHOP", onehop), mock.patch.object(sys, "argv", argv), \
                    mock.patch.dict("os.environ", OUT=directory), contextlib.redirect_stdout(io.StringIO()), \
                    self.assertRaises(SystemExit) as end:
                gpu.main()
            return json.loads((pathlib.Path(directory) / "gpu-2xt1.json").read_text()), end.exception.code

    def test_all_runs(self):
        found, code = self.run_main("--blocks", "4")
        self.assertEqual(code, False)
        self.assertEqual([one["name"] for one in found["runs"]], [
            *(f"{dtype}, {what}" for dtype in gpu.DTYPES for what in ("graphs", "graphs, neighbour", "calls")),
            *(f"bfloat16, {what}" for what in ("calls, neighbour", "graphs, registered", "graphs, one element more",
                                               "graphs, at most 4 blocks"))])
        by_name = {one["name"]: one for one in found["runs"]}
        self.assertEqual([row["bytes"] for row in by_name["bfloat16, graphs, one element more"]["results"]],
                         [4098, 4098, 8194, 8194])
        self.assertEqual(by_name["bfloat16, graphs, at most 4 blocks"]["bound"], "4")
        self.assertTrue(by_name["bfloat16, graphs, registered"]["results"][0]["registered"])

    def test_turns(self):
        def turn(us, wrong, peer):
            row = {"bytes": 8, "time_us": us, "time_p99_us": 2 * us, "host_us": 1.0, "neighbour_us": us + 1,
                   "wrong": wrong, "peers": {"nccl": peer}}
            return {"name": "x", "failed": wrong > 0, "results": [row]}

        merged = gpu.merge_turns([turn(3.0, 0, 9.0), turn(1.0, 2, 7.0), turn(2.0, 0, 8.0)])
        self.assertEqual((merged["turns"], merged["failed"]), (3, True))
        self.assertEqual(merged["results"], [{"bytes": 8, "time_us": 2.0, "time_p99_us": 4.0, "host_us": 1.0,
                                              "neighbour_us": 3.0, "wrong": 2, "peers": {"nccl": 8.0}}])
        found, _ = self.run_main("--blocks", "")
        self.assertEqual([one["turns"] for one in found["runs"]], [3, 3, 1, *[1] * 9])

    def test_one_fails(self):
        found, code = self.run_main("--blocks", "4,7", "--dtypes", "float32")
        self.assertEqual(code, True)
        self.assertNotIn("float32, graphs, at most 7 blocks", [one["name"] for one in found["runs"]])


class Compare(unittest.TestCase):
    def run_main(self, *words):
        """What is printed, in words, line by line; or what it ends with."""
        with tempfile.TemporaryDirectory() as directory:
            onehop = pathlib.Path(directory) / "cli/onehop"
            (pathlib.Path(directory) / "src").mkdir()
            (pathlib.Path(directory) / "src/libonehop.so.0").write_text("a library")
            onehop.parent.mkdir()
            onehop.write_text(FAKE.format(python=sys.executable))
            onehop.chmod(0o755)
            said = io.StringIO()
            with mock.patch.object(gpu, "ONEHOP", onehop), contextlib.redirect_stdout(said):
                for argv in (["--save", "fast"], ["--nranks", "2", "--sizes", "4K,8K", *words]):
                    with mock.patch.object(sys, "argv", ["compare.py", *argv]):
                        compare.main()
            self.assertEqual((pathlib.Path(directory) / "variants/fast/libonehop.so.0").read_text(), "a library")
            return [line.split() for line in said.getvalue().splitlines()[1:]]

    def test_table(self):
        self.assertEqual(self.run_main("@one_shot_push", "fast", "fast@two_shot_push:1:64:8", "--turns", "2"), [
            ["4", "KiB", "8", "KiB"], ["@one_shot_push", "5.00", "9.00"], ["fast", "2.00", "4.00"],
            ["fast@two_shot_push:1:64:8", "3.00", "5.00"]])

    def test_wrong(self):
        with self.assertRaisesRegex(SystemExit, '"slow@x": there is no .*slow: expected one of fast'):
            self.run_main("slow@x")
        with self.assertRaisesRegex(SystemExit, "fast: exit status 3"):
            self.run_main("fast", "--max-blocks", "7")


class Agreement(unittest.TestCase):
    def test_all(self):
        self.assertEqual(on_ranks(3, lambda ranks: [ranks.all(ranks.rank), ranks.all([ranks.rank])]),
                         [[[0, 1, 2], [[0], [1], [2]]]] * 3)

    def test_one_fails(self):
        def body(ranks):
            def work():
                if ranks.rank == 1:
                    raise ValueError("not today\nat line 3")
                return "well"

            return ranks.attempt(lambda: ranks.rank), ranks.attempt(work)

        self.assertEqual(on_ranks(3, body), ["ValueError: not today"] * 3)


class Results(unittest.TestCase):
    LINES = ['{"about": {"gpu": "NVIDIA T1"}}\n', '{"peer": "torch_nccl", "bytes": 8, "time_us": 1.5}\n',
             '{"peer": "torch_nccl", "bytes": 4096, "refused": "too large"}\n',
             '{"peer": "torch_nccl", "bytes": 8192, "refused": "too large"}\n', '{"peer": "tor']

    def test_ended_early(self):
        about, results, refused = torch_peers.sum_up(self.LINES)
        self.assertEqual(about, {"gpu": "NVIDIA T1"})
        self.assertEqual([line["bytes"] for line in results], [8])
        self.assertEqual([line["bytes"] for line in refused], [4096, 8192])
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            torch_peers.complain(refused)
        self.assertEqual(said.getvalue(),
                         "bench/torch_peers.py: torch_nccl is left out at 4 KiB, 8 KiB: too large\n")

    def test_merge(self):
        def run(dtype, mode, neighbour, registered=False):
            return {"mode": mode, "neighbour_bytes": neighbour,
                    "results": [{"bytes": nbytes, "dtype": dtype, "registered": registered, "peers": {"nccl": 9.0}}
                                for nbytes in (8, 16)]}

        runs = [run("bfloat16", "graph", 0), run("bfloat16", "graph", 64), run("bfloat16", "eager", 0),
                run("float32", "graph", 0), run("bfloat16", "graph", 0, registered=True)]
        times = [{"peer": "torch_nccl", "bytes": 8, "dtype": "bfloat16", "neighbour_bytes": neighbour, "time_us": us}
                 for neighbour, us in ((0, 1.5), (64, 2.5))]
        gpu.merge(runs, {"torch": "2.0", "results": times})
        self.assertEqual([[row["peers"].get("torch_nccl") for row in one["results"]] for one in runs],
                         [[1.5, None], [2.5, None], [None, None], [None, None], [None, None]])
        self.assertEqual(runs[0]["results"][0]["peers"]["nccl"], 9.0)


if __name__ == "__main__":
    unittest.main()
