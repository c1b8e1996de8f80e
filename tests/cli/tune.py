# SPDX-License-Identifier: Apache-2.0
"""`onehop tune`: the file it writes, that the library goes by it, what becomes of an old file, and what interrupts it."""

import json
import os
import re
import resource
import signal

from command import ONEHOP, Case, alive, children, environment, onehop, with_fault

SIZES = [1024, 65536, 1 << 20]
SMALL = ("-n", 2, "--device", "host", "--sizes", ",".join(map(str, SIZES)))
PLACEMENTS = ("near", "far", "oversubscribed")
HOST_SHAPES = [f"{name}:{kib << 10}:{store}" for name in ("one_shot", "two_shot") for kib in (64, 128, 256, 32)
               for store in ("cached", "stream")]


def usual(**more):
    """An environment in which nobody has named a tuning table."""
    variables = environment(**more)
    del variables["ONEHOP_TUNING"]
    return variables


def host_table(nranks=7, placement="near", registered=False, chunk=65536, nrows=1):
    rows = [{"from_bytes": i * 100, "algorithm": "two_shot" if i % 2 else "one_shot", "chunk_bytes": chunk,
             "stream": False, "time_us": 1.5} for i in range(nrows)]
    return {"device": "host", "cpu": "some", "placement": placement, "nranks": nranks, "registered": registered,
            "rows": rows}


def gpu_table(dtype="bfloat16"):
    row = {"from_bytes": 0, "algorithm": "one_shot_push", "packets": 1, "threads": 64, "blocks": 132, "time_us": 1.9}
    return {"device": "cuda", "gpu": "NVIDIA H200", "links": "nvlink", "nranks": 4, "dtype": dtype, "max_blocks": 0,
            "rows": [row]}


def tuning(tables, version=None):
    version = version or onehop("--version").stdout.split()[1]
    return {"schema": "onehop-tuning-1", "version": version, "commit": "c", "date": "d", "host": "h", "tables": tables}


