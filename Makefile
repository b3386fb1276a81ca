# A thin front for the scripts in scripts/, which work without make too (see README.md).
# `make` alone lists the targets.

VENV := .venv
PY := $(VENV)/bin/python
PORT ?= 8000
NB ?=
PART ?=
CHANGED ?=
DEVICE ?=

# The first of these that is there; another can be named: make book PYTHON=python3.12
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '' 2>/dev/null && { echo $$p; break; }; done)

INSTALLED := $(VENV)/.installed
PAGE_SCRIPTS := $(if $(shell command -v npm),node_modules/.installed)

# A folder that was moved or copied still has genlib linked to its old place: install again.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test execute twice lab serve lock format bench clean setup page-scripts

help: ## list the targets
	@echo "Generative Models, Verified"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: setup page-scripts ## install what is missing and build the site into _build/html
	@$(PY) scripts/build.py

test: setup page-scripts ## check everything; PART=units: one part; NB=flows: one lesson; CHANGED=1: changed lessons
	@$(PY) scripts/test.py $(PART) $(if $(NB),--lesson $(NB)) $(if $(filter-out 0,$(CHANGED)),--changed)

execute: setup ## run every notebook and store its outputs; NB=flows: one; DEVICE=cuda: try them there, store nothing
	@$(PY) scripts/execute.py $(NB) $(if $(DEVICE),--device $(DEVICE))

twice: setup ## run every cell of every notebook twice in a row, store nothing; NB=flows: one notebook
	@$(PY) scripts/execute.py $(NB) --twice

lab: setup ## open JupyterLab on notebooks/
	@$(PY) -m jupyterlab notebooks

serve: setup ## serve the built site on http://localhost:8000 (PORT=8001: elsewhere)
	@test -f _build/html/index.html || $(MAKE) --no-print-directory book
	@echo "==> serving on http://localhost:$(PORT) (stop with Ctrl-C)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lock: $(PY) ## resolve the dependencies of pyproject.toml afresh into requirements.lock
	@$(PY) scripts/lock.py

format: setup ## lay out the code and repair what ruff can repair by itself
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: setup page-scripts ## print the time of each notebook, of the build and of each part of the tests
	@$(PY) benchmarks/speed.py

clean: ## remove the built site and the caches (.venv and node_modules stay)
	rm -rf _build build *.egg-info .test-passed .pytest_cache .ruff_cache .hypothesis notebooks/.ipynb_checkpoints notebooks/.ruff_cache
	find genlib tests scripts book benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(INSTALLED)

page-scripts: $(PAGE_SCRIPTS)
ifeq ($(PAGE_SCRIPTS),)
	@echo "==> npm is not here: the pages will fetch their scripts from public addresses"
endif

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: https://www.python.org/downloads/"; exit 1; }
	@echo "==> making $(VENV) with $(PYTHON) ($$($(PYTHON) -V))"
	@$(PYTHON) -m venv $(VENV)

# The lock holds exact versions; --no-deps leaves the lower bounds of pyproject.toml to it.
$(INSTALLED): requirements.lock pyproject.toml | $(PY)
	@echo "==> installing from the lock (the first time takes a few minutes)"
	@$(PY) -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps -e .
	@printf '%s' '$(CURDIR)' > $@

# Without the network the book is still built: the pages then fetch their scripts from public addresses.
node_modules/.installed: package-lock.json
	@echo "==> installing the pages' scripts with npm"
	@if npm ci --no-audit --no-fund --loglevel=error >/dev/null; then touch $@; \
	else echo "==> npm could not install: the pages will fetch their scripts from public addresses"; fi
