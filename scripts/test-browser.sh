#!/usr/bin/env bash
# The pages in a real browser: reports are opened, looked at, searched and checked for accessibility in headless Chromium.
# Called by `make test-browser`. Where there is no Chromium it installs Debian's, if it may; else it says so and skips.
# Under a minute once everything is built and fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() { echo "test-browser: skipped: $*"; exit 0; }

browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if ! browser >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "there is no Chromium, and none can be installed"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 ||
        skip "apt-get could not install chromium"
fi

# Playwright drives the browser that is there; axe-core comes with the second.
python=target/browser/bin/python
if [ ! -x "$python" ]; then
    { "${PYTHON:-python3}" -m venv target/browser &&
        "$python" -m pip install -q playwright==1.65.2 axe-playwright-python==0.1.8; } ||
        { rm -rf target/browser; skip "pip could not install playwright"; }
fi

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
EMOFLOW_PAGES="$place" cargo test --quiet --test it -- --ignored --exact browser::pages >"$place/log" 2>&1 ||
    { cat "$place/log" >&2; exit 1; }
cargo build --quiet
program=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/debug/emoflow
for check in tests/browser/page.py tests/browser/serve.py; do
    EMOFLOW_CHROMIUM="$(browser)" EMOFLOW_PROGRAM="$program" "$python" "$check" "$place"
done
