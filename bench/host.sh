#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs and builds what the comparison with OpenMPI and MPICH needs, and runs it: see README.md.
set -eu
cd "$(dirname "$0")/.."
scripts/setup bench
# A build of its own, so that a sanitizer or debug build is never what gets measured.
cmake -S . -B build-bench -G Ninja -DONEHOP_BENCH=ON -DONEHOP_TESTS=OFF -DONEHOP_EXAMPLES=OFF >/dev/null
cmake --build build-bench -- --quiet
exec /usr/bin/python3 bench/host.py "$@"
