# Starts from Python 3.11+, git and make. Everything installed goes into .venv; remove it with `make clean`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PROMPT ?= a red apple, flat style

.DEFAULT_GOAL := help
.PHONY: help picture install install-dev test test-slow check book figures format clean

help:            ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

picture: install ## Install Rein into .venv and make a picture: make picture PROMPT="two owls, noto style"
	$(BIN)/rein generate "$(PROMPT)"

install: $(VENV)/.installed         ## Install Rein into .venv

install-dev: $(VENV)/.installed-dev ## Install Rein into .venv with what its tests need

test: check book ## Check the style and types, build the book, and run the tests
	$(BIN)/python -m pytest

test-slow: install-dev ## Run the long tests
	$(BIN)/python -m pytest -m slow

check: install-dev ## Check style and types only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

book: install-dev ## Build the book into site/, any warning being an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

figures: install-dev ## Make the book's figures, the gallery and the notebooks anew from the embedded model
	$(BIN)/python docs/figures.py
	$(BIN)/python docs/gallery.py
	$(BIN)/python docs/notebooks.py

format: install-dev ## Put the code into the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:           ## Remove .venv and the tools' caches
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache build src/rein.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rein needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Choose one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.installed
