# `make` lists the targets. VENV=path selects the virtual environment, `VENV=` (empty) the active one.
VENV ?= .venv
MODEL ?= solov2
FILES ?= 10000
WORKERS ?= auto
PYTHON ?=
PY := $(if $(VENV),$(VENV)/bin/python,$(shell command -v python || command -v python3))
# A file's tests stay together, as they share fixtures; tests/conftest.py sorts the files. A worker takes up to 5 GB,
# hence at most 4 by default.
PYTEST := $(PY) -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
export VENV PYTHON

.DEFAULT_GOAL := help
.PHONY: help env demo test fast hostile lint format check clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

env:  ## install everything into .venv (VENV=path: elsewhere; VENV=: into the active environment)
	@bash scripts/setup_env.sh

demo: env  ## train a small model on generated images and draw its detections (MODEL=solov2)
	@$(PY) -m centermask_solo.cli demo --model $(MODEL)

test: env  ## run all tests, one worker per core (WORKERS=n: n workers, 0: none)
	$(PYTEST)

fast: env  ## run the tests that are not marked slow
	$(PYTEST) -m "not slow"

hostile: env  ## run all of tests/hostile (FILES=n: mutate n files, 10000 by default)
	HOSTILE_FILES=$(FILES) $(PYTEST) tests/hostile

lint: env  ## check formatting, style and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: env  ## fix formatting and style with ruff
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

check: lint test  ## lint and test: must pass before a change is merged

clean:  ## remove build outputs and caches; keep .venv, data and results
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
