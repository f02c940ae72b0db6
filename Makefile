# emoflow: `make demo` shows it, `make test` proves it, `make install` keeps it,
# `make parity` compares every model family with transformers on models that nobody has seen.
PYTHON ?= python3
# What `make parity` draws: of which families (all), how many, from which seed (a new one).
NAMES ?=
DRAW ?= 1
SEED ?=

.PHONY: demo test parity lint build setup install clean

demo: build
	cargo run --quiet --release -- run experiments/quickstart.toml
	@echo "report: $(CURDIR)/results/quickstart/report.html"

test: setup
	cargo test

parity: setup
	@$(PYTHON) -c 'import torch, transformers' || { echo "pip install torch transformers, or set PYTHON" >&2; exit 1; }
	@drawn=$$(mktemp -d) && trap 'rm -rf "$$drawn"' EXIT && \
	$(PYTHON) tests/fixtures/make_fixtures.py $(NAMES) --draw $(DRAW) $(if $(SEED),--seed $(SEED)) --out "$$drawn" && \
	EMOFLOW_PARITY="$$drawn" cargo test --test it lm::parity::live -- --ignored

lint: setup
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

build: setup
	cargo build --release

setup:
	@scripts/setup-libtorch.sh

install: setup
	cargo install --locked --path .

clean:
	cargo clean
	rm -rf .libtorch
