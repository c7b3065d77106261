# `make help` lists the targets. The first target installs rsft into .venv, again only if pyproject.toml changes. The
# quick start installs what rsft requires; the other targets add what tests and tools need, the extra `dev`.
PYTHON ?= python3
BIN := .venv/bin
CORE_INSTALLED := .venv/.core-installed
INSTALLED := .venv/.installed

# An empty value lets Python keep compiled files, which hundreds of processes read.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help quickstart test test-fast test-all coverage mutation docs test-tutorials fuzz test-lowest test-wheel \
	test-foreign test-qgis qgis-plugin sbom lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

quickstart: $(CORE_INSTALLED)  ## simulate SAR ships, fine-tune the shipped backbone, and map a new scene in the report
	@test -f data/demo/manifest.parquet -a -f data/demo-scene/scene.tif || \
		$(BIN)/rsft prepare demo --root data/demo --scene data/demo-scene --overwrite
	@$(BIN)/rsft audit data/demo
	@$(BIN)/rsft finetune recipes/quickstart.yaml
	@$(BIN)/rsft predict runs/quickstart data/demo-scene/scene.tif --detect --land data/demo-scene/land.gpkg \
		--truth data/demo-scene/ships.gpkg -o runs/quickstart/scene.gpkg --picture runs/quickstart/map.png \
		--html runs/quickstart/review.html --chips runs/quickstart/chips --overwrite
	@$(BIN)/rsft report runs/quickstart --map runs/quickstart/scene.gpkg

PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --durations=25

test: $(INSTALLED)  ## run the tests, including whole jobs of the command line
	@$(PYTEST) -m "not exhaustive"

test-fast: $(INSTALLED)  ## run the quick tests, one case of each
	@$(PYTEST) --first-cases -m "not slow and not exhaustive"

test-all: $(INSTALLED)  ## run all tests, also the long ones
	@$(PYTEST)

coverage: $(INSTALLED)  ## run the tests, and print the share of lines of rsft that they run
	@COVERAGE_CORE=$$($(BIN)/python -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')") \
		$(PYTEST) -m "not exhaustive" --cov=rsft --cov-report=term:skip-covered

mutation: $(INSTALLED)  ## change COUNT random lines of rsft one by one (begin with SEED), and list changes that no test notices
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.maintenance.mutation --seed $(SEED) --count $(COUNT)

SEED ?= 1
COUNT ?= 20000
CLASS ?=

fuzz: $(INSTALLED)  ## read COUNT mutated inputs of every class (or CLASS=stores), begin with SEED
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seed $(SEED) --count $(COUNT) --class "$(CLASS)"

# The tests of what a fine-tuning needs. They run with other versions of the packages than those of constraints.txt.
CORE_TESTS := tests/recipe tests/metrics tests/peft tests/data tests/backbones tests/models tests/training
RUN_CORE_TESTS = OMP_NUM_THREADS=1 $(1)/bin/pytest -n auto --dist worksteal --first-cases -m "not exhaustive" $(TESTS)

# KEEP: packages that stay at their newest version, such as a CPU build of torch. TESTS: the tests to run. The oldest
# versions have wheels for Python 3.11 and 3.12 only.
KEEP ?=
TESTS ?= $(CORE_TESTS)
LOWEST := .venv-lowest

test-lowest:  ## run the tests of the core with the lowest versions that pyproject.toml allows (KEEP="torch torchvision")
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m tools.maintenance.lowest_bounds $(KEEP:%=--keep %) > $(LOWEST)/constraints.txt
	@$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/constraints.txt \
		--editable '.[test]'
	@$(call RUN_CORE_TESTS,$(LOWEST))

# Two environments of their own: one builds, one holds nothing but the wheel and what it requires. They are made anew at
# every call. CONSTRAINTS= installs the newest versions, as `pip install rsft` does. PIP_ARGS: more arguments for pip,
# such as an index with CPU builds of torch.
PIP_ARGS ?=
WHEEL := .venv-wheel
WHEEL_RSFT := ../run/bin/rsft
WHEEL_PIP = $(WHEEL)/run/bin/pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) $(PIP_ARGS)

