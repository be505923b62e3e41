# Every target makes its own .venv first, so any of them may be the first command in a fresh clone.
# The interpreter: PYTHON if given, else the one .venv was made with, else python3.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

VENV   := .venv
LOCKED := $(VENV)/locked
STAMP  := $(VENV)/stamp
RUN    := $(VENV)/bin/python -m
AM     := $(VENV)/bin/alliance-meta

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell p=$$(sed -n 's/^executable = //p' $(VENV)/pyvenv.cfg 2>/dev/null); \
            if [ -x "$$p" ]; then echo "$$p"; else echo python3; fi)
endif

# $(LOCKED) says which Python, in which folder; a .venv of another Python, moved or broken, is made anew.
WANTED := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) $(CURDIR)
FOUND  := $(shell test -x $(VENV)/bin/python && cat $(LOCKED) 2>/dev/null)
ifneq ($(WANTED),$(FOUND))
REMAKE := remake
else
REMAKE :=
endif

# A list of make is split at spaces, and a recipe is read by the shell: only plain names get into either.
plain   = $(shell find $(1) -type f ! -name '*[!A-Za-z0-9._-]*' ! -path '*/__pycache__/*' 2>/dev/null)
SOURCES := $(call plain,alliance_meta data)

NOTEBOOKS := $(patsubst notebooks/%.py,notebooks/build/%.ipynb,$(call plain,notebooks/*.py))

.PHONY: help docs reports test suite lint fuzz gallery notebooks explore reproduce data bench house validate lock clean distclean remake

help: ## Say what can be made
	@echo "Usage: make TARGET, or PYTHON=python3.13 make TARGET"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

# A program says what changed: make cannot hold names with spaces, and knows no file but by its time.
reports: $(STAMP) ## Build the reports that changed into reports/build/
	@$(VENV)/bin/python -I -S alliance_meta/reporting/made.py $(AM) reports

docs: $(STAMP) ## Build the documentation into docs/build/, offline; docs/*.md can be read as they are
	@$(VENV)/bin/python docs/make_site.py

# Both at once: mypy alone would keep one core.
test: $(STAMP) ## Check style and types and run the tests (ARGS="-k forest" chooses some)
	@$(MAKE) --no-print-directory --jobs=2 lint suite

# With its bytecode, whatever the environment says: tests start processes, and each would compile the package anew.
suite: $(STAMP)
	PYTHONDONTWRITEBYTECODE= $(RUN) pytest --numprocesses=logical --dist=worksteal $(ARGS)

lint: $(STAMP) ## Check style and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

fuzz: $(STAMP) ## Feed the command line made-up files (ARGS="--seconds 600 --seed 2")
	$(RUN) tests.security.fuzz $(ARGS)

gallery: $(STAMP) ## Draw every plot at k = 5, 30 and 300 into docs/build/gallery/ (ARGS="--only funnel")
	$(VENV)/bin/python tools/gallery.py $(ARGS)

notebooks: $(NOTEBOOKS) ## Run the notebooks that changed into notebooks/build/

explore: $(STAMP) ## Serve a page where rows and models are chosen (ARGS=sheet.csv)
	@$(AM) explore $(ARGS)

reproduce: $(STAMP) ## Compare our results with the printed ones, data set by data set
	$(AM) reproduce

data: $(STAMP) ## Check the shipped data against their descriptions and hashes
	$(AM) data check

bench: $(STAMP) ## Measure speed
	$(VENV)/bin/python benchmarks/run.py

house: $(STAMP) ## Measure the house: sizes, rooms, circles (ARGS=--trace counts the files an analysis enters)
	@$(VENV)/bin/python tools/house.py $(ARGS)

validate: $(STAMP) ## Run the long simulations and searches
	$(RUN) pytest -m slow $(ARGS)
	$(RUN) pytest --hypothesis-profile=long $(ARGS) tests/properties

# Known pins are kept; `make lock ARGS=--upgrade` moves them all.
lock: $(STAMP) ## Resolve the dependencies in pyproject.toml into requirements.lock
	$(RUN) uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate --group dev $(ARGS) --output-file requirements.lock pyproject.toml

clean: ## Remove what was built, but not .venv
	rm -rf reports/build notebooks/build benchmarks/build docs/build build dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find alliance_meta tests benchmarks docs notebooks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Remove .venv too
	rm -rf $(VENV)

notebooks/build/%.ipynb: notebooks/%.py $(SOURCES) $(LOCKED) | $(STAMP)
	@mkdir -p notebooks/build
	@$(VENV)/bin/python notebooks/tools/pair.py
	$(RUN) jupytext --quiet --to ipynb --execute --run-path notebooks --output $@ $<

GOAL := $(or $(firstword $(MAKECMDGOALS)),help)

define CHECK_PYTHON
python="$(PYTHON)"; \
if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    version=$$("$$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) \
        && problem="$$python is $$version" || problem="$$python does not run here"; \
    advice="Install one, then: PYTHON=python3.13 make $(GOAL)"; \
    for other in python3.13 python3.12 python3.11 python3.14; do \
        if "$$other" -c 'import ensurepip, venv' 2>/dev/null; then \
            advice="Try: PYTHON=$$other make $(GOAL)"; break; \
        fi; \
    done; \
    echo "alliance_meta needs Python 3.11 or newer; $$problem. $$advice" >&2; exit 1; \
fi; \
if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
    echo "$$python cannot make virtual environments: its venv module is missing." \
         "On Debian or Ubuntu: sudo apt install python3-venv, then: make $(GOAL)" >&2; exit 1; \
fi
endef

PIP := $(RUN) pip --disable-pip-version-check -qq

# Each stamp is written last: what was interrupted is done again from its beginning.
$(LOCKED): requirements.lock $(REMAKE)
	@$(CHECK_PYTHON)
	@echo "Setting up $(VENV) with Python $(firstword $(WANTED)) (about 1.5 GB, once)"
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@awk '/^[^ ]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock
	@{ $(PIP) install --require-hashes -r $(VENV)/uv.lock && \
	   $(RUN) uv pip install --quiet --python $(VENV)/bin/python --compile-bytecode \
	       --require-hashes -r requirements.lock; } || \
	 { echo "uv did not work here; installing with pip, which takes longer"; \
	   "$(PYTHON)" -m venv --clear $(VENV) && $(PIP) install --require-hashes -r requirements.lock; }
	@printf '%s\n' '$(subst ','\'',$(WANTED))' > $@

$(STAMP): pyproject.toml $(LOCKED)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
