# SPDX-License-Identifier: Apache-2.0
"""Compares Onehop with OpenMPI and MPICH on this host: runs them in turn, and hands what was measured to host_report.

Called by host.sh, which installs and builds what is needed. README.md says what is measured and why.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time

import host_report

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = [8, 64, 512, 2048, 8 << 10, 32 << 10, 128 << 10, 512 << 10, 2 << 20, 8 << 20, 32 << 20, 64 << 20]
PATIENCE_S = 60  # how long a system may take to start, or for one measurement


class Failure(Exception):
    """Ends the comparison with one message."""


def launcher(system, nranks, build):
    """The command that starts the ranks of a system, as its users would type it: nobody is pinned by us."""
    if system == "openmpi":
        crowded = ["--oversubscribe"] if nranks > os.cpu_count() else []
        return ["mpirun.openmpi", "--allow-run-as-root", *crowded, "-np", str(nranks), build / "bench/worker-openmpi"]
    if system == "mpich":
        return ["mpirun.mpich", "-np", str(nranks), build / "bench/worker-mpich"]
    return [build / "cli/onehop", "launch", "-n", str(nranks), "--", build / "bench/worker-onehop"]


class System:
    """The ranks of one system, alive and asleep until asked to measure."""

    def __init__(self, name, nranks, build, folder, max_bytes, seed):
        self.name = name
        path = f"{folder}/{name}"
        self.log = open(f"{path}.log", "w+", encoding="utf-8", errors="replace")
        dtype = "bfloat16" if name == "onehop_bf16" else "float32"
        memory = "registered" if name == "onehop_registered" else "plain"
        command = [*launcher(name, nranks, build), path, dtype, memory, str(max_bytes), str(seed)]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(nranks)
            listener.settimeout(0.1)
            try:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
            except OSError as error:
                raise Failure(f"cannot start {name}: {error}") from None
            self.ranks = []
            try:
                self._accept(listener, nranks)
            except BaseException:
                self.close()
                raise

    def _accept(self, listener, nranks):
        deadline = time.monotonic() + PATIENCE_S
        while len(self.ranks) < nranks:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Failure(self._complaint("did not start")) from None
                continue
            connection.settimeout(PATIENCE_S)
            self.ranks.append((connection, connection.makefile("r", encoding="utf-8")))
        hellos = sorted((self._answer(answers) for _, answers in self.ranks), key=lambda hello: hello["rank"])
        if [(hello["rank"], hello["nranks"]) for hello in hellos] != [(rank, nranks) for rank in range(nranks)]:
            raise Failure(f"{self.name}: {nranks} ranks were started, but they see {hellos}")
        self.version = hellos[0]["version"]

    def _complaint(self, what):
        try:
            self.process.wait(timeout=10)  # it may still be writing why
        except subprocess.TimeoutExpired:
            pass
        self.log.seek(0)
        return f"{self.name} {what}\n{self.log.read()}"

    def _answer(self, answers):
        try:
            line = answers.readline()
        except OSError as error:
            raise Failure(self._complaint(f"does not answer: {error}")) from None
        if not line:
            raise Failure(self._complaint("ended"))
        return json.loads(line)

    def measure(self, nbytes, seconds):
        """All ranks measure; their numbers are already the slowest rank's, and the same."""
        for connection, _ in self.ranks:
            try:
                connection.sendall(f"{nbytes} {seconds}\n".encode())
            except OSError as error:
                raise Failure(self._complaint(f"does not listen: {error}")) from None
        outcomes = [self._answer(answers) for _, answers in self.ranks]
        return {**outcomes[0], "wrong": sum(outcome["wrong"] for outcome in outcomes)}

    def close(self):
        """Ranks end when their sockets close."""
        for connection, answers in self.ranks:
            answers.close()
            connection.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def pingpong(build):
    """Nanoseconds of a one-way signal between the first two processors."""
    run = subprocess.run([build / "bench/pingpong"], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise Failure(run.stderr.strip())
    return float(run.stdout)


class Others:
    """Tells what share of the processors others have used, the hypervisor included, since it was made."""

    def __init__(self):
        self.start = self._times()

    @staticmethod
    def _times():
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(field) for field in stat.readline().split()[1:9]]
        total, idle = sum(ticks), ticks[3] + ticks[4]
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        ours = sum(use.ru_utime + use.ru_stime for use in usage) * os.sysconf("SC_CLK_TCK")
        return total, total - idle - ours

    def share(self):
        """Our children must have ended: only then is their time known."""
        now = self._times()
        return max(0.0, (now[1] - self.start[1]) / max(1, now[0] - self.start[0]))


