# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
export PIP_PROGRESS_BAR ?= off

.PHONY: demo test test-all modal-matrix check bench bench-all docs lock clean

## demo: the main job end to end on simulated games (about 3 minutes on 2 cores, installation included)
demo: $(VENV)/.train
	@PATH="$(abspath $(BIN)):$$PATH" sh demo.sh

## test: everything but what takes minutes by itself, in parallel (about 10 minutes on 2 cores)
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow'

## test-all: also what is marked slow: every trouble on the loopback plane of Modal, programs of one's own with torch
test-all: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

## modal-matrix: the tests of runs on Modal under the lowest and the newest client of it that pyproject.toml allows
modal-matrix: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/plane/matrix.py

## check: format, lint, types (generated pages are checked by the tests)
check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## bench: the figures of docs/performance.md, side by side with peers (BENCH=--quick: a few minutes); a GPU: docs/gpu-checks.md
BENCH ?=
bench: $(VENV)/.test
	$(BIN)/python benchmarks $(BENCH)

## bench-all: the other benchmarks as well: start-up, preflight, lists of runs, the supervisor, estimates
OTHERS := encode fuzz list_runs memory_cpu memory_shipped preflight_many report_overhead startup supervisor_overhead time_estimate wild
bench-all: bench
	@for name in $(OTHERS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

## docs: regenerate what is made from something else: the pages of the rules, the JSON of the data files
docs: $(VENV)/.test
	$(BIN)/python -m runctl.shipped
	$(BIN)/python -m runctl.rules.pages docs/rules
	$(BIN)/python tests/test_gallery.py

## lock: pin what is installed now (torch without its local version)
lock: $(VENV)/.test
	$(BIN)/python -m pip freeze --exclude-editable --exclude runctl --exclude pip --exclude setuptools \
	  | sed 's/^\(torch==[^+]*\)+.*/\1/' > requirements.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "runctl needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null \
	  || { $(PYTHON) -m pip install -q --user virtualenv && $(PYTHON) -m virtualenv -q $(VENV); } \
	  || { echo "cannot make a virtual environment: install python3-venv"; exit 2; }

$(VENV)/.train: pyproject.toml requirements.lock | $(VENV)/bin/python
	@echo "installing runctl with the trainer (torch, CPU or CUDA as the index offers) ..."
	@$(PIP) install -c requirements.lock -e '.[train]'
	@touch $@

$(VENV)/.test: pyproject.toml requirements.lock | $(VENV)/bin/python
	@echo "installing runctl with everything that the tests use ..."
	@$(PIP) install -c requirements.lock -e '.[train,melee,wandb,test]'
	@touch $@ $(VENV)/.train

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
