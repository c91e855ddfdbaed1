# `make run` starts the server with a synthetic cart; `make test` runs all tests. Both set up what they need.

VENV := .venv
BIN := $(VENV)/bin
export PYTHON

.PHONY: help run test build lint bench fuzz soak ext clean

help:
	@echo "make run    set up, start the server and a synthetic cart, and print the addresses of the pages"
	@echo "make test   set up, then lint and all tests, the browser's included"
	@echo "make build  set up alone, into $(VENV)"
	@echo "make lint   ruff, mypy and the generated files"
	@echo "make bench  timings, as ratios to a bare loop of the same run"
	@echo "make fuzz   every parser under sanitizers (SECONDS_EACH=600)"
	@echo "make soak   the long tests: churn, kills, hours in virtual time"
	@echo "make clean  remove what was built"

build:
	@.ci/prepare build

run: build
	@exec $(BIN)/mediaserver demo

test:
	@.ci/prepare test
	@$(MAKE) --no-print-directory lint
	@.ci/test

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/tree && ../../$(BIN)/mypy -p mediaserver

SECONDS_EACH ?= 600
fuzz:
	@.ci/prepare test
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS_EACH)

soak:
	@.ci/prepare test
	$(BIN)/python -m pytest -m soak --timeout 3600

bench:
	@.ci/prepare build
	$(BIN)/python -m tests.bench

# The compiled extensions alone, in place. A lock keeps two builds apart.
ext:
	@mkdir -p build
	@flock build/.lock $(BIN)/python setup.py -q build_ext --inplace

clean:
	rm -rf build dist *.egg-info $(VENV)
	find codecs sfu recording mediaserver loadtest -name '*.so' -delete -o -name '*.c' -delete
