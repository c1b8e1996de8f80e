#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/report.py must tell what is in the JSON, above all where others are faster, and mark who was not in the run."""

import copy
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import report  # noqa: E402

KIB = 1 << 10


def row(nbytes, in_place, us, **peers):
    return {"bytes": nbytes, "in_place": in_place, "dtype": "bfloat16", "algorithm": "one_shot_push", "time_us": us,
            "registered": False, "peers": peers}


def make_run(name, nranks, rows, mode="graph", neighbour=0):
    return {"name": name, "schema": "onehop-bench-1", "commit": "0123456789abcdef0123-dirty",
            "date": "2026-01-02T03:04:05Z", "device": "NVIDIA T1", "driver": "CUDA 13.0", "nranks": nranks, "mode": mode,
            "rounds": 9, "neighbour_bytes": neighbour, "nccl_version": "2.28.9", "results": rows}


ALONE = make_run("bfloat16, graphs", 4, [row(4 * KIB, False, 2.0, nccl=9.0), row(4 * KIB, True, 2.5, nccl=9.0),
                                         row(64 * KIB, False, 2.75, nccl=11.0), row(64 * KIB, True, 2.75, nccl=2.5)])
NEIGHBOUR = make_run("bfloat16, graphs, neighbour", 4, [row(4 * KIB, False, 4.0, nccl=4.1), row(4 * KIB, True, 4.0),
                                                        row(64 * KIB, False, 123.45), row(64 * KIB, True, 5.0)],
                     neighbour=1 << 26)


def write(runs, separate=""):
    """What is said of a folder with these runs."""
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        nranks = runs[0]["nranks"]
        (folder / f"gpu-{nranks}xt1.json").write_text(json.dumps({**runs[0], "runs": runs}))
        if separate:
            (folder / f"peers-t1-tp{nranks}.csv").write_text(separate)
        return report.report(folder)[0]


class Report(unittest.TestCase):
    def test_limit(self):
        self.assertAlmostEqual(report.limit_us(4, 4 * KIB), 1.46 + 3 * 4096 / 347e3)
        self.assertAlmostEqual(report.limit_us(4, 1 << 20), 2.16 + 2 * 3 / 4 * (1 << 20) / 347e3)
        self.assertAlmostEqual(report.limit_us(2, 1 << 20), 1.46 + (1 << 20) / 353e3)
        self.assertIsNone(report.limit_us(8, 4096))

    def test_table(self):
        text = write([ALONE])
        self.assertIn("| bytes | NCCL | Onehop | limit | times the limit | faster than the best other |\n", text)
        self.assertIn("| 4 KiB | 9.00 | 2.00 | 1.50 | 1.34x | 4.50x |\n", text)
        self.assertIn("| 4 KiB | one_shot_push | 2.50 |\n", text)
        self.assertIn("commit 0123456789ab-dirty, 2026-01-02; median of 9 rounds", text)

    def test_other_runs(self):
        text = write([ALONE, NEIGHBOUR])
        self.assertIn("With a neighbour:\n\n| bytes | NCCL | Onehop | in place | faster than the best other |\n", text)
        self.assertIn("| 4 KiB | 4.10 | 4.00 | 4.00 | 1.02x |\n", text)
        self.assertIn("| 64 KiB |  | 123.5 | 5.00 |  |\n", text)
        self.assertIn("- NCCL, bfloat16, graphs, neighbour, out of place: 4 KiB (1.02x)\n", text)

    def test_runs_without_others(self):
        def again(change, us, **about):
            rows = [{**row(nbytes, in_place, us), **change} for nbytes in (4 * KIB, 64 * KIB)
                    for in_place in (False, True)]
            return {**make_run("another", 4, rows), **about}

        longer = again({}, 2.25, extra_bytes=2)
        for one in longer["results"]:
            one["bytes"] += 2
        text = write([ALONE, NEIGHBOUR, again({"registered": True}, 1.75), longer, again({}, 3.5, mode="eager"),
                      again({"dtype": "float16"}, 2.125), again({}, 6.5, mode="eager", neighbour_bytes=1 << 26)])
        self.assertIn("| bytes | algorithm | in place | registered | one element more | call by call | float16 |\n", text)
        self.assertIn("| 4 KiB | one_shot_push | 2.50 | 1.75 | 2.25 | 3.50 | 2.12 |\n", text)
        self.assertIn("| bytes | NCCL | Onehop | in place | call by call | faster than the best other |\n", text)
        self.assertIn("| 4 KiB | 4.10 | 4.00 | 4.00 | 6.50 | 1.02x |\n", text)

    def test_slower(self):
        text = write([ALONE])
        self.assertIn("Faster than Onehop there:\n\n- NCCL, bfloat16, graphs, in place: 64 KiB (0.91x)\n", text)
        faster = copy.deepcopy(ALONE)
        faster["results"][3]["time_us"] = 1.0
        self.assertIn("Nobody was faster than Onehop there.", write([faster]))

    def test_measured_separately(self):
        text = write([ALONE, NEIGHBOUR], "# from elsewhere\nsize_kib,nccl,sglang_v2\n4,1.0,1.5\n64,1.0,\n")
        self.assertIn("| bytes | NCCL | SGLang v2 * | Onehop |", text)
        self.assertIn("| 4 KiB | 9.00 | 1.50 | 2.00 | 1.50 | 1.34x | 0.75x |\n", text)
        self.assertIn("| 64 KiB | 11.00 |  | 2.75 |", text)
        self.assertIn("- SGLang v2 *, bfloat16, graphs, out of place: 4 KiB (0.75x)\n", text)
        self.assertNotIn("SGLang v2 *, bfloat16, graphs, neighbour", text)

    def test_bounds_on_blocks(self):
        plenty = copy.deepcopy(ALONE)
        plenty["results"] += [row(512 * KIB, False, 5.0), row(512 * KIB, True, 5.5)]
        few = {**copy.deepcopy(plenty), "name": "bfloat16, graphs, at most 8 blocks", "max_blocks": 8}
        few["results"][4]["time_us"] = 6.25
        text = write([plenty, few])
        self.assertIn("| bytes | 8 blocks | no bound |\n| --- | --- | --- |\n| 512 KiB | 6.25 | 5.00 |\n\n", text)
        self.assertNotIn("blocks |", write([plenty]))

    def test_three_gpus(self):
        run = copy.deepcopy(ALONE)
        run["nranks"] = 3
        self.assertIn("was not measured for 3 GPUs", write([run]))
        run["nranks"] = 8
        self.assertNotIn("limit |", write([run]))

    def test_rewrite(self):
        old = f"before\n{report.BEGIN}something\n{report.END}after\n"
        self.assertEqual(report.rewrite(old, "new\n"), f"before\n{report.BEGIN}new\n{report.END}after\n")
        with self.assertRaisesRegex(SystemExit, "lacks the line"):
            report.rewrite("no markers", "new\n")


if __name__ == "__main__":
    unittest.main()
