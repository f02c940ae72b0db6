#!/usr/bin/env bash
# How long reports take to open in headless Chromium: those that are named, and one of eight models with forty layers each, which
# tests/it/browser.rs writes. Called by `make bench-page`; needs what `make test-browser` installs.
set -euo pipefail
cd "$(dirname "$0")/.."

python=target/browser/bin/python
[ -x "$python" ] || { echo "bench-page: run \`make test-browser\` once, which installs what drives the browser" >&2; exit 1; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
EMOFLOW_PAGES="$place" cargo test --quiet --test it -- --ignored --exact browser::pages >"$place/log" 2>&1 ||
    { cat "$place/log" >&2; exit 1; }
EMOFLOW_CHROMIUM="$(command -v chromium || command -v chromium-browser || command -v google-chrome)" \
    "$python" benches/page.py "$@" "$place/run/exp/report.html" "$place/large.html"
