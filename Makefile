# Nothing but make and Python 3.11 or newer is needed: the first target that you call makes .venv.
# A target's `##` comment is its line in the list that a bare `make` prints.

PYTHON  ?= python3
WORKERS ?= 2
ARGS    ?=

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made
PYTEST := $(BIN)/python -m pytest
BENCH  := $(BIN)/python -m sconto.bench
SIM    := $(PYTEST) tests/simulation -q
DOCS   := $(wildcard README.md docs)
LOCK    = --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
          --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo serve test check format-check lint types layers fmt bench sim docs lock venv clean

help: ## list the targets (this list)
	@echo "Usage: make TARGET [ARGS='...'] [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## the whole network on real data; ARGS=--once stops when done, ARGS="--once --full" replays the whole year
	$(BIN)/sconto demo $(ARGS)

serve: $(STAMP) ## start a hub, three merchants and a wallet server, and leave them up
	$(BIN)/sconto demo $(ARGS)

test: $(STAMP) ## all tests, on SQLite and PostgreSQL; ARGS="-k words" picks some
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: format-check lint types layers test ## exactly what CI runs: format, lint, types, import layers, tests

format-check: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy --strict src

layers: $(STAMP)
	$(BIN)/lint-imports --no-cache

fmt: $(STAMP) ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## every benchmark, one JSON object a line
	$(BENCH) $(ARGS)

sim: $(STAMP) ## the seeded simulation of a network that loses, doubles and reorders
	$(SIM) $(ARGS)

docs: $(STAMP) ## run every code block of the README and of docs/
	$(PYTEST) $(DOCS) $(ARGS)

lock: $(STAMP) ## resolve the dependencies into requirements/*.lock; ARGS=--upgrade takes newer ones
	$(BIN)/uv pip compile pyproject.toml $(LOCK) -o requirements/runtime.lock
	$(BIN)/uv pip compile pyproject.toml $(LOCK) --extra demo --group dev -o requirements/dev.lock
	rm -f $(STAMP)

venv: $(STAMP) ## make .venv from the lock file (every other target does it too)

clean: ## remove .venv, caches and what the demo wrote
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
	rm -f demo-summary.json
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Sconto needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Making $(VENV) from requirements/dev.lock (a minute or two, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
