# `make help` lists what there is.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo dev lint types test unit contract integration contracts docs bench mutants coverage analyse clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.demo  ## install, run a joint computation on this machine, audit it
	$(BIN)/sealtrace demo $(ARGS)

dev: $(VENV)/.dev  ## install everything the checks need

lint: $(VENV)/.dev  ## format, style, import order
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy

contracts: $(VENV)/.dev  ## rebuild the contracts' artifacts
	$(BIN)/sealtrace contracts build

test: lint types contractscheck unit contract integration  ## every check CI runs

contractscheck: $(VENV)/.dev
	$(BIN)/sealtrace contracts check

unit: $(VENV)/.dev  ## unit tests, no network
	$(BIN)/pytest tests/unit -n 2

contract: $(VENV)/.dev  ## contracts on eth-tester, and 50,000 random steps on revm
	$(BIN)/pytest tests/contract tests/analysis -n 2 --ignore tests/contract/test_random_walks.py
	$(BIN)/pytest tests/contract/test_random_walks.py

integration: $(VENV)/.dev  ## real processes, a real Redis, real SPU parties
	$(BIN)/pytest tests/integration tests/e2e --durations 15

docs: $(VENV)/.dev  ## regenerate what the documents take from the code
	$(BIN)/python -m sealtrace.deploy.documents

bench: $(VENV)/.dev  ## every benchmark, each with its baseline
	@for each in benchmarks/bench_*.py; do echo "== $$each"; $(BIN)/python $$each; done

coverage: $(VENV)/.dev  ## statements and branches of the contracts that the tests run
	$(BIN)/python tests/analysis/executed.py

mutants: $(VENV)/.dev  ## do the tests notice faults in the contracts? (minutes)
	$(BIN)/python tests/analysis/mutation.py $(ARGS)

analyse: $(VENV)/.dev  ## slither over the contracts, in an environment of its own
	$(BIN)/python tests/analysis/slither.py

clean:  ## forget the environment and caches
	rm -rf $(VENV) build .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 is needed (SPU has no wheel for later versions). Name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "No venv module: on Debian, apt install python3.11-venv"; exit 1; }

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo
