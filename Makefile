# Kanglian: everything from a bare checkout with python3 (>= 3.11), python3-venv, make and git.
# PYTHON=/path/to/python3.12 chooses the interpreter; PIP_INDEX_URL or pip.conf the package index.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help set-up run test test-all check bench performance reset lock

BIN := .venv/bin
PYTHON ?=
export PYTHON
# Chosen on the command line: make test PYTEST_ARGS="-k embedded"
PYTEST_ARGS ?=
# A server that is given serves one process: what the audit and the change log wait for are the transactions of all.
TWO_PROCESSES := $(if $(KANGLIAN_TEST_DATABASE_URL),,--numprocesses 2 --dist loadfile --no-loadscope-reorder)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

set-up: ## install the locked packages into .venv (the other targets do it too)
	@scripts/set_up.sh

run: set-up ## run the platform with everything embedded, demo data on the first start
	@exec $(BIN)/kanglian serve

test: set-up ## run the test suite (no Java, no Node)
	@exec $(BIN)/pytest $(TWO_PROCESSES) $(PYTEST_ARGS)

test-all: set-up ## the suite with the long rounds (30 kill -9 rounds a process kind)
	@KANGLIAN_TEST_ALL=1 exec $(BIN)/pytest $(TWO_PROCESSES) $(PYTEST_ARGS)

check: set-up ## linters, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: set-up ## measure the platform beside the calibration (minutes)
	@exec $(BIN)/python benchmarks/whole_platform.py

performance: set-up ## write docs/performance.md from the raw results of make bench
	@exec $(BIN)/python benchmarks/performance_page.py

reset: set-up ## forget the data of this checkout, keys included
	@exec $(BIN)/python -m kanglian.reset

lock: ## resolve the dependencies of pyproject.toml anew into requirements/lock.txt
	@scripts/set_up.sh tools
	@eval "$$(.tools/bin/python scripts/package_index.py)" && .tools/bin/uv pip compile --quiet --upgrade --universal \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links --python-version 3.11 --group dev \
		--output-file requirements/lock.txt pyproject.toml
	@eval "$$(.tools/bin/python scripts/package_index.py)" && echo "$$(grep -o '^uv==[0-9.]*' requirements/uv.txt)" | \
		.tools/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --output-file requirements/uv.txt -
