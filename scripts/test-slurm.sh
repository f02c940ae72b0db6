#!/usr/bin/env bash
# `emoflow submit` on a real Slurm: a cluster of one node with its own configuration, in a temporary folder. Called by
# `make test-slurm`. Where Debian's slurm-wlm and munge are not installed it installs them, if it may; else it says so and
# skips. Some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/slurm/cluster.sh

skip() { echo "test-slurm: skipped: $*"; exit 0; }

[ "$(uname)" = Linux ] || skip "Slurm is for Linux"
[ "$(id -u)" = 0 ] || skip "its daemons are started as root here"
if ! command -v slurmctld slurmd munged sbatch >/dev/null; then
    command -v apt-get >/dev/null || skip "there is no slurmctld, and no apt-get to install it with"
    # Nothing is started by the installation.
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >/dev/null 2>&1 ||
        skip "apt-get could not install slurm-wlm and munge"
fi

cargo build --quiet
built=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/debug/emoflow
place=$(mktemp -d)
# Of its own, as another build may replace the program meanwhile.
emoflow=$place/emoflow
cp "$built" "$emoflow"
trap 'stop_cluster; rm -rf "$place"' EXIT
trap 'exit 130' INT TERM HUP
start_cluster "$place/cluster"

# --- What the parts below share

cat >"$place/slurm.toml" <<'TOML'
[model]
cpus = 1
memory = "1G"
time = "10"
[cpu]
cpus = 1
memory = "1G"
time = "10"
TOML

experiment=tests/slurm/sweep.toml
name=sweep
begin() { echo "test-slurm: $1"; part=$place/$2; mkdir "$part"; here=(--cache "$part/cache" --results "$part/results" --device cpu); }
submit() {
    "$emoflow" submit "$experiment" "${here[@]}" --profile "${profile:-$place/slurm.toml}" "$@" >>"$part/submitted" 2>&1 ||
        fail "it cannot be submitted"
}
logs() { cat "$part/results/$name/slurm/"*.log 2>/dev/null || true; }
fail() { echo "error: $*; what was said:" >&2; cat "$part/submitted" >&2; logs >&2; squeue >&2; exit 1; }

# until_true WHAT COMMAND...: for ten minutes.
until_true() {
    local what=$1 i
    shift
    for i in $(seq 3000); do "$@" && return; sleep 0.2; done
    fail "$what does not come"
}
no_jobs() { local jobs; jobs=$(squeue --noheader 2>/dev/null) && [ -z "$jobs" ]; }
at_work() { ls "$part/cache/partial" 2>/dev/null | grep -q .; }
# The process that has some lease.
maker() { sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$part"/cache/leases/* 2>/dev/null | head -n 1; }
made() { logs | sed -n 's/^computed \([0-9]*\) unit.*/\1/p' | awk '{ n += $1 } END { print n + 0 }'; }
entries() { find "$part/cache" -name manifest.json | wc -l; }

each_unit_once() { [ "$(made)" = "$(entries)" ] || fail "workers made $(made) units, and there are $(entries)"; }
as_one_run() {
    for folder in tables vectors; do
        diff -rq "$place/${alone:-alone}/results/$name/$folder" "$part/results/$name/$folder" >&2 || fail "$folder differ"
    done
    [ -f "$part/results/$name/report.html" ] || fail "there is no report"
    [ -z "$(ls "$part/cache/leases")" ] || fail "leases stay"
}

# --- The proof

begin "emoflow run, to compare with" alone
"$emoflow" run "$experiment" "${here[@]}" --quiet >/dev/null

begin "two workers" two
submit --gpus 2
until_true "the end" no_jobs
as_one_run
each_unit_once
logs | grep -q '^everything is there$' || fail "the last job does not say that all is there"
"$emoflow" submit "$experiment" "${here[@]}" | grep -q '^nothing to submit' || fail "submitted though all is cached"

begin "a worker that is killed" killed
submit --gpus 6
until_true "a batch" at_work
kill -KILL "$(maker)"
until_true "the end" no_jobs
grep -q "is missing\|are missing" <(logs) && { submit --gpus 2; until_true "the end" no_jobs; }
as_one_run

begin "a task that is cancelled, and the rest after it" cancelled
submit --gpus 1
until_true "a batch" at_work
scancel --name="emoflow-$name-model-demo" --name="emoflow-$name-model-demo-small"
until_true "the end" no_jobs
logs | grep -q 'units are missing: ' || fail "nothing is said to be missing"
logs | grep -q 'stories/own@demo-small *1 of 1' || fail "what is missing is not named"
logs | grep -q 'is queued again' && fail "a cancelled job came back"
submit --gpus 2
until_true "the end" no_jobs
as_one_run

begin "a second submit beside the first" second
submit --gpus 4
until_true "a batch" at_work
submit --gpus 4
until_true "the end" no_jobs
as_one_run
each_unit_once

begin "the controller restarted in the middle" restarted
submit --gpus 4
until_true "a batch" at_work
restart_controller
until_true "the end" no_jobs
as_one_run

# Of an experiment that takes longer than that.
experiment=experiments/quickstart-sweep.toml name=quickstart-sweep alone=alone-longer
begin "emoflow run, of a longer experiment" $alone
"$emoflow" run "$experiment" "${here[@]}" --quiet >/dev/null

begin "a time limit that queues jobs again" limit
sed 's/"10"/"2"/; 1i signal = 112' "$place/slurm.toml" >"$part/slurm.toml"
profile=$part/slurm.toml submit --gpus 3
for _ in $(seq 10); do
    until_true "the end" no_jobs
    logs | tail -n 1 | grep -q '^everything is there$' && break
    profile=$part/slurm.toml submit --gpus 3
done
logs | grep -q 'is queued again' || fail "no job was queued again"
as_one_run
each_unit_once

echo "test-slurm: passed"
