# Everyday commands; `make help` lists them. CMake does the work: see CMakePresets.json.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup models test-models build cuda gpu-bundle test demo bench quality retrieval soak flips \
        asan tsan format check lint clean

# Where the packages come from another way than apt: make SETUP=true test
SETUP ?= tools/setup.sh
# One compiler takes up to 1.5 GB, so little memory means fewer of them.
JOBS ?= $(shell awk -v cores="$$(nproc)" '/^MemAvailable:/ { fit = int($$2 / 1500000) } \
          END { print fit < 1 ? 1 : fit < cores ? fit : cores }' /proc/meminfo)
# Empty where there is no CUDA compiler, or nothing to compile with it.
NVCC ?= $(if $(wildcard kernels/*.cu),$(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>&-))
# A run that was stopped goes on where it was; remove build/quality.jsonl to begin anew.
QUALITY_DATA ?= $(firstword $(wildcard shared/data/musique/dev75.json \
                                       ../shared/data/musique/dev75.json))
QUALITY_MODEL ?= models/Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf
# What the benchmarks take of it: eight questions, the default against its baselines.
QUALITY_SAMPLE := --questions 8 --selectors none deviation attention design --ratios 0.05 0.15
# Judged questions in the form of the Cranfield collection.
RETRIEVAL_DATA ?= $(firstword $(wildcard shared/data/cranfield ../shared/data/cranfield))
# A run of make soak is repeated by its seed, from 1 to 99,999.
SOAK_SEED ?= 1
SOURCE_FOLDERS := base kernels storage index model query engine client tests bench

define build_preset
	cmake --preset $(1) --log-level=WARNING
	cmake --build --preset $(1) --parallel $(JOBS)
endef

define run_all
	programs=$$(ls $(1) 2>/dev/null) || { echo "no program is named $(1)" >&2; exit 1; }; \
	for program in $$programs; do echo "== $$program"; "$$program"; done
endef

define run_quality
build/cpu/bin/fusion_quality --model $(QUALITY_MODEL) --data $(QUALITY_DATA) \
	  --out $(1).jsonl $(2) && \
	  python3 tools/quality_report.py $(1).jsonl --model $(QUALITY_MODEL) $(3)
endef

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the packages that the build needs
	@$(SETUP)

models: ## fetch the models for tests, demo and quality (about 680 MB)
	@tools/fetch_models.sh

# Without a network the tests run all the same; those of real models are then skipped.
test-models:
	@tools/fetch_models.sh smollm2 minilm || \
	  echo "make: no models, so the tests that need a real model will be skipped" >&2

build: setup ## configure and build in build/cpu
	@$(call build_preset,cpu)

# Built and not run: a machine that compiles CUDA need not have a device.
cuda: setup
ifneq ($(NVCC),)
	@export CUDACXX=$(NVCC); $(call build_preset,cuda)
endif

gpu-bundle: cuda ## put what runs on a GPU into build/gpu-bundle, for a bare machine
ifeq ($(NVCC),)
	@echo "make: no nvcc, so there is nothing to bundle; install the CUDA toolkit" >&2; exit 1
endif
	@cmake --build --preset cuda --parallel $(JOBS) --target gpu_tests gpu_kernel_benches
	@tools/gpu_bundle.sh build/cuda build/gpu-bundle

test: setup test-models build cuda ## build and run all tests
	@ctest --preset cpu

demo: ## answer questions over real documentation, with citations
	@SETUP=$(SETUP) JOBS=$(JOBS) tools/demo.sh

bench: setup models build ## run all benchmarks, and llama.cpp beside them if it is there
	@$(call run_all,build/cpu/bin/*_bench)
	@python3 tools/vector_growth.py --out build/vector_growth.svg
	@python3 tools/compare_llama.py
	@[[ ! -f "$(QUALITY_DATA)" ]] || { \
	  $(call run_quality,build/quality_sample,$(QUALITY_SAMPLE),--out build/quality_sample.svg); }

quality: setup models build ## compare fused answers with full prefill
	@[[ -f "$(QUALITY_DATA)" ]] || { echo "make: no questions at '$(QUALITY_DATA)';" \
	  "want make quality QUALITY_DATA=FILE, MuSiQue questions with contexts in JSON" >&2; exit 1; }
	@$(call run_quality,build/quality,,)

retrieval: setup test-models build ## compare searches by vectors, by words and by both
	@[[ -d "$(RETRIEVAL_DATA)" ]] || { echo "make: no questions at '$(RETRIEVAL_DATA)';" \
	  "want make retrieval RETRIEVAL_DATA=FOLDER, the Cranfield collection" >&2; exit 1; }
	@python3 tools/retrieval_report.py --data $(RETRIEVAL_DATA)

soak: setup build ## kill store and statements two thousand times; play an hour of caches
	@build/cpu/bin/storage_soak_test --gtest_brief=1 --gtest_repeat=100 --gtest_shuffle \
	  --gtest_random_seed=$(SOAK_SEED)
	@build/cpu/bin/scenario_statement_soak_test --gtest_brief=1 --gtest_repeat=200 \
	  --gtest_shuffle --gtest_random_seed=$(SOAK_SEED)
	@build/cpu/bin/storage_kv_budget_test --gtest_brief=1 --gtest_also_run_disabled_tests \
	  --gtest_filter='*SimulatedHour*'

flips: setup build ## flip ten thousand bits of a database, and print what became of them
	@build/cpu/bin/scenario_flip_test --gtest_brief=1 --gtest_also_run_disabled_tests \
	  --gtest_filter='*TenThousand*' --gtest_random_seed=$(SOAK_SEED)

asan: setup test-models ## build and test with the address and undefined-behaviour sanitizers
	@$(call build_preset,asan)
	@ctest --preset asan

tsan: setup test-models ## build and test with the thread sanitizer
	@$(call build_preset,tsan)
	@ctest --preset tsan

format: ## format all sources in place
	@$(SETUP) --developer
	@find $(wildcard $(SOURCE_FOLDERS)) -name '*.h' -o -name '*.cc' -o -name '*.cu' \
	  -o -name '*.cuh' | xargs clang-format -i

check: ## check format, layers and tidiness, in seconds
	@$(SETUP) --developer
	@tools/check.sh

lint: build ## check, and run clang-tidy over what build/cpu compiles
	@$(SETUP) --developer
	@JOBS=$(JOBS) tools/check.sh build/cpu

clean: ## remove build/; models stay
	@rm -rf build
