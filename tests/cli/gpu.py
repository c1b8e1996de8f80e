# SPDX-License-Identifier: Apache-2.0
"""The command on GPUs: run by scripts/test-gpu, on machines that have them."""

import json
import os
import re
import subprocess
from statistics import median

from command import Case, environment, onehop

SIZES = [4096, 65536, 1 << 20, 8 << 20]
SMALL = ("--device", "cuda", "--sizes", ",".join(map(str, SIZES)), "--rounds", 5)
KEPT = {name: os.environ[name] for name in ("ONEHOP_CACHE_DIR", "ONEHOP_NVRTC") if name in os.environ}


def gpus():
    listing = subprocess.run(["nvidia-smi", "-L"], check=True, text=True, stdout=subprocess.PIPE).stdout
    return len(listing.splitlines())


GPUS = gpus()
TWO = ("-n", 2) if GPUS > 1 else ("-n", 2, "--threads")  # processes that share a GPU wait for their turns on it


class OnGpu(Case):
    def run_command(self, *arguments, **variables):
        done = onehop(*arguments, env=environment(**KEPT, **variables))
        self.assert_good(done)
        return done.stdout


class Bench(OnGpu):
    def bench(self, *arguments):
        path = self.folder / "bench.json"
        table = self.run_command("bench", *SMALL, *arguments, "--json", path)
        return table, json.loads(path.read_text())

    def assert_sound(self, table, found, nranks, mode, registered=False):
        self.assertEqual((found["schema"], found["nranks"], found["mode"]), ("onehop-bench-1", nranks, mode))
        self.assertIn("device cuda", table.splitlines()[0])
        self.assertRegex(found["driver"], r"^CUDA \d+\.\d+, kernel driver ")
        self.assertNotIn("Intel", found["device"])
        self.assertEqual([(row["bytes"], row["in_place"]) for row in found["results"]],
                         [(size, place) for size in SIZES for place in (False, True)])
        for row in found["results"]:
            self.assertEqual((row["wrong"], row["registered"]), (0, registered))
            self.assertGreater(row["blocks"], 0)
            self.assertGreater(row["threads"], 0)
            self.assertGreater(row["host_us"], 0)
            self.assertLess(row["host_us"], 1000)
            self.assertGreaterEqual(row["time_p99_us"], row["time_us"])
        times = [row["time_us"] for row in found["results"]]
        self.assertLess(times[0], times[-1])

    def test_graphs_are_the_default(self):
        for two in (TWO, ("-n", 2, "--threads")):
            table, found = self.bench(*two)
            self.assert_sound(table, found, 2, "graph")

    def test_calls(self):
        table, found = self.bench(*TWO, "--mode", "eager", "--dtype", "bfloat16")
        self.assert_sound(table, found, 2, "eager")

    def test_all_gpus(self):
        if GPUS > 2:
            self.assert_sound(*self.bench("-n", GPUS), GPUS, "graph")

    def test_more_threads_than_gpus(self):
        table, found = self.bench("-n", GPUS + 1, "--threads")
        self.assert_sound(table, found, GPUS + 1, "graph")

    def test_neighbour(self):
        """What the neighbour takes is no part of the time."""
        _, alone = self.bench(*TWO)
        _, beside = self.bench(*TWO, "--neighbour", "64M")
        self.assertEqual((alone["neighbour_bytes"], beside["neighbour_bytes"]), (0, 64 << 20))
        self.assertEqual({row["neighbour_us"] for row in alone["results"]}, {0})
        self.assertTrue(all(row["neighbour_us"] > 5 for row in beside["results"]))
        more = median(b["time_us"] - a["time_us"] for a, b in zip(alone["results"], beside["results"]))
        self.assertLess(more, 25, "the neighbour alone takes more than that")

    def test_registered(self):
        for algorithm in ("auto", "two_shot_pull"):
            table, found = self.bench(*TWO, "--registered", "--algorithm", algorithm)
            self.assert_sound(table, found, 2, "graph", registered=True)


