# Everything runs in a virtual environment of its own, made on first use from requirements.lock.
VENV ?= .venv
PYTHON ?= python3
# The interpreters that the lock is made for, the oldest first.
PYTHONS ?= $(PYTHON)
BIN := $(VENV)/bin
TEXT ?= pydoc
OUT ?= demo

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench mutate docs clean lock test-latest test-oldest warnings

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

$(BIN)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) tools/install.py $(VENV) --constraint requirements.lock
	@touch $@

demo: $(BIN)/.installed ## Watch the small model write, fine-tune it for a minute, watch again (TEXT=my.txt OUT=demo)
	@$(BIN)/unmask demo --text '$(TEXT)' --out '$(OUT)' --overwrite

test: $(BIN)/.installed ## Run the test suite
	$(BIN)/pytest -n auto --dist worksteal

test-latest: ## Run the test suite with the newest libraries that pyproject.toml permits
	rm -rf .venv-latest
	@$(PYTHON) tools/install.py .venv-latest --constraint constraints.txt
	.venv-latest/bin/pytest -n auto --dist worksteal

test-oldest: ## Run the test suite with the oldest libraries that pyproject.toml permits
	rm -rf .venv-oldest
	$(PYTHON) tools/oldest.py > .venv-oldest.txt
	@$(PYTHON) tools/install.py .venv-oldest --constraint .venv-oldest.txt
	.venv-oldest/bin/pytest -n auto --dist worksteal

warnings: $(BIN)/.installed ## List what the libraries deprecate while the tests run
	PYTHONPATH=tests $(BIN)/pytest -n auto --dist worksteal -p deprecations --disable-warnings

lock: ## Write requirements.lock anew, with the newest versions (PYTHONS="python3.11 python3.13")
	$(PYTHON) tools/lock.py $(PYTHONS)

check: $(BIN)/.installed ## Lint, format, types, the direction of imports and stale pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/make_cli_page.py --check

fix: $(BIN)/.installed ## Apply what the linter and the formatter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BIN)/.installed ## Measure speed, as ratios in one run
	$(BIN)/python -m benchmarks --json benchmarks/results.json
	$(BIN)/python -m benchmarks.page benchmarks/results.json docs/benchmarks.md

mutate: $(BIN)/.installed ## Plant the classic bugs one at a time and see them caught
	$(BIN)/python tests/mutate.py

docs: $(BIN)/.installed ## Write the pages that are generated from the program
	$(BIN)/python docs/make_cli_page.py

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) .venv-latest .venv-oldest .venv-oldest.txt .pytest_cache .ruff_cache .mypy_cache
