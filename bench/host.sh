#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs (Debian) and builds what the comparison with OpenMPI and MPICH needs, and runs it: see bench/README.md.
set -eu
cd "$(dirname "$0")/.."

# What must be there, and the package that has it.
missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need cmake cmake
need cc gcc
need make make
need git git
need mpicc.openmpi libopenmpi-dev
need mpirun.openmpi openmpi-bin
need mpicc.mpich libmpich-dev
need mpirun.mpich mpich
# Debian's own Python, for which python3-matplotlib is made; another may come first in PATH.
/usr/bin/python3 -c 'import matplotlib' 2>/dev/null || missing="$missing python3-matplotlib"
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || { echo "bench: please install:$missing" >&2; exit 1; }
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # words are packages
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
fi

# A build of its own, so that a sanitizer or debug build in build/ is not what gets measured.
cmake -S . -B build-bench -DCMAKE_BUILD_TYPE=RelWithDebInfo -DONEHOP_BENCH=ON -DONEHOP_TESTS=OFF \
    -DONEHOP_EXAMPLES=OFF >/dev/null
cmake --build build-bench -j "$(nproc)" >/dev/null
exec /usr/bin/python3 bench/host.py "$@"
