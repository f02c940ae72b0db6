#!/usr/bin/env bash
# Fetches monty, once, into .monty/ beside this project: the sandbox in which tests run programs. 31 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.4.0
target=.monty
python=${PYTHON:-python3}

[ "$("$target/bin/monty" --version 2>/dev/null)" = "monty-runtime $version" ] && exit 0
echo "fetching monty $version into $target/" >&2
rm -rf "$target"
"$python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore --no-deps \
    --target "$target" "pydantic-monty-runtime==$version" >&2 || { echo "error: pip could not fetch monty $version" >&2; exit 1; }
