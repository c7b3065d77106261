# `make help` lists the targets. Set-up happens once, into .venv; it is repeated only when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help quickstart test lint clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

quickstart: $(INSTALLED)  ## simulate SAR ship chips, fine-tune the embedded backbone on them, classify new ones
	@test -f data/demo/manifest.parquet || $(BIN)/rsft prepare demo --root data/demo
	@$(BIN)/rsft finetune recipes/quickstart.yaml
	@$(BIN)/rsft predict runs/quickstart data/demo/chips/test -o runs/quickstart/predictions.gpkg --overwrite

test: $(INSTALLED)  ## every test, the command line included
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

lint: $(INSTALLED)  ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:  ## remove what quickstart made
	rm -rf data/demo runs/quickstart

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
