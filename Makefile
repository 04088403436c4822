# `make` lists the targets. VENV=path chooses the virtual environment, `VENV=` (empty) the active one.
VENV ?= .venv
MODEL ?= solov2
PYTHON ?=
PY := $(if $(VENV),$(VENV)/bin/python,$(shell command -v python || command -v python3))
export VENV PYTHON

.DEFAULT_GOAL := help
.PHONY: help env demo test fast lint format check clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

env:  ## install everything that is needed into .venv (VENV=path: there; VENV=: into the active environment)
	@bash scripts/setup_env.sh

demo: env  ## train a small model on generated images and draw what it finds (MODEL=solov2, or another)
	@$(PY) -W ignore::FutureWarning -m centermask_solo.cli demo --model $(MODEL)

test: env  ## all tests
	$(PY) -m pytest

fast: env  ## the tests that take seconds
	$(PY) -m pytest -m "not slow"

lint: env  ## formatting, style and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: env  ## let ruff repair formatting and style
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

check: lint test  ## lint and test: what has to pass before a change goes in

clean:  ## remove what the tools wrote; keeps .venv, data and results
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
