# Every target alone, on a machine with python3.11 or newer, pip and make, builds .venv if it is missing or stale.

PYTHON ?= python3
ALGORITHM ?= ippo
MAP ?= 3m
SEED ?= 0
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(BIN)/uv --quiet --system-certs

.PHONY: setup sc2 train test test-slow lint format bench docs ui build lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "error: PYTHON=$(PYTHON) is Python %d.%d; 3.11 to 3.13 is needed" % sys.version_info[:2])'
	@echo "setting up $(VENV) ..."
	@test -e $@ -a -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@  # what is interrupted begins anew
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(UV) pip sync --python $(BIN)/python --compile-bytecode requirements.lock
	@$(UV) pip install --python $(BIN)/python --no-deps --editable .
	@touch $@

sc2: $(STAMP)  ## smac for StarCraft II, which is not on the package index; what it needs is here already
	@$(UV) pip install --python $(BIN)/python --no-deps 'smac @ git+https://github.com/oxwhirl/smac.git'

train: $(STAMP)  ## IPPO on 3m; ALGORITHM=mappo, MAP=2s3z, SEED=1, ARGS='--root_dir=...'
	@$(BIN)/python -m launch.train --gin_file=$(ALGORITHM).gin --gin_file=maps/$(MAP).gin --seed=$(SEED) $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile $(ARGS)

test-slow: $(STAMP)  ## learning checks of minutes each
	@$(BIN)/python -m pytest -m slow -s $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP)  ## ARGS=--table=FILE.md puts the speeds into a table
	@for what in env collect train smac_api; do $(BIN)/python -m launch.benchmark --what=$$what --map=$(MAP) $(ARGS) || exit; done

docs: $(STAMP)  ## the site, in docs/_build/html
	@rm -rf docs/api docs/_build docs/_outside  # pages of modules that are no more
	@$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html $(ARGS)

ui: $(STAMP)  ## MLflow on the local store, at http://127.0.0.1:5000, without the job runners that take 2 GB
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --workers 1 \
		--backend-store-uri sqlite:///mlflow_artifacts/mlflow.db $(ARGS)

build: $(STAMP)  ## the wheel and the source distribution, in dist/
	@$(BIN)/hatchling build --directory dist

lock: $(STAMP)  ## after a change of dependencies in pyproject.toml
	@$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--group dev --group docs --extra sc2 --extra worlds pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) dist docs/_build docs/api docs/_outside .pytest_cache .mypy_cache .ruff_cache .hypothesis
