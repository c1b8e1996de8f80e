# SPDX-License-Identifier: Apache-2.0
"""`onehop launch`: environment, output, signals, ranks that fail."""

import array
import fcntl
import os
import pty
import random
import re
import signal
import subprocess
import sys
import termios
import time

from command import ONEHOP, Case, alive, children, environment, onehop

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
GRACE_S = 5


def shell(nranks, script):
    return ["launch", "-n", nranks, "--", "sh", "-c", script]


def python(nranks, program, *arguments):
    return ["launch", "-n", nranks, "--", sys.executable, "-c", program, *map(str, arguments)]


class Environment(Case):
    def test_ranks(self):
        names = ("ONEHOP_RANK", "ONEHOP_NRANKS", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        outer = environment(RANK=7, WORLD_SIZE=9, ONEHOP_RANK=5, ONEHOP_JOB="outer")
        done = onehop(*shell(5, "echo " + " ".join(f"${name}" for name in names)), env=outer)
        self.assert_good(done)
        self.assertEqual(sorted(done.stdout.splitlines()), [f"[{r}] {r} 5 {r} 5 {r} 5" for r in range(5)])

    def test_names_are_shared_by_the_ranks_and_by_nobody_else(self):
        seen = set()
        for _ in range(2):
            done = onehop(*shell(3, "echo $ONEHOP_RENDEZVOUS $ONEHOP_JOB"))
            self.assert_good(done)
            names = {line[4:] for line in done.stdout.splitlines()}
            self.assertEqual(len(names), 1)
            self.assertRegex(names.copy().pop(), r"^unix:@onehop-[0-9a-f]{16} [0-9a-f]{16}$")
            seen |= names
        self.assertEqual(len(seen), 2)

    def test_most_ranks(self):
        done = onehop(*shell(64, "echo $RANK"))
        self.assert_good(done)
        self.assertEqual(sorted(done.stdout.splitlines()), sorted(f"[{r}] {r}" for r in range(64)))

    def test_the_program_has_its_arguments(self):
        for arguments in (["--", "echo", "-n", "--help", "--", "x"], ["echo", "-n", "--help", "--", "x"]):
            done = onehop("launch", "-n", "1", *arguments)
            self.assert_good(done)
            self.assertEqual(done.stdout, "[0] --help -- x\n")

    def test_rank_0_reads_stdin(self):
        done = subprocess.run([ONEHOP, *map(str, shell(3, "echo $(cat)"))], input="words\n", text=True, timeout=60,
                              capture_output=True, env=environment(), check=False)
        self.assert_good(done)
        self.assertEqual(sorted(done.stdout.splitlines()), ["[0] words", "[1] ", "[2] "])

    def test_a_terminal_is_not_read(self):
        ours, theirs = pty.openpty()
        done = onehop(*shell(2, "cat; echo done"), stdin=theirs)
        os.close(ours)
        os.close(theirs)
        self.assert_good(done)
        self.assertEqual(sorted(done.stdout.splitlines()), ["[0] done", "[1] done"])

    def test_signals_are_as_the_caller_has_them(self):
        """Ranks must not inherit what the launcher blocks and ignores for itself."""
        program = "import re; print(*re.findall('Sig(?:Blk|Ign):.*', open('/proc/self/status').read()), sep=' ')"
        plain = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True).stdout
        done = onehop(*python(1, program))
        self.assert_good(done)
        self.assertEqual(done.stdout, "[0] " + plain)

    def test_descriptors_of_the_launcher_do_not_leak(self):
        done = onehop(*python(2, "import os; print(len(os.listdir('/proc/self/fd')))"))
        self.assert_good(done)
        self.assertEqual(sorted(done.stdout.splitlines()), ["[0] 4", "[1] 4"])


