# make check      what CI runs: format, lint, types, tests
# make demo       a photograph there and back, on a fresh machine
# make bench      the table of rate, quality and speed: make bench KODAK=folder/of/kodak
# make PYTHON=python3.12 ...   another interpreter (3.10 to 3.13); the environment is .venv, `make clean` removes it

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.DEFAULT_GOAL := check
.PHONY: venv demo check format bench clean

venv: $(READY)

# torch first and alone: it is by far the largest, and nothing that comes later may choose another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[dev,eval]'
	touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(if $(KODAK),,$(error say where the pictures are: make bench KODAK=folder/of/kodak))
	$(BIN)/python benchmarks/kodak.py $(KODAK)

clean:
	rm -rf $(VENV) build dist .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
