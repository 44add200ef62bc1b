# Every target makes what it needs first: on a fresh machine `make table` does everything.
CONFIG ?=
WORK   ?=
DEVICE ?=
JOBS   ?= 2

VENV   := .venv
FACETS := $(VENV)/bin/facets
RUN    := $(VENV)/bin/python -m
FLAGS  := $(if $(CONFIG),-c $(CONFIG)) $(if $(WORK),--work $(WORK))
DEVICE_FLAG := $(if $(DEVICE),--device $(DEVICE))
PACKAGES := stores extract temporal pipeline

# Without cached bytecode every command would compile torch's sources anew, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help features sweep table test test-faults check lint types bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  variables: CONFIG=file.yaml or a packaged name, WORK=folder, DEVICE=auto|cpu|cuda, JOBS=test processes"

# The environment is made from uv.lock: with uv where it is, else with a uv from PyPI in a venv of its own.
$(VENV)/.made: uv.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then uv sync --locked; else \
		test -x $(VENV)-uv/bin/uv || { python3 -m venv $(VENV)-uv && $(VENV)-uv/bin/pip install --quiet uv; }; \
		$(VENV)-uv/bin/uv sync --locked; fi
	@touch $@

# Exit code 3 means that some clips or runs failed: they are listed, and the rest goes on into the table.
features: $(VENV)/.made  ## corpus -> feature and label stores (resumes)
	$(FACETS) features $(FLAGS) $(DEVICE_FLAG) || test $$? -eq 3

sweep: features  ## train every run of the sweep that has no result yet (resumes)
	$(FACETS) sweep $(FLAGS) $(DEVICE_FLAG) || test $$? -eq 3

table: sweep  ## everything, then the results table
	$(FACETS) table $(FLAGS)

test: $(VENV)/.made  ## the test suite
	$(RUN) pytest -n $(JOBS) --dist worksteal

test-faults: $(VENV)/.made  ## the whole fault-injection campaigns: kills, failing disks, damaged files (half an hour)
	FACETS_FAULTS=full $(RUN) pytest tests/faults tests/stores/test_state_machine.py -o faulthandler_timeout=1500

lint: $(VENV)/.made
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.made
	$(RUN) mypy

check: lint types  ## lint, formatting and types

bench: sweep  ## side-by-side measurements, ratios as JSON
	@for script in benchmarks/*.py; do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

# Never the whole of work/: extraction of a real corpus may have taken days.
clean:  ## delete the packaged experiments' work and caches; keep .venv and all other work
	rm -rf work/demo work/subsets work/smoke .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
