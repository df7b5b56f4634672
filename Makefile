# Everything happens in .venv; uv is used if it is installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

.PHONY: help demo test test-fast soak lint format reference benchmarks clean install

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: $(VENV)/.installed ## Install stalewatch and its tools into .venv

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "stalewatch needs Python 3.11 or later: make PYTHON=/path/to/python3.12 ..."; exit 1; }
ifdef UV
	uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	uv pip install --quiet --python $(BIN)/python -e '.[dev]'
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
endif
	@touch $@

demo: install ## A 3-member MongoDB replica set on this machine, three scenarios, a table and a report
	@$(BIN)/stalewatch demo

# Tests with servers mostly wait, so five processes keep two cores busy; tests/conftest.py says which tests stay together.
test: install ## All tests that this machine can run (with STALEWATCH_REQUIRE_ALL=1 a skipped test fails)
	$(BIN)/python -m pytest -q -n 5 --dist loadscope -m "not soak"

test-fast: install ## The tests without servers
	$(BIN)/python -m pytest -q -n auto -m "not server and not soak"

soak: install ## Long tests: repeats, hours of load
	$(BIN)/python -m pytest -m soak --timeout 14400

lint: install ## Style, types and the layers of the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

reference: install ## Generate docs/metrics.md, docs/options.md, docs/result.schema.json and the dashboards
	$(BIN)/python -m stalewatch.metrics.reference > docs/metrics.md
	$(BIN)/python -m stalewatch.commands.reference > docs/options.md
	$(BIN)/stalewatch schema > docs/result.schema.json
	$(BIN)/python -m grafana.build

benchmarks: install ## What stalewatch costs, in one table; figures in results/benchmarks.json. About 12 minutes on 2 cores
	@mkdir -p results
	$(BIN)/python -m benchmarks --json results/benchmarks.json

clean: ## Remove what was built and measured; clusters are removed by `stalewatch cluster down --wipe`
	rm -rf $(VENV) build dist results *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
