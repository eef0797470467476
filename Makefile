# make check      what CI runs: format, lint, types, tests, and what works without torch in an environment without it
# make demo       a photograph there and back, on a fresh machine: the base install, without torch
# make bench      the table of rate, quality and speed: make bench KODAK=folder/of/kodak
# make PYTHON=python3.12 ...   another interpreter (3.10 to 3.14); environments are .venv and .venv-base, `make clean` removes them

PYTHON ?= python3
VENV := .venv
BASE := .venv-base
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
BASE_PIP := $(BASE)/bin/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
BASE_READY := $(BASE)/.ready

.DEFAULT_GOAL := check
.PHONY: venv demo check format bench clean

venv: $(READY)

# torch first and alone: it is by far the largest, and nothing that comes later may choose another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[dev,eval]'
	touch $@

$(BASE_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BASE)
	$(BASE_PIP) install -c constraints.txt -e .
	touch $@

demo: $(BASE_READY)
	$(BASE)/bin/python examples/demo.py

check: $(READY) $(BASE_READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest
	$(BASE_PIP) install -q -c constraints.txt pytest
	$(BASE)/bin/python -m pytest --noconftest tests/test_base.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(if $(KODAK),,$(error say where the pictures are: make bench KODAK=folder/of/kodak))
	$(BIN)/python benchmarks/kodak.py $(KODAK)

clean:
	rm -rf $(VENV) $(BASE) build dist .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
