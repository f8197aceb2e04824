# What a developer runs, and what CI runs: `make check`. Everything uses the Python of the active environment.
PYTHON ?= python
RESULTS ?= benchmarks/results

.PHONY: help install format lint types test test-all soak demo check bench bench-compare bench-gpu

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

bench:           ## what must not grow, as ratios, in five minutes; RESULTS=FOLDER for another place than the stored ones
	$(PYTHON) benchmarks/startup.py --rounds 3 --out $(RESULTS)
	$(PYTHON) benchmarks/step.py --rounds 3 --steps 150 --out $(RESULTS)
	$(PYTHON) benchmarks/evaluation.py --rounds 3 --out $(RESULTS)
	$(PYTHON) benchmarks/cpu.py --rounds 3 --parts arithmetic --models cls_mobilenetv3,seg_resnet50_unet --out $(RESULTS)

bench-compare:   ## the same, and what got slower than the stored ratios
	$(MAKE) bench RESULTS=benchmarks/found
	$(PYTHON) benchmarks/compare.py --found benchmarks/found

bench-gpu:       ## all that is measured on a GPU, correctness first, in under nine minutes
	$(PYTHON) benchmarks/gpu.py

check: lint types test demo   ## what CI runs
