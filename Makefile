# Every target sets up what it needs: on a fresh clone `make demo` and `make test` simply work.
# Needs git, make and Python 3.11 or newer. `make` alone lists the targets.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

bin := .venv/bin
buf := BUF_CACHE_DIR=$(CURDIR)/.make/buf $(bin)/buf
# Processes that pytest runs on.
JOBS ?= 2
# Passed on to pytest: make test ARGS="tests/unit -k commission"
ARGS ?=
# How much `make prove` tries: examples of hypothesis, steps of the simulation.
EXAMPLES ?= 200
STEPS ?= 2000000
shell_scripts := $(wildcard scripts/*.sh) .ci/run
docs_generators := $(wildcard scripts/generate_*_docs.py)

.PHONY: help setup protos check check-style check-types check-imports check-protos check-stubs \
  check-docs check-scripts fix test test-long test-fast prove chaos chaos-cases demo bench serve clean distclean

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv and install everything (does nothing when nothing has changed)
	@scripts/setup.sh

protos: setup ## Generate services/backlane/api from protos/
	@PYTHON=$(bin)/python scripts/generate_stubs.sh

check: check-style check-types check-imports check-protos check-stubs check-docs check-scripts ## Run every check that changes nothing
	@echo "check: all good"

check-style: setup ## Lint and formatting (ruff)
	@echo "check: style"
	@$(bin)/ruff check --quiet . || { echo "Try: make fix" >&2; exit 1; }
	@$(bin)/ruff format --check --quiet . \
	  || { $(bin)/ruff format --check . | head -20 >&2; echo "Not formatted. Run: make fix" >&2; exit 1; }

check-types: setup ## Types (mypy, strict)
	@echo "check: types"
	@MYPYPATH=services $(bin)/mypy --no-error-summary \
	  -p backlane -p model_service -p backtest_service -p operations_service

check-imports: setup ## Who may import what (import-linter)
	@echo "check: imports"
	@report=$$($(bin)/lint-imports 2>&1) || { echo "$$report" >&2; exit 1; }

check-protos: setup ## The contracts (buf lint)
	@echo "check: protos"
	@$(buf) lint
	@$(buf) format --diff --exit-code || { echo "Not formatted. Run: make fix" >&2; exit 1; }

check-stubs: setup ## The generated stubs are what protos/ says
	@echo "check: stubs"
	@PYTHON=$(bin)/python scripts/generate_stubs.sh --check

check-docs: setup ## The generated pages are what the code says
	@echo "check: docs"
	@for script in $(docs_generators); do $(bin)/python "$$script" --check || exit 1; done

check-scripts: ## The shell scripts parse
	@echo "check: scripts"
	@for script in $(shell_scripts); do bash -n "$$script" || exit 1; done

fix: setup ## Repair what check finds, where a tool can
	@$(bin)/ruff check --quiet --fix . || true
	@$(bin)/ruff format --quiet .
	@$(buf) format --write
	@PYTHON=$(bin)/python scripts/generate_stubs.sh
	@for script in $(docs_generators); do $(bin)/python "$$script" || exit 1; done
	@echo "fix: done. What is left: make check"

test: setup ## Run all tests but the long ones, as test-long does, and chaos
	@$(bin)/python -m pytest -q -n $(JOBS) $(ARGS)

chaos: setup ## Kill everything at random, and look for what is lost: SEED=n HOURS=h BRIEF=1
	@$(bin)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(HOURS),--hours $(HOURS)) \
	  $(if $(BRIEF),--brief) $(ARGS)

chaos-cases: setup ## Fail at every failpoint, and apply the mutant of every named case
	@$(bin)/python -m pytest -q -n $(JOBS) -m chaos --ignore tests/chaos/test_chaos.py tests/chaos $(ARGS)

test-long: setup ## Run the tests of interrupted processes, which wait for leases to lapse
	@$(bin)/python -m pytest -q -n $(JOBS) -m long $(ARGS)

test-fast: setup ## Run the tests that take less than a second each
	@$(bin)/python -m pytest -q -n $(JOBS) -m "not slow and not long and not chaos" $(ARGS)

prove: setup ## The proofs of operations in full: make prove EXAMPLES=500 STEPS=2000000
	@PROVE_WHOLE=1 PROVE_EXAMPLES=$(EXAMPLES) PROVE_STEPS=$(STEPS) \
	  $(bin)/python -m pytest -q -s -m "not chaos" tests/proofs tests/property/test_operations.py $(ARGS)

demo: setup ## Start the services, run a backtest through them, show the result
	@PATH="$(CURDIR)/$(bin):$$PATH" scripts/demo.sh

bench: setup ## Run the benchmarks
	@$(bin)/python -m benchmarks $(ARGS)

serve: setup ## Start the three services in this terminal; Ctrl-C drains them
	@$(bin)/backlane up $(ARGS)

clean: ## Remove caches and what the demo wrote
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .make dist demo-home demo-result
	@find services tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove .venv and the tools too: back to a fresh clone
	@rm -rf .venv .tools
