# Every target works on a fresh clone with Python 3.11+, make, and for the real backends Go, Java and Maven. With Rust the
# native engine is built and used, but for the demo; without it the sdk engine serves, and that is said.
# `make demo` shows traces; `make test` runs the tests. The rest builds on the same environment, .venv.

PYTHON ?= python3
VENV := .venv
ifeq ($(ENGINE),sdk)  # an environment that never had the native engine
VENV := .venv-sdk
endif
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/otelagent

RUST_NEEDED := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' native/Cargo.toml)
RUST_FOUND := $(shell cargo --version 2>/dev/null | cut -d ' ' -f 2)
RUST := $(shell printf '%s\n' $(RUST_NEEDED) $(RUST_FOUND) | sort -C -V && echo $(RUST_FOUND))
NO_RUST := no Rust $(RUST_NEEDED) or newer here (https://rustup.rs)
# For pyo3, which otherwise takes whatever python is on PATH.
export PYO3_PYTHON = $(abspath $(BIN))/python

NATIVE := $(VENV)/.native
NATIVE_SOURCES := $(shell find native -type d \( -name target -o -name fuzz -o -name __pycache__ \) -prune -o -type f ! -name '*.so' -print)
ifeq ($(ENGINE),sdk)
BUILT :=
else ifeq ($(RUST),)
BUILT := sdk-serves
else
BUILT := $(NATIVE)
endif

NPM := $(shell command -v npm)
NO_NPM := no Node with npm here (https://nodejs.org)
NODE_MODULES := .ci/npm/node_modules/.ready

FUZZ_SECONDS ?= 30
CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ := $(CACHE)/cargo-fuzz-$(CARGO_FUZZ_VERSION)/bin/cargo-fuzz

.DEFAULT_GOAL := help
.PHONY: help demo demo-backends needs-npm needs-rust native sdk-serves test e2e browser screenshots faults lint lint-python lint-page lint-rust format bench fuzz corpus wheels backends senders settings clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt --upgrade pip
	@$(PIP) install -c constraints.txt -e . --group dev
	@touch $@

# What the demo needs is a part of what everything else does: no Rust, and seconds instead of minutes.
DEMO_READY := $(if $(wildcard $(READY)),$(READY),$(VENV)/.demo)

$(VENV)/.demo: pyproject.toml constraints.txt
	@echo "setting up $(VENV) for the demo"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt -e '.[demo]'
	@touch $@

demo: $(DEMO_READY)  ## the example shop, traced into the viewer: nothing but Python
	@$(BIN)/otelagent demo $(ARGS)

demo-backends: $(READY) $(BUILT) backends  ## the example shop, traced into the real Jaeger and Zipkin
	@$(BIN)/python examples/shop/demo.py $(ARGS)

needs-rust:
	@$(if $(RUST),:,echo "$(NO_RUST)" >&2; exit 1)

native: needs-rust $(NATIVE)  ## build the native engine into the environment; needs Rust

$(NATIVE): $(READY) $(NATIVE_SOURCES)
	@echo "building the native engine"
	@$(PIP) install -c constraints.txt --group native
	@cd native && PIP_QUIET=1 VIRTUAL_ENV=$(abspath $(VENV)) $(abspath $(BIN))/maturin develop -q --release
	@touch $@

sdk-serves:
	@echo "$(NO_RUST): the native engine is not built, the sdk engine serves"

test: $(READY) $(BUILT)  ## unit, instrumentation and delivery tests; ENGINE=sdk: in an environment without the native engine
	@$(BIN)/python -m pytest --ignore=tests/e2e --ignore=tests/browser $(ARGS)

e2e: $(READY) $(BUILT) backends senders  ## end-to-end tests against the real collector, Jaeger and Zipkin, and with other people's senders
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

needs-npm:
	@$(if $(NPM),:,echo "$(NO_NPM)" >&2; exit 1)

$(NODE_MODULES): .ci/npm/package.json .ci/npm/package-lock.json | needs-npm
	@cd .ci/npm && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

browser: $(READY) $(BUILT) $(NODE_MODULES)  ## the viewer's page in a headless Chromium, with real telemetry; needs Chromium and Node
	@$(BIN)/python -m pytest tests/browser $(ARGS)

screenshots: $(READY) $(BUILT)  ## make the pictures of the page in docs/screenshots anew; needs Chromium
	@$(BIN)/python -m pytest tests/browser/screenshots.py $(ARGS)

faults: $(READY) $(BUILT) backends  ## the faults that every release survives, with the ledger of each, beside the stock SDK
	@$(BIN)/python -m tests.faults $(ARGS)

lint: lint-python lint-page lint-rust  ## ruff, mypy, import-linter; the page's types; rustfmt, clippy, cargo test, stubtest

lint-python: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --config pyproject.toml
	@$(BIN)/python -m otelagent.config.table --check README.md

ifeq ($(NPM),)
lint-page:
	@echo "$(NO_NPM): left out the check of the types in the viewer's page"
	@test -z "$$CI"
else
lint-page: $(NODE_MODULES)
	@.ci/npm/node_modules/.bin/tsc -p .ci/npm
endif

ifeq ($(RUST),)
lint-rust:
	@echo "$(NO_RUST): left out rustfmt, clippy, cargo test and stubtest"
	@test -z "$$CI"
else
lint-rust: $(READY) $(NATIVE)
	@cd native && cargo fmt --check
	@cd native && cargo clippy -q --locked --all-targets -- -D warnings
	@cd native && cargo test -q --locked
	@cd native/fuzz && cargo fmt --check
	@cd native/fuzz && cargo clippy -q --locked --all-targets -- -D warnings
	@MYPYPATH=native/python $(BIN)/python -m mypy.stubtest otelagent_native
endif

format: $(READY)  ## let ruff and rustfmt format and sort
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(if $(RUST),for folder in native native/fuzz; do (cd $$folder && cargo fmt); done,echo "$(NO_RUST): left out rustfmt")

bench: $(READY) $(BUILT)  ## benchmarks, side by side with the peers
	@$(BIN)/python -m benchmarks.run $(ARGS)

$(CARGO_FUZZ): | needs-rust
	@echo "building cargo-fuzz $(CARGO_FUZZ_VERSION) into the cache"
	@cargo install -q --locked --root $(CACHE)/cargo-fuzz-$(CARGO_FUZZ_VERSION) cargo-fuzz@$(CARGO_FUZZ_VERSION)

# The core has no unsafe code, so no sanitizer is needed, and without one stable Rust will do. What a run finds stays in
# native/fuzz/target/corpus; an input that fails is in native/fuzz/artifacts.
fuzz: needs-rust $(CARGO_FUZZ)  ## fuzz each target of native/fuzz for FUZZ_SECONDS; needs Rust
	@cd native && run() { $(CARGO_FUZZ) run -s none "$$@"; }; for target in $$($(CARGO_FUZZ) list); do \
	  echo "== $$target"; mkdir -p fuzz/target/corpus/$$target; \
	  run $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 || exit 1; \
	done

corpus: needs-rust $(CARGO_FUZZ)  ## add to the committed corpora what runs of fuzz have reached since, as few small inputs as will do
	@cd native && run() { $(CARGO_FUZZ) run -s none "$$@"; }; for target in $$($(CARGO_FUZZ) list); do \
	  run $$target fuzz/corpus/$$target fuzz/target/corpus/$$target -- -set_cover_merge=1 -use_counters=0 -max_len=512 || exit 1; \
	done

# For every supported CPython that is there, on PATH or pyenv's.
PYTHONS ?= $(foreach version,3.10 3.11 3.12 3.13,$(firstword \
  $(shell python$(version) -c 'import sys; print(sys.executable)' 2>/dev/null) \
  $(wildcard $(HOME)/.pyenv/versions/$(version).*/bin/python)))

# The native wheels are built from the source distribution: who has no wheel gets it.
wheels: needs-rust $(READY)  ## the distributions of otelagent and otelagent-native into dist, each wheel installed and tried; needs Rust
	@rm -rf dist build
	@$(PIP) install -c constraints.txt --group wheels
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/maturin sdist -m native/crates/python/Cargo.toml -o dist
	@mkdir -p build/native && tar xzf dist/otelagent_native-*.tar.gz -C build/native --strip-components 1
	@cd build/native && CARGO_TARGET_DIR=$(abspath native/target) $(abspath $(BIN))/maturin build -q --release -i $(PYTHONS) -o ../../dist
	@for python in $(PYTHONS); do $(BIN)/python .ci/install.py $$python dist || exit 1; done

senders: $(READY)  ## build or fetch other people's senders for the end-to-end tests, telemetrygen and OpenTelemetry JavaScript, into the cache
	@cd collector-config && $(abspath $(BIN))/python -m backends build telemetrygen javascript

backends: $(READY)  ## build or fetch the real collector, Jaeger and Zipkin into the cache
	@cd collector-config && $(abspath $(BIN))/python -m backends build

settings: $(READY)  ## write the settings table into the README
	@$(BIN)/python -m otelagent.config.table --write README.md

clean:  ## remove the environments and caches, not the backends
	rm -rf .venv .venv-sdk build dist native/target native/fuzz/target .ci/npm/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
