# make install | test | coverage | demo | lint | docs | clean.  Other interpreter: make PYTHON=python3.12 test.  One test: make test ARGS=tests/test_spin.py
PYTHON ?= python3
JOBS   ?= 2
ARGS   ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# Bytecode is kept: tests start many processes, and pytest would rewrite all assertions anew in each run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install test coverage demo lint ruff pyright imports docstrings docs docs-serve format clean

help:
	@echo "make demo     see it work: real DFT, training, tables, report"
	@echo "make test     the tests (ARGS=... goes to pytest)"
	@echo "make coverage the tests, and the lines of src/harmose that they run: at least 92 %"
	@echo "make lint     ruff, pyright, import layers, docstrings, the documentation's links"
	@echo "make docs     the documentation as a site, in site/ (make docs-serve shows it while you write)"
	@echo "make format   let ruff put the sources in order"
	@echo "make install  only make $(VENV) (the others do it as needed)"
	@echo "make clean    remove $(VENV) and caches"

install: $(STAMP)

# torch first, so that no other package chooses its version or build; then all else, exactly as locked.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "harmose needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make PYTHON=python3.11 install" >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (minutes, the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# One thread for each worker: more only fight for the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

test: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

coverage: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report=term --cov-report=xml $(ARGS)

demo: $(STAMP)
	$(BIN)/harmose demo

lint: ruff pyright imports docstrings docs

ruff: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

pyright: export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
pyright: $(STAMP)
	$(BIN)/pyright

imports: $(STAMP)
	$(BIN)/lint-imports --no-cache

docstrings: $(STAMP)
	$(BIN)/python tools/check_docstrings.py

# NO_MKDOCS_2_WARNING: the theme prints an advertisement otherwise.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet

docs-serve: $(STAMP)
	$(BIN)/mkdocs serve

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .coverage coverage.xml build site src/harmose.egg-info
