# SPDX-License-Identifier: Apache-2.0
"""Arguments, help, and what happens when the command's output cannot be written."""

import re
import shlex
import subprocess

from command import HERE, ONEHOP, Case, environment, onehop

COMMANDS = ("bench", "check", "info", "launch", "reduce", "tune")


def transcript(name):
    """The cases of a file: command, what it says on stderr, exit status."""
    text = re.sub(r"^#.*\n", "", (HERE / name).read_text(), flags=re.M)
    for command, said, status in re.findall(r"^\$ onehop *(.*)\n((?:.*\n)*?)=> (\d+)$", text, re.M):
        yield shlex.split(command), said, int(status)


class Arguments(Case):
    def test_wrong_arguments_get_one_line(self):
        cases = list(transcript("errors.txt"))
        self.assertGreater(len(cases), 40)
        for arguments, said, status in cases:
            with self.subTest(arguments=arguments):
                done = onehop(*arguments, cwd=self.folder)
                self.assert_fails(done, said, status)
                self.assertEqual(done.stdout, "")

    def test_alone_prints_usage_to_stderr(self):
        done = onehop()
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, "")
        self.assertTrue(done.stderr.startswith("usage: onehop COMMAND"), done.stderr)

    def test_help_of_all(self):
        done = onehop("--help")
        self.assert_good(done)
        for command in COMMANDS:
            self.assertRegex(done.stdout, rf"\n  {command} +\w")

    def test_help_of_each(self):
        for command in COMMANDS:
            for option in ("--help", "-h"):
                with self.subTest(command=command):
                    done = onehop(command, option)
                    self.assert_good(done)
                    self.assertTrue(done.stdout.startswith(f"usage: onehop {command} "), done.stdout)
                    self.assertIn("\noptions:\n", done.stdout)
                    self.assertLessEqual(max(map(len, done.stdout.splitlines())), 105)

    def test_help_names_every_option(self):
        """Each option that a help text lists exists: it is not refused as unknown."""
        for command in COMMANDS:
            options = re.findall(r"^  (?:-\w, |    )(--[\w-]+)( \w+)?", onehop(command, "--help").stdout, re.M)
            self.assertGreater(len(options), 2)
            for option, argument in options:
                with self.subTest(command=command, option=option):
                    done = onehop(command, *([option] if argument else [option, "--no-such-option"]))
                    expected = "needs an argument" if argument else "--no-such-option is no option"
                    if option not in ("--help", "--version"):
                        self.assertIn(expected, done.stderr)

    def test_version(self):
        for arguments in ([], *([command] for command in COMMANDS)):
            done = onehop(*arguments, "--version")
            self.assert_good(done)
            self.assertRegex(done.stdout, r"^onehop \d+\.\d+\.\d+\n$")

    def test_options_may_be_shortened_and_follow_operands(self):
        done = onehop("bench", "--nr", "1", "--it", "1", "--ma", "8", "--fac", "2")
        self.assert_good(done)
        done = onehop("reduce", "there-is-no-file.npy", "-o", "sum.npy", cwd=self.folder)
        self.assert_fails(done, "onehop reduce: there-is-no-file.npy cannot be opened: No such file or directory\n")


WRITERS = (
    ["--help"],
    ["--version"],
    ["bench", "--help"],
    ["launch", "--version"],
    ["bench", "-n", "2", "--max", "64"],
    ["bench", "-n", "2", "--max", "64", "--threads"],
    ["check", "-n", "2", "--seconds", "0", "--max", "4K"],
    ["info", "-n", "2"],
    ["info", "-n", "2", "--json"],
    ["launch", "-n", "2", "--", "echo", "hello"],
    ["tune", "-n", "2", "--sizes", "64", "--seconds", "1", "--output", "/dev/null"],
    ["tune", "-n", "2", "--sizes", "64", "--dry-run"],
)


class Streams(Case):
    """A write that fails is an error, whoever makes it."""

    def expect_error(self, arguments, reason, **options):
        with self.subTest(arguments=arguments):
            done = subprocess.run([ONEHOP, *arguments], text=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  env=environment(), timeout=100, check=False, **options)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr,
                             rf"^onehop( \w+)?: (rank 0: )?cannot write standard output: {reason}\n$")

    def test_disk_full(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            for arguments in WRITERS:
                self.expect_error(arguments, "No space left on device", stdout=full)

    def test_no_reader(self):
        for arguments in WRITERS:
            read_end, write_end = subprocess.os.pipe()
            subprocess.os.close(read_end)
            self.expect_error(arguments, "Broken pipe", stdout=write_end)
            subprocess.os.close(write_end)

    def test_closed(self):
        for arguments in WRITERS:
            self.expect_error(arguments, "Bad file descriptor", preexec_fn=lambda: subprocess.os.close(1))

    def test_usage_without_stderr(self):
        for arguments in ([], ["bench", "--fast"]):
            done = subprocess.run([ONEHOP, *arguments], check=False, preexec_fn=lambda: subprocess.os.close(2))
            self.assertEqual(done.returncode, 2)

    def test_json_file_that_cannot_be_written(self):
        bench = ["bench", "-n", "2", "--max", "64", "--json"]
        done = onehop(*bench, "/dev/full")
        self.assert_fails(done, "onehop bench: rank 0: cannot write /dev/full: No space left on device\n")
        done = onehop(*bench, "no/such/folder.json", cwd=self.folder)
        self.assert_fails(done, "onehop bench: rank 0: cannot write no/such/folder.json: No such file or directory\n")
        self.assertEqual(done.stdout, "", "it is noticed before anything is measured")
        done = onehop(*bench, self.folder)
        self.assert_fails(done, f"onehop bench: rank 0: cannot write {self.folder}: Is a directory\n")
        self.assertEqual(list(self.folder.iterdir()), [])
