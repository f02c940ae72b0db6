# emoflow: `make demo` shows it, `make test` proves it, `make install` keeps it.
.PHONY: demo test lint build setup install clean

demo: build
	cargo run --quiet --release -- run experiments/quickstart.toml
	@echo "report: $(CURDIR)/results/quickstart/report.html"

test: setup
	cargo test

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
