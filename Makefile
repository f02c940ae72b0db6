# emoflow: `make demo` shows it, `make test` proves it, `make install` keeps it,
# `make real` fetches two real models, finds emotions in them and compares that with transformers, which `make reference` fetches,
# `make parity` compares every model family with transformers on models that nobody has seen,
# `make test-server` has stories written through a server of llama.cpp, `make test-slurm` submits to a Slurm of its own,
# `make test-browser` opens reports in headless Chromium,
# `make wheel` makes a Python wheel for this system, `make tarball` the program alone, `make test-wheel` tries the wheel out,
# `make bench` measures speed and memory, `make bench-page` how long reports take to open, `make bench-gpu` what a GPU reaches; with EMOFLOW and RANDOM_CHECKPOINT it needs no Rust.
PYTHON ?= python3
# Which of the models `make real` takes (both), in which build; QUICK=1: without what takes long and is not compared.
MODELS ?= smollm2 gemma3
PROFILE ?= release
QUICK ?=
# What `make parity` draws: of which families (all), how many, from which seed (a new one).
NAMES ?=
DRAW ?= 1
SEED ?= $(shell date +%s)
# Options of `make bench`, as in BENCH="--shape llama-3.2-1b --dtype bf16 --texts 64".
BENCH ?=
# Programs that were built elsewhere and carried here, for `make bench-gpu`: EMOFLOW=./emoflow RANDOM_CHECKPOINT=./random_checkpoint
EMOFLOW ?=
RANDOM_CHECKPOINT ?=

.PHONY: demo test real reference parity test-server test-slurm test-browser test-wheel wheel tarball bench bench-gpu bench-page lint build setup install clean

demo: build
	cargo run --quiet --release -- run experiments/quickstart.toml
	@echo "report: $(CURDIR)/results/quickstart/report.html"

test: setup
	@scripts/setup-monty.sh
	cargo test

real: setup
	@$(PYTHON) scripts/fetch_real.py $(MODELS)
	EMOFLOW_REAL="$(MODELS)" EMOFLOW_REAL_QUICK="$(QUICK)" PYTHON="$(PYTHON)" \
	cargo test --profile $(PROFILE) --test it -- --ignored --nocapture --test-threads=1 real::

# What the references are made with, some 5 GB: PYTHONPATH=.reference
reference:
	@PYTHONPATH=.reference $(PYTHON) -c 'import torch, transformers, gguf, accelerate' 2>/dev/null || { \
	echo "fetching torch and transformers into .reference/" >&2; \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade --target .reference \
	torch==2.11.0 transformers==5.24.0 accelerate numpy gguf; }

parity: setup
	@$(PYTHON) -c 'import torch, transformers' || { echo "pip install torch transformers, or set PYTHON" >&2; exit 1; }
	@drawn=$$(mktemp -d) && trap 'rm -rf "$$drawn"' EXIT && seed=$(SEED) && \
	echo "make parity SEED=$$seed draws these again" && \
	$(PYTHON) tests/fixtures/make_fixtures.py $(NAMES) --draw $(DRAW) --seed $$seed --out "$$drawn" && \
	$(PYTHON) tests/fixtures/make_chat.py $$seed "$$drawn" && \
	EMOFLOW_PARITY="$$drawn" cargo test --test it -- --ignored --nocapture lm::parity::live lm::chat::drawn

test-server: setup
	@scripts/test-server.sh

test-slurm: setup
	@scripts/test-slurm.sh

test-browser: setup
	@scripts/test-browser.sh

wheel: setup
	@[ -x target/packaging/bin/maturin ] || { $(PYTHON) -m venv target/packaging && \
	target/packaging/bin/python -m pip install --quiet --disable-pip-version-check "maturin==1.16.*"; }
	@rm -f target/wheels/*.whl
	target/packaging/bin/maturin build --quiet --release --locked --auditwheel skip --out target/wheels
	@$(PYTHON) scripts/package.py wheel target/wheels/emoflow-*.whl

tarball: build
	@$(PYTHON) scripts/package.py tarball target/release/emoflow target/wheels

test-wheel: wheel
	@PYTHON="$(PYTHON)" scripts/test-wheel.sh

bench: build
	@$(PYTHON) -c 'import torch, transformers' || { echo "pip install torch transformers, or set PYTHON" >&2; exit 1; }
	cargo build --quiet --release --example random_checkpoint
	cargo bench --bench orchestrator
	cargo bench --bench statistics
	cargo bench --bench products
	@rm -rf target/tmp/steering
	cargo run --quiet --release --example random_checkpoint -- smollm2-135m target/tmp/steering
	cargo bench --bench steering -- target/tmp/steering
	$(PYTHON) benches/engine.py $(BENCH)

bench-gpu:
	@$(PYTHON) -c 'import torch, transformers' || { echo "pip install torch transformers, or set PYTHON" >&2; exit 1; }
ifeq ($(EMOFLOW),)
	@scripts/setup-libtorch.sh
	cargo build --release --bin emoflow --example random_checkpoint
	$(PYTHON) benches/gpu.py $(BENCH)
else
	$(PYTHON) benches/gpu.py --emoflow $(EMOFLOW) --random-checkpoint $(RANDOM_CHECKPOINT) $(BENCH)
endif

# Reports to open, besides one of eight models with forty layers each; by default those that are here.
REPORTS ?= $(wildcard results/*/report.html)

bench-page: setup
	@scripts/bench-page.sh $(REPORTS)

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
	rm -rf .libtorch .monty
