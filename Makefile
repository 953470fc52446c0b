# Every target first builds .venv where it is missing or out of date. `make help` lists the targets.
PYTHON ?= python3
STAMP := .venv/.stamp
BIN := .venv/bin
# Compiled once here, not by the first processes of a study, nor by each where bytecode is not to be written.
# The Dockerfile installs with this very line (tests/test_setup.py compares them).
INSTALL := uv pip install --compile-bytecode --constraints constraints.txt --requirements pyproject.toml

# Bytecode is written for the tests: each of their many processes would else compile our files for itself.
TESTS := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test long check lint bench ui chaos docker postgres browser slurm clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## build .venv: this project, editable, with its pinned dependencies and development tools

quickstart: $(STAMP) ## run the quickstart study, resume it, or print it again
	@if [ -f studies/quickstart/study.yaml ]; then $(BIN)/robust-study resume studies/quickstart; else $(BIN)/robust-study launch quickstart; fi

test: $(STAMP) ## run the test suite
	@$(TESTS)

long: $(STAMP) ## run the tests that take long: whole studies, clusters whose nodes are killed, networks that are trained
	@$(TESTS) -m "long and not chaos"

check: lint ## lint, and run the fast tests (a minute and a half)
	@$(TESTS) -m "not (slow or long or e2e or cluster or chaos or browser or docker or postgres or slurm)"

lint: $(STAMP) ## check style, types, the Dockerfile and scripts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/shellcheck study/cluster/templates/slurm.sbatch tests/helpers/services/stand_in_images.sh

bench: $(STAMP) ## run every benchmark
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

ui: $(STAMP) ## open MLflow's UI on the studies of this folder
	@$(BIN)/robust-study ui

chaos: $(STAMP) ## kill running studies, fill their disks, check that nothing is lost (about two and a half hours)
	@$(BIN)/python -m pytest -m chaos -o faulthandler_timeout=5400

docker: $(STAMP) ## build the image, run studies in it and by compose (a quarter of an hour; needs root and dockerd)
	@$(BIN)/python -m pytest -m docker -o faulthandler_timeout=5400

postgres: $(STAMP) ## test tracking and search on PostgreSQL (minutes; needs PostgreSQL)
	@VIRTUAL_ENV=.venv $(BIN)/$(INSTALL) --extra dev --extra postgres
	@$(BIN)/python -m pytest -m postgres

browser: $(STAMP) ## test the report and MLflow's UI in a headless browser (minutes; needs chromium)
	@VIRTUAL_ENV=.venv $(BIN)/$(INSTALL) --extra dev --extra browser --extra dashboard
	@$(BIN)/python -m pytest -m browser

slurm: $(STAMP) ## test the batch script in a real Slurm (minutes; needs Slurm, munge and root)
	@$(BIN)/python -m pytest -m slurm -o faulthandler_timeout=2700

clean: ## remove .venv and caches, keep studies and MLflow's files
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build ./*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp holds the folder it was made in: an environment that was copied or moved points at the old place.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "robust-study needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Choose another: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	@# pip separates several places by spaces, uv by commas.
	@if [ -n "$$PIP_FIND_LINKS" ]; then UV_FIND_LINKS=$$(echo "$$PIP_FIND_LINKS" | tr -s ' ' ','); export UV_FIND_LINKS; fi; \
	set -ex; export VIRTUAL_ENV=.venv; \
	$(BIN)/$(INSTALL) --extra dev; \
	$(BIN)/uv pip install --no-deps --editable .
	@printf '%s' "$(CURDIR)" > $@
