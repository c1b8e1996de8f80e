# SPDX-License-Identifier: Apache-2.0
# A thin front for people; CMakeLists.txt and scripts/ do the work.

PREFIX ?= /usr/local
SECONDS ?= 60

.PHONY: help setup build demo test test-clang test-asan test-tsan test-gcc build-gpu test-gpu bench-gpu model fuzz format
.PHONY: lint bench-host report install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { gsub(/ /, ", ", $$1); printf "  make %-42s %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing (Debian packages)
	@scripts/setup test

build: ## the library, the command and the examples, into build/
	@scripts/setup demo
	@cmake -S . -B build -G Ninja -DONEHOP_TESTS=OFF --log-level=WARNING
	@cmake --build build -- --quiet

# Ranks that share a GPU are threads of one process: kernels of different processes take turns on it.
demo: SHARED_GPUS = $(if $(filter 1 2 3,$(shell nvidia-smi -L 2>/dev/null | grep -c ^GPU)),--threads)
demo: build ## four ranks all-reduce on the best device here: time, bandwidth, verified results
	@build/cli/onehop bench --nranks 4 $(SHARED_GPUS)

test: ## everything that CI runs
	@scripts/setup test
	@scripts/test

test-gcc test-clang test-asan test-tsan: ## one part of that
	@scripts/setup test
	@scripts/test $(@:test-%=%)

build-gpu: ## what test-gpu and bench-gpu run, into build-gpu/, which can be carried to a machine with GPUs
	@scripts/setup test
	@scripts/test-gpu --build

test-gpu: ## test on the GPUs of this machine; needs build-gpu
	@scripts/test-gpu

bench-gpu: ## time all sizes on the GPUs of this machine, beside NCCL and PyTorch's; needs build-gpu
	@bench/gpu.py

model: ## check the model of the synchronisation with Spin
	@scripts/setup test
	@python3 tests/model/run.py

fuzz: ## every fuzzer for SECONDS=60
	@scripts/setup test
	@scripts/fuzz $(SECONDS)

format: ## format all sources
	@scripts/setup test
	@scripts/format

lint: build ## what cppcheck and clang-tidy think, where installed
	@scripts/lint

report: ## the tables on GPUs in README.md, and their plots, of the JSON that bench-gpu has written
	@scripts/setup report
	@/usr/bin/python3 bench/report.py

bench-host: ## compare with OpenMPI and MPICH, which it installs
	@bench/host.sh

install: build ## into PREFIX=/usr/local
	@cmake --install build --prefix $(DESTDIR)$(PREFIX)

clean: ## remove the build directories
	@rm -rf build build-gcc build-clang build-asan build-tsan build-gpu