test-wheel:  ## build the package, install the wheel in an empty environment, run a short quick start and the tests of the core
	@rm -rf $(WHEEL) && mkdir $(WHEEL)
	@$(PYTHON) -m venv $(WHEEL)/build && $(PYTHON) -m venv $(WHEEL)/run
	@$(WHEEL)/build/bin/pip install --quiet --disable-pip-version-check $(PIP_ARGS) build twine
	@$(WHEEL)/build/bin/python -m build --outdir $(WHEEL)/dist .
	@$(WHEEL)/build/bin/twine check --strict $(WHEEL)/dist/*
	@$(WHEEL_PIP) $(WHEEL)/dist/*.whl
	@$(WHEEL)/run/bin/pip check
	@mkdir $(WHEEL)/work && cd $(WHEEL)/work && \
		$(WHEEL_RSFT) prepare demo --root data/demo && $(WHEEL_RSFT) finetune quickstart train.epochs=2 && \
		$(WHEEL_RSFT) predict runs/quickstart data/demo -o predictions.gpkg && $(WHEEL_RSFT) bundle verify runs/quickstart
	@$(WHEEL_PIP) "$$(ls $(WHEEL)/dist/*.whl)[test]"
	@$(call RUN_CORE_TESTS,$(WHEEL)/run)

FOREIGN := .venv-foreign

test-foreign: $(INSTALLED)  ## load all exports with timm, transformers, peft and mlflow, in an environment without rsft
	@$(PYTHON) -m venv $(FOREIGN)
	@$(FOREIGN)/bin/pip install --quiet --disable-pip-version-check $(PIP_ARGS) timm transformers peft mlflow onnxruntime
	@rm -rf $(FOREIGN)/exports
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.foreign_exports make $(FOREIGN)/exports
	@OMP_NUM_THREADS=1 $(FOREIGN)/bin/python tests/foreign_exports.py check $(FOREIGN)/exports

test-qgis: $(INSTALLED)  ## test the plug-in in QGIS without a window
	@command -v qgis_process > /dev/null || { \
		echo "qgis_process is missing. Install QGIS, on Debian and Ubuntu: apt install qgis python3-qgis"; exit 1; }
	@RSFT_TEST_QGIS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --durations=25 tests/qgis

qgis-plugin: $(INSTALLED)  ## pack the plug-in for QGIS: dist/rsft_qgis.zip
	@$(BIN)/python -m tools.maintenance.qgis_plugin dist/rsft_qgis.zip

sbom: $(INSTALLED)  ## list the installed packages with versions and licenses (CycloneDX): dist/rsft.cdx.json
	@mkdir -p dist
	@version=$$($(BIN)/python -c "import rsft; print(rsft.__version__)") && \
		sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > dist/pyproject.toml
	@$(BIN)/cyclonedx-py environment --pyproject dist/pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/rsft.cdx.json $(BIN)/python

lint: $(INSTALLED)  ## run ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

DOCS_INSTALLED := .venv/.docs-installed

# NOTEBOOKS=off builds the pages in half a minute, without running the tutorials
NOTEBOOKS ?= cache

docs: $(DOCS_INSTALLED)  ## build the documentation site, and run its tutorials: docs/_build/html/index.html
	@PATH="$(CURDIR)/$(BIN):$$PATH" RSFT_DOCS_NOTEBOOKS=$(NOTEBOOKS) \
		$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html

test-tutorials: $(DOCS_INSTALLED)  ## run the tutorials as tests, with the time of each
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -p nbmake --nbmake --nbmake-timeout=900 --durations=0 docs/tutorials

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) --editable '.[docs]'
	@touch $@

clean:  ## remove the outputs of quickstart
	rm -rf data/demo data/demo-scene runs/quickstart

# CONSTRAINTS: the tested versions of all packages; empty installs the newest ones.
CONSTRAINTS ?= constraints.txt
# Compiling what is imported, at the first import, takes half a minute less than compiling all packages here.
PIP_INSTALL = $(BIN)/pip install --no-compile --disable-pip-version-check $(CONSTRAINTS:%=--constraint %)

$(CORE_INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) --editable .
	@touch $@

$(INSTALLED): $(CORE_INSTALLED)
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@
