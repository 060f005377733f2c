# Phalanx: every chore in one word. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Extra words for pip, for example
#   make install PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_FLAGS ?=
# The first interpreter of a supported version that can make a virtual environment.
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3 python)
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt $(PIP_FLAGS)
# One thread a process: the tests already run one process a core.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: help install dev demo test test-all lint format bench wheel clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r word job; \
		do printf '  make %-9s %s\n' "$$word" "$$job"; done

install: $(VENV)/.installed ## .venv with the phalanx command
	@echo "ready: $(BIN)/phalanx"

demo: $(VENV)/.installed ## train, certify and explain a small ensemble on real images
	$(BIN)/phalanx demo

dev: $(VENV)/.dev ## .venv with the tools of a contributor

test: $(VENV)/.dev ## the tests that fit into minutes
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.dev ## every test, the soundness gates in full
	$(PYTEST)

lint: $(VENV)/.dev ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed ## throughput beside the raw forward pass; cost of coupled training
	$(BIN)/python benchmarks/certify_throughput.py
	$(BIN)/python benchmarks/training_cost.py

wheel: $(VENV)/.dev ## dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove .venv, caches and built files (run folders stay)
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/bin/python:
	@for python in $(CANDIDATES); do \
		if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then \
			echo "$(VENV): $$("$$python" --version)"; exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "error: no Python 3.11, 3.12 or 3.13 with the venv module among: $(CANDIDATES)" >&2; \
	echo "repair: install one (for example apt install python3.11-venv) or say make PYTHON=/path/to/python" >&2; \
	exit 2

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing phalanx and its dependencies (some minutes the first time)"
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "installing the tools of a contributor"
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@
