.PHONY: setup setup-dev demo gallery serve screenshots test test-slow faults bench check fix docs clean

PYTHON ?= python3
BIN := .venv/bin

setup: .venv/.installed

setup-dev: .venv/.installed-dev

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: setup
	@$(BIN)/runware-provider demo

gallery: setup
	@$(BIN)/runware-provider demo --serve

serve: setup
	@$(BIN)/runware-provider serve

test: setup-dev
	@$(BIN)/python -m pytest -n 3 --dist worksteal -q -m "not slow"

test-slow: setup-dev
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -m slow

faults: setup-dev
	@$(BIN)/python -m tests.faults

bench: setup-dev
	@$(BIN)/python -m benchmarks

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/docs.py --check

fix: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

screenshots: setup-dev
	@$(BIN)/python tools/screenshots.py

docs: setup-dev
	$(BIN)/python tools/docs.py

clean:
	rm -rf .venv demo
