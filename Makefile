# Nothing but make and Python 3.11 or newer is needed: the first target that you call makes .venv.
# A target's `##` comment is its line in the list that a bare `make` prints.

PYTHON  ?= python3
WORKERS ?= 2
ARGS    ?=
SEEDS   ?= 200
SEED    ?=

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made
PYTEST := $(BIN)/python -m pytest
BENCH  := $(BIN)/python -m sconto.bench
PEERS  := .venv-bench
COMPILED := build/compiled
SIM    := $(BIN)/python -m sconto.simulate
RIGS   := $(BIN)/python -m sconto.torture
DOCS   := $(wildcard README.md docs)
LOCK    = --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
          --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo serve test check format-check lint types layers fmt bench bench-engine bench-ledger sim torture docs wheel test-compiled lock venv clean

help: ## list the targets (this list)
	@echo "Usage: make TARGET [ARGS='...'] [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

bench-engine: $(STAMP) $(PEERS)/.made bench-peers/node_modules/.made ## the promotion engine beside others; ARGS=--million a larger set too
	@$(MAKE) --no-print-directory $(COMPILED)/.made >&2 || echo "It could not be compiled: left out" >&2
	$(BENCH).engine $(ARGS)

bench-ledger: $(STAMP) ## redemptions beside the naive way, on both databases; ARGS=sqlite one part of it
	$(BENCH).ledger $(ARGS)

sim: $(STAMP) ## the simulation of a network where everything fails: SEEDS=2000 runs many, SEED=17 replays one
	$(SIM) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --processes $(WORKERS)) $(ARGS)

torture: $(STAMP) ## real servers, killed, cut off and starved, some as root only; ARGS="kills --kills 20" runs one
	$(RIGS) $(ARGS)

docs: $(STAMP) ## run every code block of the README and of docs/
	$(PYTEST) $(DOCS) $(ARGS)

wheel: $(STAMP) ## a wheel for this machine with the engine compiled, into dist/; needs a C compiler and two minutes
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m hatchling build -t wheel

test-compiled: $(COMPILED)/.made ## the engine's tests, run with the compiled package
	@PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python -c 'from sconto.cart import index; exit(index.__file__[-3:] == ".py")'
	PYTHONPATH=$(CURDIR)/$(COMPILED) $(PYTEST) -n $(WORKERS) tests/unit/cart tests/properties/test_engine.py $(ARGS)

lock: $(STAMP) ## resolve the dependencies into requirements/*.lock; ARGS=--upgrade takes newer ones
	$(BIN)/uv pip compile pyproject.toml $(LOCK) -o requirements/runtime.lock
	$(BIN)/uv pip compile pyproject.toml $(LOCK) --extra demo --group dev -o requirements/dev.lock
	$(BIN)/uv pip compile requirements/bench.in $(LOCK) -o requirements/bench.lock
	rm -f $(STAMP)

venv: $(STAMP) ## make .venv from the lock file (every other target does it too)

clean: ## remove the environments, caches and what the demo wrote
	rm -rf $(VENV) $(PEERS) bench-peers/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
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

# The compiled package, unpacked where only those find it who are told.
$(COMPILED)/.made: pyproject.toml hatch_build.py $(shell find src -name '*.py') | $(STAMP)
	@rm -rf build
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m hatchling build -t wheel -d build
	@$(BIN)/python -m zipfile -e build/*.whl $(COMPILED)
	@touch $@

# Other engines, for `bench-engine` only. What cannot be had is left out, and the benchmark says so.
$(PEERS)/.made: requirements/bench.lock | $(STAMP)
	@echo "Making $(PEERS) from requirements/bench.lock (once) ..."
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/bench.lock
	@touch $@

bench-peers/node_modules/.made: bench-peers/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "Installing bench-peers/package-lock.json (once) ..."; \
	  if (cd bench-peers && npm ci --ignore-scripts --no-audit --no-fund --silent); then touch $@; \
	  else echo "npm ci failed: Vendure and Medusa are left out"; rm -rf bench-peers/node_modules; fi; \
	else echo "npm is not installed: Vendure and Medusa are left out"; fi
