# `make help` lists the targets. The first target installs rsft into .venv, again only if pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help quickstart test lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

quickstart: $(INSTALLED)  ## simulate SAR ship chips, fine-tune the shipped backbone, classify the test chips
	@test -f data/demo/manifest.parquet || $(BIN)/rsft prepare demo --root data/demo
	@$(BIN)/rsft finetune recipes/quickstart.yaml
	@$(BIN)/rsft predict runs/quickstart data/demo/chips/test -o runs/quickstart/predictions.gpkg --overwrite

test: $(INSTALLED)  ## run all tests, including the command line
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

lint: $(INSTALLED)  ## run ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:  ## remove the outputs of quickstart
	rm -rf data/demo runs/quickstart

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