class Output(Case):
    WRITER = r"""
import os, random, sys
rank, lines, seed = int(os.environ["RANK"]), int(sys.argv[1]), int(sys.argv[2])
draw = random.Random(seed + rank)
for fd in 1, 2:
    for i in range(lines):
        text = f"{fd} {i} " + chr(97 + rank) * draw.choice([0, 1, 100, 5000, 20000])
        data = (text + "\n").encode()
        while data:
            part = draw.randint(1, len(data))
            os.write(fd, data[:part])
            data = data[part:]
"""

    def test_lines_stay_whole(self):
        """Eight ranks write lines in pieces to both streams; all arrive whole and in order, in one file too."""
        seed, lines = random.randrange(1 << 30), 60
        print("seed", seed)
        done = onehop(*python(8, self.WRITER, lines, seed), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                      capture_output=False)
        self.assertEqual(done.returncode, 0)
        expected = {}
        for rank in range(8):
            draw = random.Random(seed + rank)
            for fd in "12":
                for i in range(lines):
                    text = f"{fd} {i} " + chr(97 + rank) * draw.choice([0, 1, 100, 5000, 20000])
                    left = len(text) + 1
                    while left:
                        left -= draw.randint(1, left)
                    expected.setdefault((rank, fd), []).append(text)
        seen = {}
        for line in done.stdout.splitlines():
            rank, text = re.fullmatch(r"\[(\d)\] (.*)", line).groups()
            seen.setdefault((int(rank), text[0]), []).append(text)
        self.assertEqual(seen, expected)

    def test_streams_stay_apart(self):
        done = onehop(*shell(1, "echo out; echo err >&2"))
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("[0] out\n", "[0] err\n", 0))

    def test_last_line_without_line_feed(self):
        done = onehop(*shell(2, "printf 'one\\n\\ntwo'"))
        self.assert_good(done)
        self.assertEqual(sorted(done.stdout.splitlines()), ["[0] ", "[0] one", "[0] two", "[1] ", "[1] one", "[1] two"])
        self.assertTrue(done.stdout.endswith("\n"))

    def test_bytes_pass_as_they_are(self):
        data = bytes(value for value in range(256) if value != 10) + b"\n"
        done = subprocess.run([ONEHOP, *map(str, shell(1, "cat"))], input=data, capture_output=True, timeout=60,
                              env=environment(), check=False)
        self.assertEqual((done.stdout, done.stderr, done.returncode), (b"[0] " + data, b"", 0))

    def test_a_line_without_end_is_broken(self):
        done = onehop(*python(1, "import sys; sys.stdout.write('x' * 3000000)"))
        self.assert_good(done)
        lines = done.stdout.splitlines()
        self.assertEqual("".join(line[4:] for line in lines), "x" * 3000000)
        self.assertTrue(all(line.startswith("[0] ") and len(line) <= 1 << 20 for line in lines))

    def test_lines_arrive_while_the_program_runs(self):
        process = self.started(*shell(2, "echo ready; read word; echo $word"), stdin=subprocess.PIPE)
        self.assertEqual(sorted(self.read_lines(process.stdout, 3)), ["[0] ready\n", "[1] \n", "[1] ready\n"])
        process.stdin.write("go\n")
        process.stdin.close()
        self.assertEqual(self.read_lines(process.stdout, 1), ["[0] go\n"])
        self.assertEqual(process.wait(60), 0)

    def test_who_is_left_behind_is_not_waited_for(self):
        process = self.started(*shell(1, "sleep 1000 & echo $!"))
        left = int(self.read_lines(process.stdout, 1)[0][4:])
        self.kill_later(left)
        self.assertEqual(process.wait(60), 0)
        self.assertTrue(alive(left))

    def test_a_reader_that_goes_ends_the_ranks(self):
        process = self.started(*shell(2, "while :; do echo more; done"))
        self.read_lines(process.stdout, 1)
        process.stdout.close()
        self.assertEqual(process.wait(60), 1)
        self.assertEqual(process.stderr.read(), "onehop launch: cannot write standard output: Broken pipe\n")

    def test_a_reader_that_sleeps_delays_no_signal(self):
        ours, theirs = os.pipe()
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)  # one page, which the first write takes
        process = self.started(*shell(2, "while :; do echo more; done"), stdout=theirs)
        os.close(theirs)

        def waiting():
            count = array.array("i", [0])
            fcntl.ioctl(ours, termios.FIONREAD, count)
            return count[0]

        with os.fdopen(ours) as reader:
            self.eventually(lambda: len(children(process.pid)) == 2 and waiting() > 0, "the pipe is full")
            ranks = children(process.pid)
            process.send_signal(signal.SIGTERM)
            self.eventually(lambda: not any(map(alive, ranks)), "the ranks end")
            self.assertRegex(reader.read(), r"^(\[[01]\] more\n)+$")
        self.assertEqual(process.wait(60), 128 + signal.SIGTERM)


