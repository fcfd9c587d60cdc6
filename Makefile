# Every command of the project. `make` alone lists them.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
ARGS ?=

SECONDS ?= 30
TARGET ?=
SEED ?=
MINUTES ?= 20
RATE ?= 100
ONLY ?=
PLOT ?=

.PHONY: help run env test test-all check fuzz soak deps lock bench matrix drift-bench dashboards proof pictures clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## serve on 127.0.0.1:8080 with the example policies (flags: ARGS="--listen ...")
	@sh scripts/environment.sh run
	@exec $(BIN)/headgate serve --banner $(ARGS)

env: ## make .venv with all that tests and checks need
	@sh scripts/environment.sh dev

test: env ## all tests that need no system packages, but the long ones: 5 minutes at most
	@sh scripts/test.sh quick -m "not system and not proof and not long" $(ARGS)

test-all: env ## all tests but the proofs, with coverage
	@sh scripts/test.sh covered -m "not proof" $(ARGS)

proof: env ## what takes longer: storms of kills, reloads and disconnects (needs make deps; ONLY=race: one show)
	@$(BIN)/python -m pytest -m proof --durations=0 $(ONLY:%=-rA tests/shows/test_%.py) $(ARGS)

fuzz: env ## hostile bytes for all that parses (flags: SECONDS=60 for each, TARGET=sse, SEED=n to see one again)
	@$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(TARGET:%=--target %) $(SEED:%=--seed %) $(ARGS)

soak: env ## a gateway under load, faults and reloads, and what it keeps (flags: MINUTES=20 RATE=100)
	@$(BIN)/python -m tests.soak.run --minutes $(MINUTES) --rate $(RATE) $(ARGS)

check: env ## lint, format, types
	@echo "ruff check" && $(BIN)/ruff check --quiet .
	@echo "ruff format" && $(BIN)/ruff format --quiet --check .
	@echo "mypy" && $(BIN)/mypy

deps: ## install the system packages that test-all and bench need (apt), build what they need of Go
	@sh scripts/deps.sh
	@sh scripts/collector.sh

lock: ## resolve the dependencies anew
	@sh scripts/lock.sh

bench: ## what a call costs, beside nginx (flags: ARGS=--json)
	@sh scripts/environment.sh dev
	@$(BIN)/python benchmarks/run.py $(ARGS)

matrix: env ## what each caller's dialect can ask of each target's, by the official SDKs (ARGS=--write: into README.md)
	@$(BIN)/python -m tests.sdk.table $(ARGS)

drift-bench: env ## how soon drift is found, and how often where there is none, beside others (PLOT=x.png; ARGS=--full)
	@PYTHONPATH=. $(BIN)/python benchmarks/drift/drift_bench.py $(PLOT:%=--plot %) $(ARGS)

dashboards: env ## write dashboards/grafana and docs/metrics.md anew from the metric table
	@$(BIN)/python -m dashboards.build

pictures: env ## the console's pictures in docs/, of six minutes of traffic (needs make deps)
	@$(BIN)/python -m tests.console.pictures $(ARGS)

clean: ## remove what the other commands made
	rm -rf .venv .headgate .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build dist
