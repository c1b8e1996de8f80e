#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The law of the house: who may include whom, who may keep state, and what the library never calls.

usage: dependencies.py SOURCE_DIRECTORY OBJECT.o ...
"""

import pathlib
import re
import subprocess
import sys

# Calls go downward only: a room may include what stands in its row, which lies below it, and itself.
ROOMS = {
    # room            may include
    "api.c":        ["comm", "select", "plan.h", "base"],  # select: the names of the algorithms
    "comm":         ["backend/backend.h", "select", "topology", "arena", "bootstrap", "base"],  # select: a name that is none
    "backend/host": ["backend/backend.h", "select", "arena", "topology", "plan.h", "bootstrap", "base"],
    "backend/cuda": ["backend/backend.h", "kernels", "select", "arena", "arena/device_layout.h", "topology", "plan.h",
                     "bootstrap", "driver", "base"],
    "backend/backend.h": ["plan.h", "bootstrap", "base"],  # what every device offers: seen by both sides
    "kernels":      ["arena/device_layout.h"],  # device code: the layout of the arena is shared with it
    "select":       ["topology", "plan.h", "arena/device_layout.h", "base"],  # choices are pure functions: no arena, no bootstrap
    "arena":        ["bootstrap", "driver", "arena/device_layout.h", "base"],  # descriptors are exchanged
    "arena/device_layout.h": [],  # plain data, for the host and for kernels
    "topology":     ["bootstrap", "driver", "base"],  # ranks tell each other of themselves in the bootstrap's cards
    "plan.h":       [],  # plain data that travels down
    "bootstrap":    ["base"],
    "driver":       ["base"],
    "base":         [],
}

# Programs see what any user sees.
OUTSIDERS = ["cli", "examples", "bench"]

# What the build writes for them.
GENERATED = {"cli": {"commit.h"}}

# Who sees more, and why.
INSIDERS = {
    "bench/reduce_bench.c": "times the reductions of one core, which no public call does alone",
    "cli/gpu_state.h": "allocates and times on GPUs as any program does, through the library's table of the driver",
}

# Symbols that may live in writable memory, and why.
MAY_CHANGE = {
    "last_error": "the text of a thread's last error, thread-local",
}

# What no part of the library may call.
NEVER = {
    "exit _exit _Exit quick_exit abort __assert_fail raise": "ends the process",
    "printf vprintf puts putchar putchar_unlocked perror psignal __printf_chk __vprintf_chk stdout stderr": "prints",
    "setenv putenv unsetenv clearenv chdir umask setlocale srand signal sigaction atexit": "changes the whole process",
    "strtok strerror localtime gmtime asctime ctime rand": "keeps state that all threads share",
}

# Who may read the environment: configuration comes from one place.
ENVIRONMENT = {"getenv", "secure_getenv", "environ"}
READS_ENVIRONMENT = {"base/config.c", "base/log.c"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]', re.M)


def includes(path):
    return [(quote == '"', name) for quote, name in INCLUDE.findall(path.read_text())]


def sources(directory):
    return sorted(path for path in directory.rglob("*") if path.suffix in (".c", ".h", ".cu", ".cuh", ".inc"))


def room_of(name):
    """The room that a file of src/ belongs to, or None."""
    plain = pathlib.PurePath(name).with_suffix("").as_posix()
    rooms = [room for room in ROOMS if name == room or name.startswith(room + "/") or plain == room]
    return max(rooms, key=len, default=None)  # a file that is a room of its own, before the directory it is in


def check_rooms():
    """The table itself goes downward only."""
    order = list(ROOMS)
    for room, below in ROOMS.items():
        for other in below:
            if other not in order or order.index(other) <= order.index(room):
                yield f"table: {room} may include {other}, which does not lie below it"


def check_sources(src):
    for path in sources(src):
        name = path.relative_to(src).as_posix()
        room = room_of(name)
        if room is None:
            yield f"src/{name}: belongs to no room; rooms are {', '.join(ROOMS)}"
            continue
        for quoted, included in includes(path):
            if not quoted:
                if (src / included).exists() or included == "onehop.h":
                    yield f'src/{name}: includes <{included}>, expected "{included}"'
            elif included == "onehop.h":
                pass
            elif not (src / included).is_file():
                yield f'src/{name}: includes "{included}", which is no path from src/'
            elif room_of(included) not in [room] + ROOMS[room]:
                yield f"src/{name}: {room} may not include {included}; it may include {', '.join(ROOMS[room]) or 'nobody'}"


def check_outsiders(root):
    for directory in OUTSIDERS:
        for path in sources(root / directory):
            if path.relative_to(root).as_posix() in INSIDERS:
                continue
            for quoted, included in includes(path):
                beside = [path.parent / included, root / directory / included]
                inside = any(place.is_file() and (root / directory) in place.resolve().parents for place in beside)
                inside = inside or included in GENERATED.get(directory, ())
                ours = (root / "src" / included).exists()
                if (quoted and included != "onehop.h" and not inside) or (not quoted and ours):
                    yield f"{path.relative_to(root)}: includes {included}: expected onehop.h, or a file of {directory}/"


def symbols(objects):
    """(object, name, class, type, section) of every symbol."""
    listing = subprocess.run(["nm", "-A", "-f", "sysv", *objects], check=True, text=True, stdout=subprocess.PIPE).stdout
    for line in listing.splitlines():
        field = [part.strip() for part in line.split("|")]
        if len(field) == 7:
            path, _, name = field[0].rpartition(":")
            yield path, name, field[2], field[3], field[6]


def source_of(path):
    """base/status.c for .../base/status.c.o"""
    return re.sub(r"^.*onehop_objects\.dir/(\./)*", "", path).removesuffix(".o")


def check_symbols(objects):
    never = {name: why for names, why in NEVER.items() for name in names.split()}
    allowed = set()
    seen = 0
    for path, name, kind, _, section in symbols(objects):
        seen += 1
        source = source_of(path)
        plain = name.partition(".")[0]  # a static of a function is called name.1234
        writable = re.match(r"\.(data|bss|tdata|tbss)|\*COM\*", section) and not section.startswith(".data.rel.ro")
        if writable and plain in MAY_CHANGE and section.startswith(".t"):
            allowed.add(plain)
        elif writable and not name.startswith("."):
            yield f"{source}: {plain} is mutable and lives in {section}; state hangs off onehop_comm_t"
        if kind == "U" and name in never:
            yield f"{source}: calls {name}, which {never[name]}"
        if kind == "U" and name in ENVIRONMENT and source not in READS_ENVIRONMENT:
            yield f"{source}: reads the environment ({name}); expected only in {', '.join(sorted(READS_ENVIRONMENT))}"
    if seen == 0:
        yield "no symbols were found in the objects"
    for name in MAY_CHANGE.keys() - allowed:
        yield f"{name} may be mutable ({MAY_CHANGE[name]}), but does not exist"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    root, objects = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    broken = [*check_rooms(), *check_sources(root / "src"), *check_outsiders(root), *check_symbols(objects)]
    for line in broken:
        print(line)
    print(f"{len(sources(root / 'src'))} files, {len(objects)} objects: {len(broken)} breaches")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
