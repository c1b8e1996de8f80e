# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command have in common: running it, watching it, cleaning up after it."""

import os
import pathlib
import pty
import select
import signal
import subprocess
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ONEHOP = os.environ["ONEHOP"]
FAULT = os.environ["ONEHOP_FAULT_LIBRARY"]
PATIENCE_S = 100  # for what should take an instant, on a busy machine and with sanitizers

OURS = ("ONEHOP_", "MASTER_", "TORCHELASTIC_")
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def environment(**more):
    """The caller's, without what would make a process a rank, and without the caller's tuning table."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(OURS) and name not in RANK_VARIABLES}
    return {**kept, "ONEHOP_TUNING": "built-in", **{name: str(value) for name, value in more.items()}}


def with_fault(fault, **more):
    """An environment in which all-reduces go wrong; see fault.c."""
    # The preloaded library comes before the sanitizer's, which is no harm.
    asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return environment(LD_PRELOAD=FAULT, FAULT=fault, ASAN_OPTIONS=asan, **more)


def onehop(*arguments, **options):
    """Runs the command to its end."""
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "env": environment(), **options}
    return subprocess.run([ONEHOP, *map(str, arguments)], text=True, timeout=PATIENCE_S, check=False, **options)


def start(*arguments, **options):
    """Starts the command; its output comes through pipes."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               "env": environment(), **options}
    return subprocess.Popen([ONEHOP, *map(str, arguments)], text=True, **options)


def children(pid):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="onehop-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def started(self, *arguments, **options):
        """start(), and an end with the test."""
        process = start(*arguments, **options)

        def end():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()

        self.addCleanup(end)
        return process

    def shown_on_a_terminal(self, *arguments):
        """What the command, which ends well, says where standard error is a terminal."""
        ours, theirs = pty.openpty()
        process = self.started(*arguments, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # what the end of a terminal looks like
            pass
        os.close(ours)
        self.assertEqual(process.wait(60), 0)
        return shown

    def eventually(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"waited too long until {what}")
            time.sleep(0.002)

    def read_lines(self, stream, count):
        """The next lines of a pipe; reads no further."""
        lines = [b""]
        while len(lines) <= count:
            readable = select.select([stream], [], [], PATIENCE_S)[0]
            self.assertTrue(readable, f"waited too long for a line after {lines}")
            byte = os.read(stream.fileno(), 1)
            self.assertTrue(byte, f"the output ended after {lines}")
            lines[-1] += byte
            if byte == b"\n":
                lines.append(b"")
        return [line.decode() for line in lines[:-1]]

    def kill_later(self, pid):
        def end():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

        self.addCleanup(end)

    def assert_fails(self, done, stderr, status=1):
        self.assertEqual((done.stderr, done.returncode), (stderr, status), f"stdout was:\n{done.stdout}")

    def assert_printed(self, printed, digits, least, most):
        """What was printed with so many digits behind the point lay between these."""
        half = 0.5 * 10.0 ** -digits + 1e-9
        self.assertGreaterEqual(printed, least - half)
        self.assertLessEqual(printed, most + half)

    def assert_good(self, done):
        self.assertEqual((done.stderr, done.returncode), ("", 0), f"stdout was:\n{done.stdout}")
