# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
CORES ?= $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)))")
BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
# One numerical thread a process: the studies fix their own number, and tests run side by side.
export OMP_NUM_THREADS = 1
export MPLBACKEND = Agg

.PHONY: demo test lint bench clean container check-python

demo: .venv/.base
	$(BIN)/snakemake --cores $(CORES) --quiet rules
	@echo "Report: $(CURDIR)/results/demo/report/index.html"

test: lint
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal -m "not workflow"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m workflow

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

check-python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "Corticode needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }

# torch first: with it installed no other package asks for another build of it.
.venv/.base: pyproject.toml constraints.txt | check-python
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	touch $@

.venv/.dev: .venv/.base
	$(PIP) -e ".[dev,cluster]"
	touch $@

# For `snakemake --sdm apptainer`: an image with the pinned environment.
container: workflow/corticode.sif
workflow/corticode.sif: workflow/corticode.def constraints.txt pyproject.toml
	apptainer build --force $@ workflow/corticode.def

clean:
	rm -rf results .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
