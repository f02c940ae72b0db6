#!/usr/bin/env bash
# The wheel of `make wheel` in fresh environments, as others have it: with the torch that it needs, with another one, with none.
# Called by `make test-wheel`; fetches two torch wheels (3 GB). Linux; the build's own libtorch is hidden from the
# program by a mount that only it sees.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
wheel=$(ls target/wheels/emoflow-*.whl)
built=$(cd .libtorch && pwd -P)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() { echo "error: $*" >&2; exit 1; }

mkdir -p "$place/empty" "$place/home" "$place/project/models" "$place/project/cache"
touch "$place/project/emoflow.toml"
cp -r models/demo "$place/project/models/"
cp -r experiments "$place/project/"

# there ENVIRONMENT ARGUMENTS...: its program, in the project, with nothing of this folder but what is there.
hidden() { unshare --mount --map-root-user sh -c "mount --bind '$place/empty' '$built' && exec \"\$@\"" sh "$@"; }
hidden true 2>/dev/null || { echo "test-wheel: skipped: nothing can be hidden here (unshare --mount)"; exit 0; }
there() {
    local environment=$1
    shift
    (cd "$place/project" && hidden env -i PATH=/usr/bin:/bin HOME="$place/home" "$place/$environment/bin/emoflow" "$@")
}

begin() { echo "test-wheel: $1"; [ -z "${2:-}" ] || "$python" -m venv "$place/$2"; }
install() { "$place/$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"; }

begin "no torch" none
install none --no-deps "$wheel"
for command in "check experiments/quickstart.toml" "plan experiments/quickstart.toml --device cpu" "schema" "--help" \
    "status experiments/quickstart.toml" "init first" "completions bash"; do
    there none $command >"$place/said" 2>&1 || { cat "$place/said" >&2; fail "emoflow $command without torch"; }
done
code=0; there none run experiments/quickstart.toml --device cpu >"$place/said" 2>&1 || code=$?
[ $code = 1 ] && grep -q "no libtorch 2.11.0 was found" "$place/said" || { cat "$place/said" >&2; fail "run without torch: $code"; }
grep -q "$place/none/bin/python -m pip install 'torch==2.11.0'" "$place/said" || fail "it does not say what to do"

begin "torch 2.10" other
install other --no-deps torch==2.10.0
install other --no-deps "$wheel"
code=0; there other run experiments/quickstart.toml --device cpu >"$place/said" 2>&1 || code=$?
[ $code = 1 ] && grep -q "There is torch 2.10.0" "$place/said" || { cat "$place/said" >&2; fail "torch 2.10: $code"; }
cat "$place/said"

begin "the quickstart, in an environment made by pip alone" fresh
install fresh "$wheel"
there fresh doctor --device cpu --offline | grep '^libtorch'
there fresh doctor --device cpu --offline | grep -q '^libtorch.*installed in' || fail "it is not the environment's"
there fresh run experiments/quickstart.toml --device cpu
[ -s "$place/project/results/quickstart/report.html" ] || fail "there is no report"
# Where all functions are to be bound at once.
(cd "$place/project" && hidden env -i HOME="$place/home" LD_BIND_NOW=1 "$place/fresh/bin/emoflow" run experiments/quickstart.toml \
    --device cpu --only stories/neutral --cache "$place/again" --results "$place/again") || fail "LD_BIND_NOW=1"
there fresh run experiments/quickstart.toml --device cpu --only 'space/*' | grep -q '^ran 0' || fail "it computed again"

begin "no torch, where results are"
quick=experiments/quickstart.toml
for command in "explain $quick vectors/demo/own --device cpu" "report $quick --device cpu" "show $quick claims" "run $quick --device cpu" \
    "export $quick --format gguf --device cpu" "diff results/quickstart results/quickstart"; do
    there none $command >"$place/said" 2>&1 || { cat "$place/said" >&2; fail "emoflow $command without torch"; }
done

echo "test-wheel: passed"
