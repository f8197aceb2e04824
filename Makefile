# What a developer runs, and what CI runs: `make check`. Everything uses the Python of the active environment.
PYTHON ?= python

.PHONY: help install format lint types test test-all soak demo check bench-gpu

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

install:         ## the project and its tools into the active environment
	$(PYTHON) -m pip install -e ".[dev]"

format:          ## put the code in order
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint:            ## style and formatting
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:           ## the strict type checker
	$(PYTHON) -m pyright --pythonpath "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

test:            ## the default tests, some minutes on two cores
	$(PYTHON) -m pytest

test-all:        ## the slow ones as well
	$(PYTHON) -m pytest -m "not soak"

soak:            ## kills at random points and thousands of hostile inputs, an hour on two cores
	$(PYTHON) -m pytest -m soak --timeout=3600

demo:            ## train the demo of each task in a fresh folder, and see that it learned
	$(PYTHON) .ci/demo.py

bench-gpu:       ## all that is measured on a GPU, correctness first, in under nine minutes
	$(PYTHON) benchmarks/gpu.py

check: lint types test demo   ## what CI runs