class Signals(Case):
    # Waits for the signal rather than be interrupted by it, which may happen in the middle of a print.
    CATCHER = """
import signal, sys
number = int(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
print("ready", flush=True)
print("got", int(signal.sigwait([number])), flush=True)
"""

    def test_are_passed_on(self):
        for number in PASSED_ON:
            with self.subTest(signal=number.name):
                process = self.started(*python(3, self.CATCHER, int(number)))
                self.read_lines(process.stdout, 3)
                process.send_signal(number)
                got = self.read_lines(process.stdout, 3)
                self.assertEqual(sorted(got), [f"[{rank}] got {int(number)}\n" for rank in range(3)])
                self.assertEqual((process.wait(60), process.stderr.read()), (0, ""))

    def test_that_kill_give_the_exit_status(self):
        process = self.started(*shell(2, "echo ready; exec sleep 1000"))
        self.read_lines(process.stdout, 2)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 128 + signal.SIGINT)
        self.assertRegex(process.stderr.read(), r"^onehop launch: rank \d \(process \d+\) was killed by signal 2 ")

    def test_reach_children_of_ranks(self):
        process = self.started(*shell(1, "sleep 1000 & echo $!; wait"))
        sleeper = int(self.read_lines(process.stdout, 1)[0][4:])
        self.kill_later(sleeper)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 128 + signal.SIGTERM)
        self.eventually(lambda: not alive(sleeper), "the rank's child ends")

    def test_ranks_die_with_the_launcher(self):
        process = self.started(*shell(3, "trap '' INT TERM HUP; echo ready; while :; do sleep 0.01; done"))
        self.read_lines(process.stdout, 3)
        ranks = children(process.pid)
        self.assertEqual(len(ranks), 3)
        process.kill()
        self.eventually(lambda: not any(map(alive, ranks)), "the ranks die")