class Tune(Case):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "tuning.json"

    def tune(self, *arguments, **options):
        """A short run, or a longer one where the machine is too busy for that; its output and its file."""
        path = options.pop("path", self.path)
        for longer in ((), ("--seconds", 8), ("--seconds", 32)):
            done = onehop("tune", *SMALL, "--seconds", 2, *arguments, *longer, **options)
            if "nothing was found in" not in done.stderr:
                break
        self.assert_good(done)
        return done.stdout, json.loads(path.read_text())

    def assert_tables(self, text, found, keys):
        """These, of (nranks, registered), but for those of which it says that there is none."""
        missing = re.findall(r"^# (\d+) ranks on the host.*, (\w+) buffers\n# no table: ", text, re.M)
        missing = [(int(nranks), kind == "registered") for nranks, kind in missing]
        self.assertEqual([(table["nranks"], table["registered"]) for table in found["tables"]],
                         [key for key in keys if key not in missing])

    @staticmethod
    def new(found):
        """The tables that tests do not write."""
        return [table for table in found["tables"] if "time_at_bytes" in table["rows"][0]]

    def assert_sound(self, found):
        self.assertEqual(found["schema"], "onehop-tuning-1")
        self.assertEqual(f"onehop {found['version']}\n", onehop("--version").stdout)
        self.assertRegex(found["commit"], r"^([0-9a-f]{40}(-dirty)?|unknown)$")
        self.assertRegex(found["date"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertTrue(found["host"])
        for table in found["tables"]:
            self.assertEqual(set(table), {"device", "cpu", "placement", "nranks", "registered", "rows"})
            self.assertIn(table["placement"], PLACEMENTS)
            sizes = [row["from_bytes"] for row in table["rows"]]
            self.assertEqual(sizes[0], 0)
            self.assertEqual(sizes, sorted(set(sizes)))
            self.assertLessEqual(len(sizes), len(SIZES))
            for row in table["rows"]:
                self.assertEqual(set(row), {"from_bytes", "algorithm", "chunk_bytes", "stream", "time_us",
                                            "time_at_bytes"})
                store = "stream" if row["stream"] else "cached"
                self.assertIn(f"{row['algorithm']}:{row['chunk_bytes']}:{store}",
                              HOST_SHAPES + ["direct:0:cached", "direct:0:stream"] * table["registered"])
                self.assertGreater(row["time_us"], 0)
                self.assertIn(row["time_at_bytes"], SIZES)
                self.assertGreaterEqual(row["time_at_bytes"], row["from_bytes"])

    def test_file_and_table(self):
        text, found = self.tune("-o", self.path)
        self.assert_sound(found)
        self.assert_tables(text, found, [(2, False), (2, True)])
        self.assertTrue(text.endswith(f"\n# written to {self.path}\n"))
        printed = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
        rows = [row for table in found["tables"] for row in table["rows"]]
        self.assertEqual(len(printed), len(rows))
        for (first, last, shape, at, time, before, ratio), row in zip(printed, rows):
            self.assertEqual(shape, f"{row['algorithm']}:{row['chunk_bytes']}:"
                                    f"{'stream' if row['stream'] else 'cached'}")
            self.assertLessEqual(row["from_bytes"], int(first))
            self.assertLessEqual(int(first), int(at))
            self.assertLessEqual(int(at), int(last))
            self.assertEqual(int(at), row["time_at_bytes"])
            self.assertAlmostEqual(float(time), row["time_us"], delta=0.01)
            time, before, ratio = float(time), float(before), float(ratio[:-1])
            self.assert_printed(ratio, 2, (before - 0.005) / (time + 0.005), (before + 0.005) / (time - 0.005))
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.path.name])

    def test_the_library_goes_by_it(self):
        """The rows that were found, but cut as no built-in row is, and given to every placement."""
        _, found = self.tune("-o", self.path)
        tables = {table["registered"]: table for table in found["tables"]}
        for table in tables.values():
            table["rows"] = [{**row, "chunk_bytes": row["chunk_bytes"] and 12288} for row in table["rows"]]
        found["tables"] = [{**table, "placement": placement} for table in tables.values() for placement in PLACEMENTS]
        self.path.write_text(json.dumps(found))
        done = onehop("info", "-n", 2, "--device", "host", "--json", env=environment(ONEHOP_TUNING=self.path))
        self.assert_good(done)
        info = json.loads(done.stdout)
        self.assertIn(self.path.name, info["tuning"])
        for choice in info["choices"]:
            if choice["registered"] not in tables:
                continue
            row = [row for row in tables[choice["registered"]]["rows"] if row["from_bytes"] <= choice["bytes"]][-1]
            self.assertEqual(choice["algorithm"], row["algorithm"], choice)
            self.assertEqual(choice["chunk_bytes"], min(row["chunk_bytes"] or choice["bytes"], choice["bytes"]))
            self.assertEqual(choice["stream"], row["stream"], choice)

    def test_usual_places(self):
        for named, variables in ((self.folder / "x/onehop/tuning.json", {"XDG_CONFIG_HOME": self.folder / "x"}),
                                 (self.folder / "h/.config/onehop/tuning.json",
                                  {"HOME": self.folder / "h", "XDG_CONFIG_HOME": "relative"}),
                                 (self.folder / "t.json", {"ONEHOP_TUNING": self.folder / "t.json"})):
            variables = {**usual(), **{name: str(value) for name, value in variables.items()}}
            text, found = self.tune(env=variables, path=named)
            self.assert_sound(found)
            self.assertTrue(text.endswith(f"\n# written to {named}\n"))
            info = onehop("info", "-n", 2, "--device", "host", env=variables)
            self.assertRegex(info.stdout, rf"\ntuning +.*{named.name}")
        done = onehop("tune", *SMALL, env={**usual(), "HOME": "relative", "XDG_CONFIG_HOME": "relative"})
        self.assert_fails(done, "onehop tune: --output is missing, and the environment names no place for the file: "
                                "expected HOME or ONEHOP_TUNING\n")

    def test_numbers_of_ranks_and_threads(self):
        for more in ([], ["--threads"]):
            text, found = self.tune("-n", "1,3-4", *more, "--seconds", 4, "-o", self.path)
            self.assert_sound(found)
            self.assert_tables(text, found, [(nranks, kind) for nranks in (1, 3, 4) for kind in (False, True)])
            self.path.unlink()

    def test_under_launch(self):
        done = onehop("launch", "-n", 3, "--", ONEHOP, "tune", *SMALL[2:], "--seconds", 2, "-o", self.path)
        self.assert_good(done)
        self.assertTrue(all(line.startswith("[0] ") for line in done.stdout.splitlines()), done.stdout)
        found = json.loads(self.path.read_text())
        self.assert_sound(found)
        self.assert_tables(done.stdout.replace("[0] ", ""), found, [(3, False), (3, True)])

    def test_dry_run(self):
        done = onehop("tune", "-n", "2,3", "--device", "host", "--max", "4K", "--dry-run", "-o", self.path)
        self.assert_good(done)
        self.assertEqual(list(self.folder.iterdir()), [])
        parts = re.split(r"^(\d) ranks on the host, (\w+) buffers: 3 sizes from 1024 to 4096 bytes, (\d+) shapes\n",
                         done.stdout, flags=re.M)[1:]
        self.assertEqual([(n, kind) for n, kind in zip(parts[::4], parts[1::4])],
                         [(n, kind) for n in "23" for kind in ("ordinary", "registered")])
        for kind, count, shapes in zip(parts[1::4], parts[2::4], parts[3::4]):
            expected = ["direct:0:cached", "direct:0:stream"] * (kind == "registered") + HOST_SHAPES
            self.assertEqual((shapes.split(), int(count)), (expected, len(expected)))

    def test_progress_on_a_terminal_alone(self):
        shown = self.shown_on_a_terminal("tune", *SMALL, "--seconds", 1, "-o", self.path)
        self.assertRegex(shown, rb"2 ranks on the host, ordinary buffers: shape 0 of 16, auto, 1024 bytes\r\033\[K")
        self.assertNotIn(b"\n", shown)

    def test_too_little_time(self):
        done = onehop("tune", *SMALL, "--seconds", 0, "-o", self.path)
        self.assertEqual((done.stderr, done.returncode),
                         ("onehop tune: nothing was found in 0 s to be as fast as what is in force: --seconds gives "
                          "more\n", 1))
        self.assertEqual(list(self.folder.iterdir()), [])
        text, found = self.tune("--seconds", 0.5, "-o", self.path)
        self.assert_sound(found)
        self.assertRegex(text, r"\n# no time was left for \d+ of \d+ shapes: --seconds gives more\n")

    # ---- the old file ----

    def test_tables_of_other_keys_are_kept(self):
        others = [host_table(), host_table(placement="far"), host_table(registered=True), gpu_table(),
                  gpu_table("float32")]
        ours = [host_table(2, placement, registered, chunk=4096) for placement in PLACEMENTS
                for registered in (False, True)]
        self.path.write_text(json.dumps(tuning(ours + others)))
        text, found = self.tune("-o", self.path)
        self.assertNotIn("replaced", text)
        self.assertEqual([table for table in found["tables"] if table in others], others)
        self.assert_tables(text, {"tables": self.new(found)}, [(2, False), (2, True)])
        keys = {(t["device"], t["nranks"], t.get("placement"), t.get("registered"), t.get("dtype"))
                for t in found["tables"]}
        self.assertEqual(len(keys), len(found["tables"]))
        self.assertEqual(len(keys), len(ours) + len(others))

    def test_a_file_that_is_of_no_use_is_replaced(self):
        for content in ("{", json.dumps(tuning([gpu_table()], version="0.0.1")),
                        json.dumps(tuning([{**gpu_table(), "rows": []}])), ""):
            for variables in ({}, {"ONEHOP_TUNING": self.path}):
                with self.subTest(content=content[:80], variables=variables):
                    self.path.write_text(content)
                    text, found = self.tune(*([] if variables else ["-o", self.path]), env=environment(**variables))
                    self.assertIn(f"\n# replaced what was there: rank 0: tuning file {self.path}: ", text)
                    self.assert_tables(text, found, [(2, False), (2, True)])

    def test_what_is_in_force_is_told_beside(self):
        """A file that forces what is slow: it is slower, or gone."""
        slow = [{**host_table(2, placement, registered), "rows": [{
            "from_bytes": 0, "algorithm": "one_shot", "chunk_bytes": 4096, "stream": True, "time_us": 1}]}
            for placement in PLACEMENTS for registered in (False, True)]
        self.path.write_text(json.dumps(tuning(slow)))
        text, found = self.tune("--seconds", 4, env=environment(ONEHOP_TUNING=self.path))
        ratios = [float(line.split()[-1][:-1]) for line in text.splitlines()
                  if line and not line.startswith("#") and line.endswith("x")]
        self.assertGreater(max(ratios), 1.3, text)
        self.assert_tables(text, {"tables": self.new(found)}, [(2, False), (2, True)])

    def test_unwritable_is_noticed_first(self):
        (self.folder / "file").write_text("")
        for name, why in (("no/such/tuning.json", "No such file or directory"), ("file/tuning.json", "Not a directory"),
                          (".", "Is a directory")):
            done = onehop("tune", *SMALL, "-o", name, cwd=self.folder)
            self.assert_fails(done, f"onehop tune: cannot write {name}: {why}\n")
            self.assertEqual(done.stdout, "", "it is noticed before anything is measured")
        done = onehop("tune", *SMALL, env={**usual(), "XDG_CONFIG_HOME": str(self.folder / "file")})
        self.assert_fails(done, f"onehop tune: cannot write {self.folder}/file/onehop/tuning.json: Not a directory\n")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["file"])

    def test_disk_full(self):
        done = onehop("tune", *SMALL, "--seconds", 1, "-o", "/dev/full")
        self.assertEqual((done.stderr, done.returncode),
                         ("onehop tune: cannot write /dev/full: No space left on device\n", 1))

    def test_an_old_file_survives_a_full_disk(self):
        """Files may not grow beyond a limit that is below what is kept."""
        old = json.dumps(tuning([host_table(nranks, nrows=64) for nranks in range(3, 60)]))
        self.path.write_text(old)
        limit = 1 << 19
        self.assertLess(len(old), limit)
        done = onehop("tune", "-n", 2, "--device", "host", "--sizes", "4K", "--seconds", 1, "-o", self.path,
                      env=environment(ONEHOP_WORKSPACE_BYTES=65536),
                      preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual((done.stderr, done.returncode),
                         (f"onehop tune: cannot write {self.path}: File too large\n", 1))
        self.assertEqual(self.path.read_text(), old)
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.path.name])

    # ---- what goes wrong meanwhile ----

    def begin(self):
        """A run that is going to take long, with an old file; returns it and its ranks."""
        self.path.write_text(json.dumps(tuning([host_table(2, "far")])))
        process = self.started("tune", *SMALL, "--seconds", 1000, "-o", self.path)
        self.read_lines(process.stdout, 1)
        self.eventually(lambda: len(children(process.pid)) == 2, "the ranks are there")
        return process, children(process.pid)

    def assert_old(self):
        self.assertEqual(json.loads(self.path.read_text()), tuning([host_table(2, "far")]))
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.path.name])

    def test_a_kill_leaves_the_old_file(self):
        process, ranks = self.begin()
        process.kill()
        self.eventually(lambda: not any(map(alive, ranks)), "the ranks die")
        self.assert_old()

    def test_a_rank_that_dies(self):
        process, ranks = self.begin()
        os.kill(ranks[1], signal.SIGKILL)
        self.assertEqual(process.wait(60), 1)
        self.assertRegex(process.stderr.read(),
                         r"^onehop tune: rank 1 \(process \d+\) was killed by signal 9 \(Killed\)\n$")
        self.assert_old()

    def test_wrong_results(self):
        self.path.write_text(json.dumps(tuning([host_table(2, "far")])))
        done = onehop("tune", *SMALL, "--seconds", 2, "-o", self.path, env=with_fault("result", FAULT_DTYPE="float32"))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^onehop tune: rank \d: 1 elements of 1024 bytes were wrong with auto\n$")
        self.assert_old()

    def test_what_only_gpus_have(self):
        for arguments in (("--dtype", "float16"), ("--max-blocks", "8,16"), ("--neighbour", "0")):
            done = onehop("tune", *SMALL, *arguments, "-o", self.path)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rf"^onehop tune: rank \d: {arguments[0]} needs GPUs: the device is host\n$")
            self.assertEqual(list(self.folder.iterdir()), [])
