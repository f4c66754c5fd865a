# Every target works on a fresh clone with Python 3.11+, make, and for the real backends Go, Java and Maven.
# `make demo` shows traces; `make test` runs the tests. The rest builds on the same environment, .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help demo native test e2e lint format bench backends settings clean

help:  ## list the targets
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt --upgrade pip
	@$(PIP) install -c constraints.txt -e . --group dev
	@touch $@

demo: $(READY) backends  ## the example shop, traced into the real Jaeger and Zipkin
	@$(BIN)/python examples/shop/demo.py $(ARGS)

native: $(READY)  ## build the native engine into the environment; needs Rust
	@if command -v cargo >/dev/null; then \
	  $(PIP) install -c constraints.txt maturin && \
	  cd native && VIRTUAL_ENV=$(abspath $(VENV)) $(abspath $(BIN))/maturin develop -q --release; \
	else \
	  echo "no cargo here: the native engine is not built, the sdk engine serves (https://rustup.rs)"; \
	fi

test: $(READY)  ## unit, instrumentation and delivery tests
	@$(BIN)/python -m pytest --ignore=tests/e2e $(ARGS)

e2e: $(READY) backends  ## end-to-end tests against the real collector, Jaeger and Zipkin
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

lint: $(READY)  ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --config pyproject.toml
	@$(BIN)/python -m otelagent.config.table --check README.md

format: $(READY)  ## let ruff format and sort
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## benchmarks, side by side with the stock SDK
	@$(BIN)/python -m benchmarks.run $(ARGS)

backends: $(READY)  ## build or fetch the real collector, Jaeger and Zipkin into the cache
	@cd collector-config && $(abspath $(BIN))/python -m backends build

settings: $(READY)  ## write the settings table into the README
	@$(BIN)/python -m otelagent.config.table --write README.md

clean:  ## remove the environment and caches, not the backends
	rm -rf $(VENV) build dist native/target .mypy_cache .ruff_cache .pytest_cache .hypothesis