def run_round(number, nranks, options, progress):
    """Starts all systems, then measures them in turn at each size, with a ping-pong between any two turns."""
    seed = random.getrandbits(32)
    samples, versions, systems = [], {}, []
    others = Others()
    with tempfile.TemporaryDirectory(prefix="onehop-bench-") as folder:
        try:
            for name in options.systems:
                systems.append(System(name, nranks, options.build, folder, max(options.sizes), seed))
                versions[name] = systems[-1].version
            before = pingpong(options.build)
            for nbytes in options.sizes:
                progress(f"round {number + 1} of {options.rounds}, {nranks} ranks, {host_report.human(nbytes)}")
                first = number % len(systems)
                for system in systems[first:] + systems[:first]:
                    outcome = system.measure(nbytes, options.seconds)
                    after = pingpong(options.build)
                    samples.append(
                        {
                            "round": number,
                            "nranks": nranks,
                            "bytes": nbytes,
                            "system": system.name,
                            "before_ns": before,
                            "after_ns": after,
                            "placement": host_report.placement(before, after),
                            "seed": seed,
                            **outcome,
                        }
                    )
                    before = after
        finally:
            for system in systems:
                system.close()
    return samples, versions, others.share()


def output_of(*command):
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        names = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    return names[0] if names else os.uname().machine


def describe(options, versions, disturbed):
    """Where and with what the numbers were taken."""
    changed = output_of("git", "status", "--porcelain", "--", ":!bench/results")
    return {
        "schema": "onehop-bench-1",
        "version": versions.get("onehop", ""),
        "commit": output_of("git", "rev-parse", "HEAD") + ("-dirty" if changed else ""),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": cpu_name(),
        "driver": f"{os.uname().sysname} {os.uname().release}",
        "mode": "eager",
        "cpus": len(os.sched_getaffinity(0)),
        "others_share": [round(share, 3) for share in disturbed],
        "systems": versions,
        "launchers": {
            name: {n: " ".join(os.path.relpath(word, ROOT) if isinstance(word, pathlib.Path) else word
                               for word in launcher(name, n, options.build)) for n in options.nranks}
            for name in options.systems
        },
    }


def numbers(text):
    return [int(word) for word in text.split(",")]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench/host.sh", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, help="rounds of each number of ranks (default 12)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of shorter measurements, without 32 MiB and above")
    parser.add_argument("--nranks", type=numbers, default=[2, 4], help="default 2,4")
    parser.add_argument("--sizes", type=numbers, help="bytes, separated by commas (default 8 ... 64 MiB)")
    parser.add_argument("--systems", default=list(host_report.SYSTEMS), type=lambda text: text.split(","),
                        help="default " + ",".join(host_report.SYSTEMS))
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench/results", help="default bench/results")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build-bench", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.seconds = 0.03 if options.quick else 0.06
    if options.rounds is None:
        options.rounds = 3 if options.quick else 12
    if options.sizes is None:
        options.sizes = [size for size in SIZES if not options.quick or size < 32 << 20]
    unknown = set(options.systems) - set(host_report.SYSTEMS)
    if unknown:
        parser.error(f"--systems: {', '.join(unknown)}: expected some of {', '.join(host_report.SYSTEMS)}")
    if any(size < 4 or size % 4 for size in options.sizes):
        parser.error("--sizes: expected bytes, multiples of 4 from 4 on, separated by commas")
    if any(nranks not in range(1, 65) for nranks in options.nranks):
        parser.error("--nranks: expected numbers from 1 to 64, separated by commas")
    if options.rounds < 1:
        parser.error("--rounds: expected at least 1")
    return options


def main():
    options = parse(sys.argv[1:])
    terminal = sys.stderr.isatty()

    def progress(text):
        if terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    samples, versions, disturbed = [], {}, []
    try:
        for number, nranks in itertools.product(range(options.rounds), options.nranks):
            more, versions, share = run_round(number, nranks, options, progress)
            samples += more
            disturbed.append(share)
    except Failure as failure:
        progress("")
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        progress("")
        sys.exit(130)
    progress("")
    about = describe(options, versions, disturbed)
    if max(disturbed) > 0.05:
        print(f"bench: this machine is not idle: others took up to {100 * max(disturbed):.0f} % of its time in a round",
              file=sys.stderr)
    options.output.mkdir(parents=True, exist_ok=True)
    for nranks in options.nranks:
        mine = [sample for sample in samples if sample["nranks"] == nranks]
        host_report.publish(about, nranks, mine, options.output / f"host-{nranks}-ranks")
    wrong = sum(sample["wrong"] for sample in samples)
    if wrong:
        sys.exit(f"bench: {wrong} elements were wrong")


if __name__ == "__main__":
    main()