class Info(OnGpu):
    def test_text_and_json(self):
        text = self.run_command("info", "--device", "cuda", *TWO)
        found = json.loads(self.run_command("info", "--device", "cuda", *TWO, "--json"))
        self.assertEqual(found["device"], "cuda")
        self.assertIn(found["gpu"], text)
        self.assertIn(f"shared by {found['memory']}, over {found['links']}\n", text)
        self.assertIn(f"{found['workspace']['bytes']} bytes a rank", text)
        self.assertLessEqual(found["workspace"]["bytes"], 32 << 20)
        for choice in found["choices"]:
            self.assertGreater(choice["blocks"], 0)
            self.assertGreater(choice["threads"], 0)
            if not choice["registered"]:
                self.assertRegex(text, rf"\n *{choice['bytes']} +{choice['algorithm']} +\d+ "
                                       rf"+{choice['blocks']} x {choice['threads']} ")

    def test_timing(self):
        for two in (TWO, ("-n", 2, "--threads")):
            text = self.run_command("info", "--device", "cuda", *two, "--timing")
            cold, warm = (float(ms) for ms in re.findall(r" ([\d.]+) ms", text))
            self.assertLess(warm, cold)


class Tune(OnGpu):
    def tune(self, *arguments):
        """A short run; its output and its tables."""
        path = self.folder / "tuning.json"
        text = self.run_command("tune", *TWO, *SMALL[:4], *arguments, "-o", path)
        found = json.loads(path.read_text())
        self.assertEqual((found["schema"], text.splitlines()[-1]), ("onehop-tuning-1", f"# written to {path}"))
        for table in found["tables"]:
            self.assertEqual((table["device"], table["nranks"]), ("cuda", 2))
            self.assertIn(table["links"], ("nvlink", "pcie"))
            self.assertEqual(table["rows"][0]["from_bytes"], 0)
            for row in table["rows"]:
                self.assertIn(row["packets"], (1, 2, 4))
                self.assertIn(row["threads"], range(32, 513, 32))
                self.assertLessEqual(row["blocks"], table["max_blocks"] or row["blocks"])
                self.assertGreater(row["time_us"], 0)
        return path, found["tables"]

    def test_the_library_goes_by_it(self):
        path, tables = self.tune("--max-blocks", "0,16", "--seconds", 14)
        self.assertEqual([(table["dtype"], table["max_blocks"]) for table in tables],
                         [("bfloat16", 0), ("bfloat16", 16)])
        for table in tables:
            bound = {"ONEHOP_MAX_BLOCKS": table["max_blocks"]} if table["max_blocks"] else {}
            info = json.loads(self.run_command("info", "--device", "cuda", *TWO, "--dtype", "bfloat16", "--json",
                                               ONEHOP_TUNING=path, **bound))
            self.assertEqual(info["gpu"], table["gpu"])
            self.assertIn(path.name, info["tuning"])
            for choice in info["choices"]:
                row = [row for row in table["rows"] if row["from_bytes"] <= choice["bytes"]][-1]
                self.assertEqual(choice["algorithm"], row["algorithm"], choice)
                self.assertLessEqual(choice["blocks"], row["blocks"])
                self.assertLessEqual(choice["packets"], row["packets"])
                self.assertLessEqual(choice["threads"], row["threads"])

    def test_alone_in_threads(self):
        _, tables = self.tune("--threads", "--neighbour", 0, "--dtype", "float32,float16", "--seconds", 8)
        self.assertEqual([table["dtype"] for table in tables], ["float32", "float16"])

    def test_dry_run(self):
        text = self.run_command("tune", *TWO, "--device", "cuda", "--dry-run", "-o", self.folder / "tuning.json")
        self.assertRegex(text, r"^2 ranks on .*, bfloat16: 17 sizes from 1024 to 67108864 bytes, \d+ shapes\n")
        self.assertIn("one_shot_push:1:64:", text)
        self.assertEqual(list(self.folder.iterdir()), [])
