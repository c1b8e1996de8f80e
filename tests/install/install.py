#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs a build into a temporary place, moves it, and uses it as an outsider would.

usage: install.py BUILD_DIRECTORY
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAIRS = [("gcc", "g++"), ("clang", "clang++")]
VERSION = "ONEHOP_0.1"

# The library may need libc and its loader, which brings thread-local storage.
MAY_NEED = re.compile(r"libc\.so\.6|ld-linux.*\.so\.\d+")

HEADER_STANDARDS = [
    ("c", ["-std=c99", "-pedantic"]),
    ("c", ["-std=c11"]),
    ("c++", ["-std=c++17"]),
]


def run(*command, **options):
    """Runs a command, shows it where it fails, returns what it printed."""
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}exit status {done.returncode}")
    return done.stdout


def expect(condition, text):
    if not condition:
        sys.exit(text)


def install(build, place):
    """Installs, and moves the tree: nothing in it may depend on where it was put first."""
    run("cmake", "--install", build, "--prefix", place / "first")
    prefix = place / "moved"
    (place / "first").rename(prefix)
    return prefix


def check_files(prefix):
    headers = [path.name for path in prefix.rglob("*.h*")]
    expect(headers == ["onehop.h"], f"installed headers are {headers}: expected onehop.h alone")
    for name in ("onehop", "onehop.pc", "onehop-config.cmake", "LICENSE"):
        expect(list(prefix.rglob(name)), f"{name} was not installed")


def check_needed(library):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", library))
    strangers = [name for name in needed if not MAY_NEED.fullmatch(name)]
    expect(needed and not strangers, f"{library.name} needs {needed}: expected libc alone")


def check_symbols(library):
    """Exported, listed in the map, declared in the header: three times the same names."""
    exported = {}
    for line in run("nm", "-D", "--defined-only", "--with-symbol-versions", library).splitlines():
        kind, symbol = line.split()[1:]
        name, _, version = symbol.partition("@@")
        if kind != "A":
            exported[name] = version
    mapped = set(re.findall(r"^\s+(onehop_\w+);", (ROOT / "src/onehop.map").read_text(), re.M))
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "include/onehop.h").read_text(), flags=re.S)
    declared = set(re.findall(r"^ONEHOP_API\s[^;()]*?(\w+)\(", header, re.M))
    expect(mapped, "no name was found in src/onehop.map")
    expect(set(exported) == mapped, f"exported or in the map, but not both: {sorted(set(exported) ^ mapped)}")
    expect(declared == mapped, f"declared or in the map, but not both: {sorted(declared ^ mapped)}")
    unversioned = [name for name, version in exported.items() if version != VERSION]
    expect(not unversioned, f"without the version {VERSION}: {unversioned}")


def check_header(prefix, c_compiler):
    for language, standard in HEADER_STANDARDS:
        run(c_compiler, "-x", language, *standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
            "-I", prefix / "include", "-include", "onehop.h", "/dev/null")


def check_pkg_config(prefix, libdir, place, c_compiler, cxx_compiler):
    environment = dict(os.environ, PKG_CONFIG_PATH=str(libdir / "pkgconfig"), LD_LIBRARY_PATH=str(libdir))
    flags = run("pkg-config", "--cflags", "--libs", "onehop", env=environment).split()
    version = run("pkg-config", "--modversion", "onehop", env=environment).strip()
    for compiler, source in ((c_compiler, "consumer.c"), (cxx_compiler, "consumer.cpp")):
        program = place / f"{source}.{pathlib.Path(compiler).name}"
        run(compiler, "-Wall", "-Wextra", "-Werror", "-pthread", HERE / source, *flags, "-o", program)
        said = run(program, env=environment)
        expect(f"Onehop {version}:" in said, f"{program.name} said {said!r}: expected version {version}")
        print(f"pkg-config, {compiler}: {said}", end="")


def check_cmake(prefix, place, c_compiler, cxx_compiler):
    build = place / f"build-{c_compiler}"
    run("cmake", "-S", HERE, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_C_COMPILER={c_compiler}",
        f"-DCMAKE_CXX_COMPILER={cxx_compiler}")
    run("cmake", "--build", build)
    for program in ("consumer_c", "consumer_cpp"):
        print(f"find_package, {c_compiler}: {run(build / program)}", end="")


def check_command(prefix):
    """The command finds the library without help."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    said = run(prefix / "bin/onehop", "--version", env=environment)
    expect("0.1.0" in said, f"onehop --version said {said!r}")


def main():
    expect(len(sys.argv) == 2, __doc__)
    with tempfile.TemporaryDirectory(prefix="onehop-install-") as directory:
        place = pathlib.Path(directory)
        prefix = install(pathlib.Path(sys.argv[1]).resolve(), place)
        library = next(prefix.rglob("libonehop.so"))
        check_files(prefix)
        check_needed(library)
        check_symbols(library)
        check_command(prefix)
        pairs = [pair for pair in PAIRS if shutil.which(pair[0]) and shutil.which(pair[1])]
        expect(pairs, f"no compilers: expected one of {PAIRS}")
        for c_compiler, cxx_compiler in pairs:
            check_header(prefix, c_compiler)
            check_pkg_config(prefix, library.parent, place, c_compiler, cxx_compiler)
            check_cmake(prefix, place, c_compiler, cxx_compiler)


if __name__ == "__main__":
    main()
