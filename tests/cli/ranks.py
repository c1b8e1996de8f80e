# SPDX-License-Identifier: Apache-2.0
"""`onehop bench`, `check` and `info`: what they print, what they notice, and ranks that die under them."""

import json
import os
import re
import signal

from command import ONEHOP, Case, alive, children, environment, onehop, start, with_fault

SMALL = ("--min", "64", "--max", "16K", "--factor", "4", "--iters", "20", "--warmup", "5")
SMALL_SIZES = [64, 256, 1024, 4096, 16384]
DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int8": 1, "uint8": 1, "int32": 4, "uint32": 4,
          "int64": 8, "uint64": 8}
OPS = ("sum", "prod", "min", "max", "avg")


def rows(table):
    """The numbers of a bench table: bytes, count, type, op, then time, algbw, busbw, wrong twice."""
    lines = [line.split() for line in table.splitlines() if not line.startswith("#")]
    return [[int(line[0]), int(line[1]), line[2], line[3],
             *(tuple(map(float, line[at:at + 4])) for at in (4, 8))] for line in lines]


class Bench(Case):
    def bench(self, *arguments, **options):
        path = self.folder / "bench.json"
        done = onehop("bench", *arguments, "--json", path, **options)
        self.assert_good(done)
        return done.stdout, json.loads(path.read_text())

    def test_table(self):
        table, _ = self.bench("-n", 2, *SMALL)
        self.assertRegex(table, r"^# onehop \d+\.\d+\.\d+ on \S+: .*processors; device host\n# 2 ranks as processes, "
                                r"ordinary memory; placement \w+, signal \d+ ns; seed \d+\n")
        self.assertRegex(table, r"\n# +bytes +count +type +op( +time +algbw +busbw +wrong){2}\n")
        self.assertTrue(table.endswith("\n# wrong elements: 0\n"))
        lines = rows(table)
        self.assertEqual([line[:4] for line in lines], [[size, size // 4, "float32", "sum"] for size in SMALL_SIZES])
        for size, _, _, _, *places in lines:
            for time, algbw, busbw, wrong in places:
                self.assertGreater(time, 0)
                self.assert_printed(algbw, 3, size / 1e3 / (time + 0.005), size / 1e3 / (time - 0.005))
                self.assertAlmostEqual(busbw, algbw, delta=0.001)
                self.assertEqual(wrong, 0)

    def test_json(self):
        table, found = self.bench("-n", 3, *SMALL, "--registered", "--op", "max", "--dtype", "float64")
        self.assertEqual(found["schema"], "onehop-bench-1")
        self.assertEqual((found["nranks"], found["mode"], found["ranks_as"]), (3, "eager", "processes"))
        self.assertRegex(found["version"], r"^\d+\.\d+\.\d+$")
        self.assertRegex(found["commit"], r"^([0-9a-f]{40}(-dirty)?|unknown)$")
        self.assertRegex(found["date"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        for field in ("device", "driver", "host", "placement"):
            self.assertTrue(found[field] and isinstance(found[field], str), field)
        lines, results = rows(table), found["results"]
        self.assertEqual(len(results), 2 * len(lines))
        for i, result in enumerate(results):
            line = lines[i // 2]
            time, algbw, busbw, wrong = line[4 + i % 2]
            self.assertEqual(set(result), {"bytes", "count", "dtype", "op", "in_place", "registered", "algorithm",
                                           "blocks", "threads", "time_us", "time_p99_us", "algbw_gbs", "busbw_gbs",
                                           "wrong", "peers"})
            self.assertEqual([result[key] for key in ("bytes", "count", "dtype", "op")], line[:4])
            self.assertEqual((result["in_place"], result["registered"], result["wrong"]), (bool(i % 2), True, wrong))
            self.assertEqual((result["blocks"], result["threads"], result["peers"]), (0, 0, {}))
            self.assertAlmostEqual(result["time_us"], time, delta=0.01 + 1e-5 * time)  # six digits
            self.assertAlmostEqual(result["algbw_gbs"], algbw, delta=0.001)
            self.assertAlmostEqual(result["busbw_gbs"], busbw, delta=0.001)
            self.assertAlmostEqual(result["busbw_gbs"], result["algbw_gbs"] * 4 / 3, delta=1e-4 * result["busbw_gbs"])
            self.assertGreater(result["time_p99_us"], 0)

    def test_types_and_operations(self):
        for dtype, size in DTYPES.items():
            for op in OPS if dtype in ("bfloat16", "int8") else ("sum",):
                with self.subTest(dtype=dtype, op=op):
                    table, _ = self.bench("-n", 2, "-d", dtype, "-o", op, "-b", 1000, "-e", 1000, "--iters", 2)
                    self.assertEqual(rows(table)[0][:4], [1000, 1000 // size, dtype, op])

    def test_sizes(self):
        for arguments, sizes in ((("--min", "4", "--max", "4"), [4]),
                                 (("--min", "1K", "--max", "4095"), [1024, 2048]),
                                 (("--min", "9", "--max", "1000", "--factor", "10"), [8, 88, 900]),
                                 (("--min", "1m", "--max", "2M"), [1 << 20, 2 << 20]),
                                 (("--sizes", "4K,64,1m", "--max", "8"), [4096, 64, 1 << 20])):
            with self.subTest(arguments=arguments):
                table, _ = self.bench("-n", 2, *arguments, "--iters", 2)
                self.assertEqual([line[0] for line in rows(table)], sizes)

    def test_numbers_of_ranks(self):
        for nranks in (1, 5, 16):
            table, found = self.bench("-n", nranks, "-e", 64, "--iters", 2)
            self.assertIn(f"\n# {nranks} ranks as processes, ", table)
            self.assertEqual(found["nranks"], nranks)
        self.assertEqual(self.bench("-n", 1, "-e", 64, "--iters", 2)[1]["results"][0]["busbw_gbs"], 0)

    def test_threads(self):
        table, found = self.bench("-n", 3, "--threads", *SMALL, "--registered", "--timeout-ms", 60000)
        self.assertIn("\n# 3 ranks as threads, registered memory", table)
        self.assertEqual(found["ranks_as"], "threads")

    def test_algorithm(self):
        for more in ([], ["--threads"]):
            for name in ("one_shot", "two_shot"):
                _, found = self.bench("-n", 2, "--algorithm", name, *SMALL, *more)
                self.assertEqual({result["algorithm"] for result in found["results"]}, {name})

    def test_algorithm_for_measuring(self):
        for name, chunk, store in (("two_shot", 8192, "stream"), ("one_shot", 4096, "stream"),
                                   ("two_shot", 1 << 20, "cached"), ("direct", 0, "stream")):
            with self.subTest(name=name, chunk=chunk, store=store):
                forced = environment(ONEHOP_ALGORITHM=f"{name}:{chunk}:{store}")
                _, found = self.bench("-n", 3, *SMALL, "--registered", env=forced)
                self.assertEqual({result["algorithm"] for result in found["results"]}, {name})
                done = onehop("info", "-n", 2, "--json", env=forced)
                self.assert_good(done)
                for choice in json.loads(done.stdout)["choices"]:
                    if choice["registered"]:
                        self.assertEqual(choice["chunk_bytes"], min(chunk or choice["bytes"], choice["bytes"]))
        done = onehop("bench", "-n", 2, env=environment(ONEHOP_ALGORITHM="two_shot:1000:cached"))
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertRegex(done.stderr, r'^onehop bench: rank \d: algorithm is "two_shot:1000:cached": expected .*\n$')

    def test_seeds_differ(self):
        seeds = {self.bench("-n", 2, "-e", 8, "--iters", 1)[1]["seed"] for _ in range(3)}
        self.assertEqual(len(seeds), 3)

    def test_progress_on_a_terminal_alone(self):
        shown = self.shown_on_a_terminal("bench", "-n", 2, *SMALL)
        for size in SMALL_SIZES:
            self.assertIn(b"%d bytes out of place\r\033[K" % size, shown)
        self.assertNotIn(b"\n", shown)

    def test_wrong_results_are_counted(self):
        for more in ([], ["--threads"]):
            path = self.folder / "wrong.json"
            done = onehop("bench", "-n", 2, "--dtype", "float16", *SMALL, *more, "--json", path,
                          env=with_fault("result"))
            # Twice for each size and place, one element each.
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr, f"onehop bench: rank 0: {4 * len(SMALL_SIZES)} elements were wrong\n")
            self.assertTrue(all(place[3] == 2 for line in rows(done.stdout) for place in line[4:]))
            self.assertTrue(all(result["wrong"] == 2 for result in json.loads(path.read_text())["results"]))

    def test_the_library_cannot(self):
        done = onehop("bench", "-n", 2, env=environment(ONEHOP_WORKSPACE_BYTES="many"))
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertRegex(done.stderr, r"^onehop bench: rank \d: .*ONEHOP_WORKSPACE_BYTES.*many.*\n$")

    def test_more_than_the_machine_has(self):
        """Far beyond the address space, so that nothing happens if it is tried all the same."""
        for command in ("bench", "check"):
            done = onehop(command, "-n", 2, "--max", "1000T")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rf"^onehop {command}: rank \d: no memory for buffers of \d+ bytes on each of "
                                          r"\d ranks: \d+ bytes are available\n$")

    def test_what_only_gpus_have(self):
        for arguments in (("--mode", "graph"), ("--neighbour", "64M"), ("--peer", "nccl")):
            done = onehop("bench", "-n", 2, "--device", "host", *arguments)
            self.assertEqual((done.stdout, done.returncode), ("", 1))
            self.assertRegex(done.stderr, rf"^onehop bench: rank \d: {arguments[0]}.* needs GPUs: the device is host\n$")

    def test_no_gpu(self):
        done = onehop("bench", "-n", 2, "--device", "cuda")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("\n"), 1)


class Check(Case):
    SUMMARY = re.compile(r"^(\d+) checks passed, (\d+) failed(; the last run broke off)?$", re.M)

    def check(self, *arguments, **options):
        done = onehop("check", *arguments, **options)
        passed, failed, broken = self.SUMMARY.search(done.stdout).groups()
        return done, int(passed), int(failed), broken is not None

    def test_sweep(self):
        done, passed, failed, _ = self.check("-n", "1-3", "--seconds", "0", "--max", "64K")
        self.assert_good(done)
        self.assertEqual(failed, 0)
        runs = re.findall(r"^ ?(\d) ranks +(\w+) +(\d+) passed +0 failed$", done.stdout, re.M)
        self.assertEqual([(n, name) for n, name, _ in runs],
                         [(n, name) for n in "123" for name in ("auto", "one_shot", "two_shot", "direct")])
        self.assertEqual(sum(int(count) for _, _, count in runs), passed)
        for n, _, count in runs:  # every type and operation, both places, both kinds of memory, five counts
            self.assertGreaterEqual(int(count), int(n) * 10 * 5 * 2 * 2 * 5)

    def test_threads_and_one_algorithm(self):
        done, passed, failed, _ = self.check("-n", "2", "--threads", "--algorithm", "two_shot", "--seconds", "0.5")
        self.assert_good(done)
        self.assertEqual(failed, 0)
        self.assertGreater(passed, 2000)
        self.assertEqual(done.stdout.count(" ranks "), 1)

    def test_time_is_used(self):
        """More time, more checks: of the same run, the small sizes are the same in each."""
        counts = [self.check("-n", "2", "-a", "one_shot", "--seconds", seconds)[1] for seconds in ("0", "3")]
        self.assertGreater(counts[1], counts[0] + 50)

    def test_a_seed_repeats_a_run(self):
        outputs = [self.check("-n", "2", "--seed", "42", "--seconds", "0", "--max", "4K", "-a",
                              "one_shot", env=with_fault("result"))[0].stderr for _ in range(2)]
        self.assertEqual(outputs[0], outputs[1])
        self.assertIn("seed 42", outputs[0])

    def test_what_is_wrong_is_described(self):
        for fault, said in (
            ("result", r"element \d+ is \S+, expected \S+ \(1 of \d+ are wrong\)"),
            ("before", r"bytes before the result were overwritten"),
            ("behind", r"bytes behind the result were overwritten"),
            ("input", r"element 0 of sendbuf became \S+, was \S+"),
        ):
            for more in ([], ["--threads"]):
                with self.subTest(fault=fault, more=more):
                    done, passed, failed, broken = self.check("-n", "3", "--seconds", "0", "--max", "4K", *more,
                                                              env=with_fault(fault))
                    self.assertEqual((done.returncode, broken), (1, False))
                    self.assertGreater(failed, 20)
                    self.assertGreater(passed, failed)
                    lines = done.stderr.splitlines()
                    self.assertEqual(len(lines), 10, "only the first failures are told")
                    for line in lines:
                        self.assertRegex(line, r"^onehop check: rank 1 of 3: float16 (sum|prod|min|max|avg) of \d+ "
                                               r"elements, \w+, (in|out of) place, (registered|ordinary) memory, "
                                               rf"seed \d+: {said}$")

    def test_a_rank_that_dies(self):
        done, _, failed, broken = self.check("-n", "3", "--seconds", "0", env=with_fault("kill"))
        self.assertEqual((done.returncode, failed, broken), (1, 0, True))
        self.assertRegex(done.stderr, r"^onehop check: rank 1 \(process \d+\) was killed by signal 9 \(Killed\)\n$")


class Info(Case):
    def test_text_and_json_agree(self):
        text = onehop("info", "-n", 3)
        self.assert_good(text)
        done = onehop("info", "-n", 3, "--json")
        self.assert_good(done)
        found = json.loads(done.stdout)
        self.assertEqual((found["schema"], found["nranks"], found["device"]), ("onehop-info-1", 3, "host"))
        self.assertEqual([rank["rank"] for rank in found["ranks"]], [0, 1, 2])
        self.assertEqual(len({rank["pid"] for rank in found["ranks"]}), 3)
        for rank in found["ranks"]:
            self.assertEqual(rank["cpus"], len(os.sched_getaffinity(0)))
        workspace = found["workspace"]
        self.assertGreaterEqual(workspace["bytes"], workspace["control"] + workspace["staging"])
        self.assertIn(f"{workspace['bytes']} bytes a rank: {workspace['control']} control", text.stdout)
        for algorithm in found["algorithms"]:
            self.assertRegex(text.stdout, rf"\n  {algorithm['name']} +{re.escape(algorithm['description'])}\n")
        names = {algorithm["name"] for algorithm in found["algorithms"]}
        sizes = [8 << i for i in range(24)]
        for registered in (False, True):
            choices = [choice for choice in found["choices"] if choice["registered"] == registered]
            self.assertEqual([choice["bytes"] for choice in choices], sizes)
            for choice in choices:
                self.assertIn(choice["algorithm"], names)
                self.assertTrue(choice["reason"])
                self.assertLessEqual(choice["chunk_bytes"], choice["bytes"])
        tables = re.split(r"float32 sum, (?:ordinary|registered) buffers\n", text.stdout)[1:]
        for table in tables:
            self.assertEqual([int(line.split()[0]) for line in table.splitlines()[1:] if line], sizes)

    def test_timing(self):
        for more in ([], ["--threads"]):
            done = onehop("info", "-n", 3, "--timing", *more, env=environment(TMPDIR=self.folder))
            self.assert_good(done)
            self.assertRegex(done.stdout, r"^first all-reduce of 3 ranks on host, kernels to be compiled: \d+\.\d ms "
                                          r"from onehop_comm_create\nfirst .* kernels at hand: \d+\.\d ms from .*\n$")
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_forced_algorithm(self):
        done = onehop("info", "-n", 2, "--json", "--algorithm", "two_shot", "--dtype", "int8", "--op", "max")
        self.assert_good(done)
        found = json.loads(done.stdout)
        self.assertEqual((found["dtype"], found["op"]), ("int8", "max"))
        self.assertEqual({choice["algorithm"] for choice in found["choices"]}, {"two_shot"})


class Tuning(Case):
    """A file of tables, from the variable or in the usual place, decides for all ranks."""

    def write(self, path, nranks, algorithm="one_shot", **more):
        rows = [{"from_bytes": 0, "algorithm": algorithm, "chunk_bytes": 4096, "stream": False, "time_us": 0.5}]
        tables = [{"device": "host", "cpu": "any", "placement": placement, "nranks": nranks, "registered": False,
                   "rows": rows} for placement in ("near", "far", "oversubscribed")]
        version = onehop("--version").stdout.split()[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"schema": "onehop-tuning-1", "version": version, "commit": "unknown", "date":
                                    "2026-11-21T01:02:03Z", "host": "here", "tables": tables, **more}))
        return path

    def info(self, nranks, **variables):
        text = onehop("info", "-n", nranks, env=environment(**variables))
        self.assert_good(text)
        done = onehop("info", "-n", nranks, "--json", env=environment(**variables))
        self.assert_good(done)
        found = json.loads(done.stdout)
        self.assertIn(f"\ntuning     {found['tuning']}\n", text.stdout)
        return found

    def test_named(self):
        path = self.write(self.folder / "mine.json", 2)
        found = self.info(2, ONEHOP_TUNING=path)
        self.assertEqual(found["tuning"], f"{path}, made 2026-11-21 on here")
        for choice in found["choices"]:
            if choice["registered"]:
                self.assertRegex(choice["reason"], r"^built-in table \(")
            else:
                self.assertRegex(choice["reason"], r"^mine.json \(\w+ ranks, any buffers\): one_shot from 0 bytes$")
                self.assertEqual((choice["algorithm"], choice["chunk_bytes"]),
                                 ("one_shot", min(choice["bytes"], 4096)))
        for more in ([], ["--threads"]):
            done = onehop("bench", "-n", 2, *SMALL, *more, "--json", self.folder / "bench.json",
                          env=environment(ONEHOP_TUNING=path))
            self.assert_good(done)
            results = json.loads((self.folder / "bench.json").read_text())["results"]
            self.assertEqual({(result["algorithm"], result["wrong"]) for result in results}, {("one_shot", 0)})
        self.assertEqual(self.info(3, ONEHOP_TUNING=path)["tuning"],
                         f"built-in table; there is none for these ranks in {path}")
        for word in ("built-in", "model"):
            self.assertEqual(self.info(2, ONEHOP_TUNING=word)["tuning"], "built-in table")

    def test_usual_place(self):
        self.write(self.folder / "onehop/tuning.json", 2)
        path = self.folder / "onehop/tuning.json"
        usual = {"ONEHOP_TUNING": "", "XDG_CONFIG_HOME": self.folder}
        self.assertEqual(self.info(2, **usual)["tuning"], f"{path}, made 2026-11-21 on here")
        home = self.folder / "home"
        home.mkdir()
        (home / ".config").symlink_to(self.folder)
        self.assertEqual(self.info(2, ONEHOP_TUNING="", XDG_CONFIG_HOME="", HOME=home)["tuning"],
                         f"{home}/.config/onehop/tuning.json, made 2026-11-21 on here")
        self.write(path, 2, version="0.0.9")
        found = self.info(2, **usual)
        self.assertRegex(found["tuning"], f"^built-in table; refused: tuning file {path}: made by onehop 0.0.9, this "
                                          r"is \d+\.\d+\.\d+: run `onehop tune` again$")
        self.assertTrue(all(choice["reason"].startswith("built-in table") for choice in found["choices"]))
        path.unlink()
        self.assertEqual(self.info(2, **usual)["tuning"], "built-in table")

    def test_refused(self):
        path = self.write(self.folder / "bad.json", 2, algorithm="fastest")
        done = onehop("info", "-n", 2, env=environment(ONEHOP_TUNING=path))
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertRegex(done.stderr, rf"^onehop info: rank \d: rank 0: tuning file {path}: table 1, row 1: algorithm "
                                      r'is "fastest": expected one of one_shot, two_shot, direct\n$')

    def test_rank_0_decides(self):
        """Only rank 0 has the file, and the others have one that will not do."""
        path = self.write(self.folder / "mine.json", 3)
        bad = self.write(self.folder / "bad.json", 3, tables=None)
        script = 'test "$ONEHOP_RANK" = 0 && export ONEHOP_TUNING="$1" || export ONEHOP_TUNING="$2"; shift 2; exec "$@"'
        bench = ["launch", "-n", 3, "--", "sh", "-c", script, "sh"]
        done = onehop(*bench, path, bad, ONEHOP, "bench", *SMALL, "--json", self.folder / "bench.json")
        self.assert_good(done)
        results = json.loads((self.folder / "bench.json").read_text())["results"]
        self.assertEqual({(result["algorithm"], result["wrong"]) for result in results}, {("one_shot", 0)})
        done = onehop(*bench, bad, path, ONEHOP, "bench", *SMALL)
        self.assertEqual(done.returncode, 1)
        said = f"rank 0: tuning file {bad}: tables is null: expected an array of 0 to 256 tables, each an object"
        self.assertIn(said, done.stderr)


class Deaths(Case):
    """Whoever dies, nobody stays behind."""

    def test_a_rank_that_dies_is_named(self):
        done = onehop("bench", "-n", 4, "--dtype", "float16", env=with_fault("kill"))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^onehop bench: rank 1 \(process \d+\) was killed by signal 9 \(Killed\)\n$")

    def test_a_rank_that_is_out_of_step_is_an_error(self):
        """The library says who called what."""
        done = onehop("bench", "-n", 2, "--dtype", "float16", env=with_fault("forget"))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^onehop bench: rank \d: .*float16.*\n$")

    def test_a_rank_that_is_stopped_is_named(self):
        process = self.started("bench", "-n", 2, "--timeout-ms", "300")
        self.read_lines(process.stdout, 8)
        stopped = children(process.pid)[1]
        os.kill(stopped, signal.SIGSTOP)
        self.assertEqual(process.wait(100), 1)
        self.assertRegex(process.stderr.read(), r"^onehop bench: rank \d: .*\n$")
        self.assertFalse(alive(stopped))

    def test_ranks_die_with_their_parent(self):
        process = self.started("bench", "-n", 4)
        self.read_lines(process.stdout, 8)
        ranks = children(process.pid)
        self.assertEqual(len(ranks), 4)
        process.kill()
        self.eventually(lambda: not any(map(alive, ranks)), "the ranks die")

    def test_children_may_be_ignored_by_the_caller(self):
        """Who ignores SIGCHLD leaves that to those that it starts."""
        done = onehop("bench", "-n", 2, "-e", 8, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.assert_good(done)


class Launched(Case):
    """As a rank of somebody else's."""

    def test_under_launch(self):
        for command in (["bench", *SMALL], ["check", "--seconds", "0", "--max", "4K"], ["info"], ["info", "--json"]):
            with self.subTest(command=command):
                done = onehop("launch", "-n", 3, "--", ONEHOP, *command)
                self.assert_good(done)
                self.assertTrue(all(line.startswith("[0] ") for line in done.stdout.splitlines()))
                self.assertIn("3", done.stdout)

    def test_under_torchrun(self):
        common = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1",
                  "MASTER_PORT": 20000 + os.getpid() % 20000}
        ranks = [start("bench", *SMALL, env=environment(RANK=rank, LOCAL_RANK=rank, **common)) for rank in range(2)]
        outputs = [rank.communicate(timeout=100) for rank in ranks]
        self.assertEqual([rank.returncode for rank in ranks], [0, 0], outputs)
        self.assertEqual([line[0] for line in rows(outputs[0][0])], SMALL_SIZES)
        self.assertEqual(outputs[1], ("", ""))

    def test_failing_checks_fail_on_every_rank(self):
        done = onehop("launch", "-n", 2, "--", ONEHOP, "check", "--seconds", "0", "--max", "4K",
                      "-a", "one_shot", env=with_fault("result"))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"\[0\] \d+ checks passed, \d+ failed\n")
        self.assertEqual(len(re.findall(r"onehop launch: rank \d .* exited with status 1", done.stderr)), 2)

    def test_own_ranks_when_asked_for(self):
        done = onehop("bench", "-n", 2, *SMALL, env=environment(RANK=5, WORLD_SIZE=7))
        self.assert_good(done)
        self.assertIn("\n# 2 ranks as processes", done.stdout)

    def test_an_environment_that_is_wrong(self):
        done = onehop("bench", *SMALL, env=environment(RANK=5))
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertRegex(done.stderr, r"^onehop bench: .*WORLD_SIZE.*\n$")
