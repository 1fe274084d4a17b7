# The commands of the project; `make` alone lists them. Needs make and Python 3.11-3.13, nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --custom-compile-command "make lock" --all-extras

.DEFAULT_GOAL := help
.PHONY: help run test collect check setup chaos simulate bench pages-load cover format format-check lint types imports deps lock-check lock clean
MAKEFLAGS += --no-print-directory
unexport PYTHONDONTWRITEBYTECODE  # images set it; without bytecode each of some hundred processes of the tests compiles anew

help: ## list these commands
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "%-20s %s\n", $$1, $$2 }'

run: $(VENV)/.run.stamp ## start the scheduler (Ctrl-C drains and stops it)
	@$(BIN)/python scripts/run_scheduler.py

test: setup ## run all tests (they mostly wait, so more of them than cores run at once)
	@$(BIN)/python -m pytest -n 4 --dist worksteal

collect: setup # bytecode of the tests: on a fresh clone each of the four workers would make all of it
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null

check: format-check lint types imports deps lock-check test ## everything CI runs

setup: $(VENV)/.dev.stamp ## make .venv and install what is locked, tools included

chaos: setup ## a real run that is hurt on purpose (SECONDS=600 SEED=1 DB=sqlite|postgresql ARGS=--stock)
	@$(BIN)/python -m scripts.chaos --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) --db $(or $(DB),sqlite) $(ARGS)

simulate: setup ## months of schedulers on virtual time, hurt by seed and judged by a model (SEEDS=200 DAYS=90 FIRST=1 ARGS=--shrink)
	@$(BIN)/python -m scripts.simulate --seeds $(or $(SEEDS),200) --days $(or $(DAYS),90) --first $(or $(FIRST),1) $(ARGS)

bench: setup ## Atlas beside its peers, and the README's table of it (QUICK=1 ONLY=drain,herd PEERS=none|some|all)
	@$(BIN)/python -m scripts.bench --only '$(ONLY)' --peers $(or $(PEERS),some) $(if $(QUICK),--quick)

pages-load: setup ## what the pages cost at 10,000 jobs and 1,000,000 tasks, and whether they delay a start
	@$(BIN)/python -m scripts.pages_load $(ARGS)

cover: setup ## run all tests and show which branches they miss
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

format: setup ## format the code and apply safe fixes
	@$(BIN)/ruff check --fix-only --exit-zero && $(BIN)/ruff format

format-check: setup
	@$(BIN)/ruff format --check

lint: setup
	@$(BIN)/ruff check

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports

deps: setup
	@$(BIN)/deptry .

lock-check: # the lock names versions and hashes; where to get them from is each machine's own setting
	@! grep -nE '^ *--(index|extra-index|find-links|trusted)|^-[if]|://' requirements.lock requirements-dev.lock scripts/bench/requirements.lock \
		|| { echo 'The lock files must not hold an address.' >&2; exit 1; }

lock: setup ## lock anew after a change in pyproject.toml (UPGRADE=1 takes the newest versions)
	@$(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) $(LOCK) --group build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) $(LOCK) --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) $(LOCK:--all-extras=) scripts/bench/requirements.in -o scripts/bench/requirements.lock
	@$(MAKE) lock-check

clean: ## remove .venv and caches (never data, logs or config)
	@rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist

# Running needs a fifth of what developing needs, so each has its lock; the tools' lock holds the other one whole.
$(VENV)/.run.stamp: requirements.lock pyproject.toml | $(BIN)/pip
	@$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev.stamp: requirements-dev.lock pyproject.toml | $(BIN)/pip
	@$(call install,requirements-dev.lock)
	@touch $@ $(VENV)/.run.stamp

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null \
		|| { echo 'No $(PYTHON) here: install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3.12 …' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Atlas needs Python 3.11-3.13; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo '$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	@echo 'making $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)

# The lock is whole: without --no-deps pip looks for extras such as coverage[toml] anew, and a newer release ends the install.
define install
echo 'installing $(1)'; \
$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(1) && \
$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endef
