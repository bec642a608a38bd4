# Every command a person needs; `make` alone lists them.
SHELL    := /bin/sh
PYTHON   ?= $(shell for p in python3.13 python3.12 python3; do if $$p -c 'import sys; raise SystemExit(sys.version_info < (3, 12))' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN      := .venv/bin
SERVICES := api gatekeeper integrations planner runner
MEMBERS  := shared $(addprefix services/,$(SERVICES))
UV       := $(BIN)/uv
COMPILE  := $(UV) pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url \
            --no-annotate --custom-compile-command 'make lock' \
            --no-emit-package headrace $(addprefix --no-emit-package headrace-,$(SERVICES))

.DEFAULT_GOAL := help
.PHONY: help setup demo up test sim chaos chaos-cluster mutants check lint types imports scan lock bench bench-micro bench-peers clean

help: ## List these targets
	@grep -hE '^[a-z-]+:.*?## ' Makefile | awk -F ':.*?## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/installed ## Create .venv from pinned, hashed requirements

.venv/installed: requirements/dev.txt $(addsuffix /pyproject.toml,$(MEMBERS))
	@test -n "$(PYTHON)" || { echo "headrace needs Python 3.12 or later: no python3.13, python3.12 or newer python3 runs here"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	@touch $@

demo: setup ## Start everything, run the main job, prove it, stop everything
	@$(BIN)/headrace demo

up: setup ## Start everything and keep it running (Ctrl-C stops it)
	@$(BIN)/headrace up

# Half of the suite's time is waiting for processes, clocks and servers: one and a half jobs a core fill the machine.
JOBS ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 1) * 3 / 2)))
test: setup ## The whole test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

SEEDS ?= 2000
sim: setup ## Simulated installations under seeded faults: make sim SEEDS=2000
	$(BIN)/python -m headrace.testing.simulation --seeds $(SEEDS) --processes $$(nproc 2>/dev/null || echo 1)

chaos: setup ## Chaos over real processes: make chaos MINUTES=60 SEED=7 (codes: 0 passed, 1 failed, 3 void)
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(SCHEDULE),--schedule $(SCHEDULE)) $(if $(OTHER),--other $(OTHER))

chaos-cluster: setup ## Chaos over a cluster of three NATS servers: make chaos-cluster MINUTES=5 SEED=7
	$(BIN)/python -m tests.chaos.cluster $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

mutants: setup ## Seeded bugs, each in a copy: the simulation must find every one
	$(BIN)/python -m tests.chaos.mutants

check: lint types imports scan ## Everything that reads the code without running it

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy, strict, over source and tests
	$(BIN)/mypy

imports: setup ## import-linter: who may import whom
	$(BIN)/lint-imports

scan: setup ## The architecture scanner
	$(BIN)/python tests/architecture/scanner.py

lock: setup ## Resolve every pin again (keeps those that still fit)
	$(COMPILE) --group dev $(addsuffix /pyproject.toml,$(MEMBERS)) --extra up -o requirements/dev.txt
	echo hatchling | $(COMPILE) -c requirements/dev.txt - -o requirements/build.txt
	$(foreach s,$(SERVICES),$(COMPILE) -c requirements/dev.txt services/$(s)/pyproject.toml -o requirements/$(s).txt &&) true

bench: setup ## The benchmarks, and a table of them: benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks --table

bench-micro: setup ## What each part of the hot path costs by itself: decide, evolve, serialise, hash, append, compile
	$(BIN)/python -m pytest -p pytest_benchmark.plugin --benchmark-columns=min,median,rounds benchmarks/micro

bench-peers: setup ## The alternatives on this machine, beside headrace, with ratios
	$(BIN)/python -m benchmarks.peers

clean: ## Remove what the targets above made (not .headrace, which holds data)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
