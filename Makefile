# Two commands do all the set-up: `make quickstart` ends with a board you can open, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
DEV := $(VENV)/.dev
HTTPFS := $(VENV)/httpfs

.PHONY: quickstart test test-fast lint bench fuzz examples cluster site clean help

help:
	@echo "make quickstart  install, run the main job (image_pruning, small tier), build the board"
	@echo "make test        install, run all tests and checks"
	@echo "make test-fast   the tests that an editor runs on save: under two minutes on 2 cores"
	@echo "make lint        ruff, mypy, import contracts"
	@echo "make bench       benchmarks: accuracy of the scale, speed of checker and publisher"
	@echo "make fuzz        10,000 dishonest submissions against the checker"
	@echo "make examples    follow every worked example of the documentation"
	@echo "make cluster     sweeps on a real Slurm of this machine, where it is installed"
	@echo "make site        build the board from results/"

$(BASE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "weighin needs Python 3.11 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(DEV): $(BASE)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# What the tests read object storage by: a package brings DuckDB's extension for DuckDB 1.5 alone, so both lie beside ours.
$(HTTPFS): Makefile | $(DEV)
	rm -rf $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ duckdb==1.5.5 duckdb-extension-httpfs==1.5.5 \
	  || echo 'no httpfs for this machine: tests of object storage will be skipped, and say so'

quickstart: $(BASE)
	$(BIN)/weighin run image_pruning --method dense --method l1_filters --method chex --seed 0 --tier small
	$(BIN)/weighin site

test: $(DEV) $(HTTPFS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -rs -n auto --dist loadfile --no-loadscope-reorder
	@if ls results/*/*/*/*/run.json >/dev/null 2>&1; then $(BIN)/weighin check results; else echo 'no bundles in results/ yet'; fi

# Which these are is a rule, in tests/conftest.py.
test-fast: $(DEV)
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --dist loadfile -m 'not slow' tests/suite tests/tasks tests/reference_impls

lint: $(DEV)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(DEV)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable -s

fuzz: $(DEV)
	$(BIN)/python -m tests.fuzz.campaign

examples: $(DEV)
	WEIGHIN_EXAMPLES=1 $(BIN)/python -m pytest tests/docs -rs

cluster: $(DEV)
	WEIGHIN_SLURM=1 $(BIN)/python -m pytest tests/cluster -rs

site: $(BASE)
	$(BIN)/weighin site

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
