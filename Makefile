# Every target sets up what it needs: the virtual environment is made, and made again, only when
# pyproject.toml has changed. PYTHON names the interpreter; ARGS goes to the command that a target runs, with
# `make bench` to the last; PHOTOS is a folder of .jpg files, since serving is measured on real ones.
PYTHON ?= python3
ARGS ?=
PHOTOS ?=

VENV := .venv
BIN := $(VENV)/bin
SERVING := $(VENV)/.serving
DEVELOPING := $(VENV)/.developing
MEASURING := $(VENV)/.measuring
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help install install-dev serve test lint format bench clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: $(SERVING) ## Make .venv/bin/stochcon able to serve; no torch.

install-dev: $(DEVELOPING) ## Add training, tests and checks; with torch.

serve: $(SERVING) ## Run the service with the model that ships, on http://127.0.0.1:8000.
	$(BIN)/stochcon serve $(ARGS)

# Files, not tests, are shared out, so that the tests of one file share their server and their model; in the
# order of their names, since some with few tests take long, and would be last. On two cores, two processes of
# two threads each would wait for each other.
test: $(DEVELOPING) ## Run every test on two processes.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(CI),--durations=20) $(ARGS)

lint: $(DEVELOPING) ## Check style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(if $(PHOTOS),$(MEASURING),$(DEVELOPING)) ## Measure search beside FAISS and, with PHOTOS=DIR, serving.
	$(BIN)/python -m benchmarks.search $(if $(PHOTOS),,$(ARGS))
	$(if $(PHOTOS),$(BIN)/python -m benchmarks.serving --photos $(PHOTOS) $(ARGS))

format: $(DEVELOPING) ## Mend style and format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and caches; data and runs stay.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Without python3-venv, Debian leaves half an environment behind: --clear and rm start from nothing.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name another, for example make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(SERVING): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[cpu]'
	@touch $@

$(DEVELOPING): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	@touch $(SERVING) $@

$(MEASURING): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev,bench]'
	@touch $(SERVING) $(DEVELOPING) $@
