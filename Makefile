# make demo   the whole way on simulated radiographs, with a page to look at
# make test   style, types and tests
# make docs   write the generated parts of docs/ anew
#
# Both set up .venv first: once, and again only when the pins change. PIP_FLAGS goes to pip, for instance
# PIP_FLAGS="--extra-index-url ADDRESS" for a torch without CUDA (see README.md).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_FLAGS ?=
BIN := .venv/bin

.PHONY: demo test lint types docs page clean
.DELETE_ON_ERROR:

demo: .venv/.ready
	$(BIN)/callus demo --out runs/demo

# Each process takes whole files of tests, so that what a file sets up for all of its tests is made once.
test: .venv/.ready page lint types
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready
	$(BIN)/mypy

# Installing builds the service's page; again where its sources have changed.
page: src/callus/service/web/index.html

src/callus/service/web/index.html: $(wildcard web/*.* web/src/* web/public/*) | .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --no-deps -e .

docs: .venv/.ready
	$(BIN)/python docs/generate.py

.venv/.ready: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "callus needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[train,dev]'
	@touch $@

clean:
	rm -rf .venv runs dist web/node_modules src/callus/service/web .mypy_cache .ruff_cache .pytest_cache .hypothesis
