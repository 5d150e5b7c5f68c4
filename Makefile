# Every target sets up what it needs: a virtual environment in .venv, with the versions pinned in constraints.txt.
# PYTHON chooses the interpreter (3.11 or later), e.g. make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(shell find src cpp -type f ! -name '*.pyc' ! -name '*.so' 2>/dev/null) CMakeLists.txt pyproject.toml constraints.txt

.PHONY: help demo demo-long test lint bench studies validation fuzz mutants docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       prune, recover, pack and time a real model; writes runs/minilm/report.html"
	@echo "make demo-long  the same at 75% sparsity with a longer recovery; writes runs/minilm-long/report.html"
	@echo "make test       the whole test suite"
	@echo "make lint       ruff and mypy"
	@echo "make fuzz       100,000 damaged checkpoints against sanitizer builds of the C++, and 5,000 damaged recipes"
	@echo "make mutants    small changes of the code that the tests must notice; writes benchmarks/records/mutants.jsonl"
	@echo "make bench      kernels, masks, loading, permutation, budgets, INT8; writes benchmarks/records/"
	@echo "make studies    each paper's claim on real data: studies/records/ and docs/studies/"
	@echo "make validation the accelerator models against published figures and against SCALE-Sim"
	@echo "make docs       the documentation, into site/"

demo: $(VENV)/.demo
	$(BIN)/tilewright run examples/minilm.yaml --output runs/minilm

demo-long: $(VENV)/.demo
	$(BIN)/tilewright run examples/minilm-long.yaml --output runs/minilm-long

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# How many, and which: make fuzz MUTANTS=1000000 RECIPES=100000 SEED=7 is a night's work.
MUTANTS ?= 100000
RECIPES ?= 5000
SEED ?= 0

# The C++ alone is built with AddressSanitizer and UndefinedBehaviorSanitizer; Python loads it through the preloaded runtime.
fuzz: $(VENV)/.test
	$(BIN)/cmake -S . -B build/fuzz -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DTILEWRIGHT_SANITIZE=ON -DPython_EXECUTABLE=$(abspath $(BIN)/python) >/dev/null
	$(BIN)/cmake --build build/fuzz
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0:max_allocation_size_mb=64:allocator_may_return_null=1 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		$(BIN)/python tests/formats/fuzz_checkpoint.py --mutants $(MUTANTS) --seed $(SEED) --most-memory 0 --native build/fuzz/_native*.so
	$(BIN)/python tests/jobs/fuzz_recipe.py --mutants $(RECIPES) --seed $(SEED)

# Goes on where it was stopped, from the sessions in build/mutants. OPTIONS are passed on, e.g. OPTIONS='patterns --seed 1'.
mutants: $(VENV)/.mutants
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python benchmarks/mutants.py $(OPTIONS)
	$(BIN)/python benchmarks/tables.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/masks.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/transposable.py
	$(BIN)/python benchmarks/permutation.py
	$(BIN)/python benchmarks/permutation.py --minilm
	$(BIN)/python benchmarks/budgets.py
	$(BIN)/python benchmarks/int8.py

# Each study goes on where it was stopped, from the records that are there; without them, all five take about four hours of one core.
studies: $(VENV)/.test
	for study in two_four inherited tiles high_sparsity one_shot; do $(BIN)/python -m studies.$$study || exit 1; done

# What the accelerator models are held against, point by point.
validation: $(VENV)/.test
	for part in s4 sta tensor_core fidelity scalesim; do $(BIN)/python benchmarks/validation/$$part.py || exit 1; done

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The pinned torch goes in first and alone, so that no other requirement can choose another build of it.
$(VENV)/.base: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, and this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -qq --upgrade --constraint constraints.txt pip
	$(PIP) install -qq --constraint constraints.txt torch
	$(PIP) install -qq --constraint constraints.txt scikit-build-core nanobind cmake ninja
	@touch $@

$(VENV)/.demo: $(VENV)/.base $(SOURCES)
	$(PIP) install -qq --constraint constraints.txt --no-build-isolation --editable '.[demo,peers]'
	@touch $@

$(VENV)/.test: $(VENV)/.base $(SOURCES)
	$(PIP) install -qq --constraint constraints.txt --no-build-isolation --editable '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.mutants: $(VENV)/.test
	$(PIP) install -qq --constraint constraints.txt --no-build-isolation --editable '.[mutants]'
	@touch $@

$(VENV)/.docs: $(VENV)/.base $(SOURCES)
	$(PIP) install -qq --constraint constraints.txt --no-build-isolation --editable '.[docs]'
	@touch $@
