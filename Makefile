# Everything runs in .venv, on the installed package: what is tested is what ships.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find e4srec_hf modeling hub_cards -name '*.py' -o -name '*.md' -o -name '*.json' -o -name 'py.typed')

# The models of the demo and the tests are tiny: a second thread gains little, and costs much on a busy machine.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test lint record clean
.DEFAULT_GOAL := help

help:  ## Show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/.package  ## Train on made-up readers, print one table, load the result without this package
	$(BIN)/python examples/train.py
	$(BIN)/python examples/load_without_package.py outputs/demo

test: lint  ## Lint, check types, run every test
	$(BIN)/pytest

lint: .venv/.package  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

record: .venv/.package  ## After a change in modeling/: record its hashes as those of the present version
	$(BIN)/python -P -m e4srec_hf.verify --record e4srec_hf/verify/released_code.json

clean:  ## Remove .venv and what was built
	rm -rf .venv build *.egg-info outputs

.venv/.dependencies: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt '.[dev]'
	touch $@

.venv/.package: .venv/.dependencies $(SOURCES) README.md
	rm -rf build *.egg-info
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	rm -rf build *.egg-info
	touch $@
