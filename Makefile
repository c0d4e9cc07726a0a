PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
TESTED = $(VENV)/.tested

.PHONY: demo test test-all lint docs bench clean

demo: $(READY)  ## install, train a small network on digits, explore it, show the frontier
	$(BIN)/explore run

test: lint  ## install, check style and types, run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: lint  ## the tests marked slow too
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or not slow"

lint: $(TESTED)
	$(BIN)/ruff check explorer spaces tests conf docs/conf.py examples
	$(BIN)/ruff format --check explorer spaces tests conf docs/conf.py examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(READY)  ## the pages, without a warning
	$(BIN)/pip install -q -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . docs/_build/html
	@echo docs/_build/html/docs/index.html

bench: $(READY)  ## the benchmark tables
	$(BIN)/pip install -q -c constraints.txt -e ".[bench]"
	$(BIN)/explore bench

clean:
	rm -rf $(VENV) build docs/_build *.egg-info

# the constraints pin what was tested; torch goes first, so that no other package pulls a build with CUDA
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# with the libraries that tests run against
$(TESTED): $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,docs,grpc,multirun,onnx,rdb,zoo]"
	touch $@
