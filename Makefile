# make demo   the whole way on simulated radiographs, with a page to look at
# make test   style, types and tests
# make docs   write the generated parts of docs/ anew
# make train-model   train the model that comes with callus anew, and replace it (docs/models.md)
#
# Both set up .venv first: once, and again only when the pins change. PIP_FLAGS goes to pip, for instance
# PIP_FLAGS="--extra-index-url ADDRESS" for a torch without CUDA (see README.md).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_FLAGS ?=
BIN := .venv/bin

# What the model that comes with callus is trained on and begins from.
DATA ?= ../shared/data/fracatlas
WEIGHTS ?= imagenet
MODEL_RUN := runs/model
# Longer on whole pictures than the recipe's folds were; --precision bf16-mixed is faster on processors that have it
# (AVX-512 BF16, AMX).
TRAIN_FLAGS ?= --set whole.epochs=12

.PHONY: demo test lint types docs page train-model clean
.DELETE_ON_ERROR:

demo: .venv/.ready
	$(BIN)/callus demo --out runs/demo

# Each process takes whole files of tests, so that what a file sets up for all of its tests is made once.
# One that dies is not replaced: with loadfile the rest would then wait for ever for files that were done.
test: .venv/.ready page lint types
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src
	@cd web && set -- node_modules/@typescript/typescript-*/lib/tsc && if [ -x "$$1" ]; then echo tsc --noEmit && "$$1" --noEmit; \
		else echo "tsc: not here; make page installs it with what the page is built of"; fi

types: .venv/.ready
	$(BIN)/mypy

# Each step keeps what it has done: the command goes on where it was stopped. Nothing is set aside for a test: what the
# recipe is worth was measured on five folds before (docs/results.md).
train-model: .venv/.ready
	test -e $(MODEL_RUN)/data/manifest.parquet || $(BIN)/callus data audit $(DATA) --out $(MODEL_RUN)/data
	test -e $(MODEL_RUN)/split.parquet || $(BIN)/callus data split $(MODEL_RUN)/data/manifest.parquet --test 0 --val 0.1 \
		--out $(MODEL_RUN)/split.parquet
	$(BIN)/callus train --data $(MODEL_RUN)/split.parquet --recipe radiograph --weights $(WEIGHTS) \
		--out $(MODEL_RUN)/run $$(test ! -e $(MODEL_RUN)/run || echo --resume) $(TRAIN_FLAGS)
	$(BIN)/callus export $(MODEL_RUN)/run --name radiograph --card docs/radiograph-card.md \
		--out src/callus/models/radiograph.callus

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