class Failures(Case):
    def test_exit_status_is_named_and_passed_on(self):
        process = self.started(*shell(3, "if [ $RANK = 1 ]; then echo $$; exit 37; fi"))
        pid = int(self.read_lines(process.stdout, 1)[0][4:])
        self.assertEqual(process.wait(60), 37)
        self.assertRegex(process.stderr.read(),
                         rf"^onehop launch: rank 1 \(process {pid}\) exited with status 37(;.*)?\n$")

    def test_signal_is_named_and_passed_on(self):
        process = self.started(*shell(3, "if [ $RANK = 2 ]; then echo $$; kill -9 $$; fi"))
        pid = int(self.read_lines(process.stdout, 1)[0][4:])
        self.assertEqual(process.wait(60), 128 + 9)
        self.assertRegex(process.stderr.read(),
                         rf"^onehop launch: rank 2 \(process {pid}\) was killed by signal 9 \(Killed\)(;.*)?\n$")

    def test_first_failure_counts(self):
        """Rank 1 fails when it sees that rank 0, which failed first, is gone."""
        program = f"cd {self.folder}; case $RANK in 0) echo $$ >new; mv new pid; exit 3;; esac;" \
                  "until [ -e pid ]; do sleep 0.01; done;" \
                  "while kill -0 $(cat pid) 2>/dev/null; do sleep 0.01; done; exit 4"
        done = onehop(*shell(2, program))
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr,
                         r"rank 0 \(process \d+\) exited with status 3; the others have 5 seconds to end\n")
        self.assertRegex(done.stderr, r"rank 1 \(process \d+\) exited with status 4\n")

    def test_others_may_end_by_themselves(self):
        """Rank 1 takes a while after rank 0 has failed, and is left in peace."""
        program = "case $RANK in 0) exit 3;; esac; trap 'echo terminated' TERM; echo ready; sleep 1; echo done"
        started = time.monotonic()
        done = onehop(*shell(2, program))
        self.assertLess(time.monotonic() - started, GRACE_S)
        self.assertEqual(done.returncode, 3)
        self.assertEqual(done.stdout, "[1] ready\n[1] done\n")

    def test_others_get_sigterm_and_in_the_end_sigkill(self):
        """Rank 0 fails; rank 1 ends at SIGTERM, or ignores it, or is stopped. Three launches, at once to save time."""
        forever = "echo $$; while :; do sleep 0.01; done"
        yields = self.started(*shell(2, "case $RANK in 0) read word; exit 3;; esac; "
                                        f"trap 'echo terminated; exit 9' TERM; {forever}"), stdin=subprocess.PIPE)
        ignores = self.started(*shell(2, f"case $RANK in 0) read word; kill -9 $$;; esac; trap '' TERM; {forever}"),
                               stdin=subprocess.PIPE)
        sleeps = self.started(*shell(2, f"case $RANK in 0) read word; exit 5;; esac; {forever}"),
                              stdin=subprocess.PIPE)
        launches = (yields, ignores, sleeps)
        ranks = [int(self.read_lines(launch.stdout, 1)[0][4:]) for launch in launches]
        os.kill(ranks[2], signal.SIGSTOP)
        started = time.monotonic()
        for launch in launches:
            launch.stdin.close()

        self.assertEqual(yields.wait(60), 3)
        self.assertGreater(time.monotonic() - started, GRACE_S)
        self.assertLess(time.monotonic() - started, 2 * GRACE_S)
        self.assertEqual(yields.stdout.read(), "[1] terminated\n")
        said = yields.stderr.read()
        self.assertRegex(said, rf"\nonehop launch: rank 1 \(process {ranks[0]}\) still runs: it gets SIGTERM\n")
        self.assertNotIn("SIGKILL", said)

        for launch, status, rank in ((ignores, 128 + signal.SIGKILL, ranks[1]), (sleeps, 5, ranks[2])):
            self.assertEqual(launch.wait(60), status)
            self.assertGreater(time.monotonic() - started, 2 * GRACE_S)
            self.assertLess(time.monotonic() - started, 4 * GRACE_S)
            said = launch.stderr.read()
            for name in ("SIGTERM", "SIGKILL"):
                self.assertIn(f"\nonehop launch: rank 1 (process {rank}) still runs: it gets {name}\n", said)
            self.assertFalse(alive(rank))

    def test_a_good_rank_that_ends_early_disturbs_nobody(self):
        process = self.started(*shell(2, "case $RANK in 1) echo early; exit 0;; esac; read word; echo late"),
                               stdin=subprocess.PIPE)
        self.assertEqual(self.read_lines(process.stdout, 1), ["[1] early\n"])
        self.eventually(lambda: len(children(process.pid)) == 1, "rank 1 has been reaped")
        process.stdin.close()
        self.assertEqual(self.read_lines(process.stdout, 1), ["[0] late\n"])
        self.assertEqual((process.wait(60), process.stderr.read()), (0, ""))

    def test_no_process_is_left(self):
        process = self.started(*shell(4, "echo $$; if [ $RANK = 3 ]; then exit 1; fi; sleep 0.1"))
        ranks = [int(line[4:]) for line in self.read_lines(process.stdout, 4)]
        process.wait(60)
        self.assertFalse(any(map(alive, ranks)))
