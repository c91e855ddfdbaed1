PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: ext
# The compiled extensions alone, in place. A lock keeps two builds apart.
ext:
	@mkdir -p build
	@flock build/.lock $(BIN)/python setup.py -q build_ext --inplace
