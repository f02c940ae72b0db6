#!/usr/bin/env bash
# Stories through a server that others wrote: llama.cpp's, with models/demo converted to its format. Called by
# `make test-server`. The first time it installs llama-cpp-python, which compiles llama.cpp (a quarter of an hour on two cores).
#
#   EMOFLOW_PEER_URL=URL   nothing is installed or started: the tests ask the server at URL (up to and with /v1), which has
#                          models/demo in 512 tokens of context and penalises nothing
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
peer=${CARGO_TARGET_DIR:-target}/peer
packages=("llama-cpp-python[server]==0.3.36" "gguf==0.19.0")

ask() { cargo test --test it -- --ignored --nocapture remote::peer; }

if [ -n "${EMOFLOW_PEER_URL:-}" ]; then ask; exit; fi

[ -x "$peer/bin/python" ] || "$python" -m venv "$peer"
# Says nothing and does nothing where they are installed.
"$peer/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
"$peer/bin/python" tests/peer/to_gguf.py models/demo "$peer/demo.gguf"

port=$("$peer/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port/v1
"$peer/bin/python" tests/peer/serve.py --model "$peer/demo.gguf" --model_alias demo --host 127.0.0.1 --port "$port" \
    --n_ctx 512 --interrupt_requests false >"$peer/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" || true' EXIT
trap 'exit 130' INT TERM HUP

# Its log says why, should it never answer.
for _ in $(seq 120); do
    kill -0 "$server" 2>/dev/null || break
    answers=$("$peer/bin/python" -c "import urllib.request as u; print(u.urlopen('$url/models', timeout=5).status)" 2>/dev/null || true)
    [ "$answers" = 200 ] && break
    sleep 0.5
done
[ "${answers:-}" = 200 ] || { echo "error: the server does not answer at $url:" >&2; tail -n 20 "$peer/server.log" >&2; exit 1; }

EMOFLOW_PEER_URL=$url ask
