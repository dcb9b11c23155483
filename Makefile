# Everything runs in a virtual environment of its own, made on first use.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
TEXT ?= pydoc
OUT ?= demo

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench mutate docs clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(BIN)/.installed ## Watch the small model write, fine-tune it for a minute, watch again (TEXT=my.txt OUT=demo)
	$(BIN)/unmask demo --text '$(TEXT)' --out '$(OUT)' --overwrite

test: $(BIN)/.installed ## Run the test suite
	$(BIN)/pytest -n auto --dist worksteal

check: $(BIN)/.installed ## Lint, format, types and stale pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
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

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
