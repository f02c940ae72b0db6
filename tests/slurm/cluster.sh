#!/usr/bin/env bash
# A Slurm cluster of one node, this machine, in a folder of its own: munged, slurmctld and slurmd with their own
# configuration, ports and sockets, beside whatever else runs here.
#
#   . tests/slurm/cluster.sh; start_cluster FOLDER     exports SLURM_CONF; needs root
#   restart_controller                                 as `systemctl restart slurmctld` does
#   stop_cluster                                       ends the three, by process id
set -euo pipefail

start_cluster() {
    cluster=$1
    mkdir -p "$cluster"/{state,spool,munge}
    chmod 700 "$cluster/munge"
    local host
    host=$(hostname -s)
    read -r controller node < <(free_ports)
    cat >"$cluster/slurm.conf" <<CONF
ClusterName=emoflow
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$cluster/munge/socket,cred_expire=5
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
KillWait=5
OverTimeLimit=0
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=4096 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=60 State=UP
CONF
    # A job that is queued again waits for cred_expire, two minutes if it is not said.
    export SLURM_CONF=$cluster/slurm.conf
    dd if=/dev/urandom of="$cluster/munge/key" bs=128 count=1 status=none
    chmod 600 "$cluster/munge/key"
    munged --foreground --force --key-file="$cluster/munge/key" --socket="$cluster/munge/socket" \
        --pid-file="$cluster/munge/pid" --log-file="$cluster/munge/log" --seed-file="$cluster/munge/seed" \
        >"$cluster/munge/out" 2>&1 &
    munged_pid=$!
    await "munged" test -S "$cluster/munge/socket"
    slurmctld -D >"$cluster/slurmctld.out" 2>&1 &
    slurmctld_pid=$!
    slurmd -D -N "$host" >"$cluster/slurmd.out" 2>&1 &
    slurmd_pid=$!
    await "the node" node_is_idle
}

node_is_idle() { [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; }

# Two ports that nobody listens at.
free_ports() {
    "${PYTHON:-python3}" -c 'import socket
a, b = socket.socket(), socket.socket()
for s in (a, b): s.bind(("127.0.0.1", 0))
print(a.getsockname()[1], b.getsockname()[1])'
}

# await WHAT COMMAND...: until the command succeeds, for a minute.
await() {
    local what=$1 i
    shift
    for i in $(seq 120); do
        "$@" && return
        sleep 0.5
    done
    echo "error: $what does not come; the last lines of the logs:" >&2
    tail -n 5 "$cluster"/*.log "$cluster"/*.out "$cluster"/munge/log "$cluster"/munge/out >&2 || true
    return 1
}

# It saves its state when it is told to end; killed, it forgets the jobs of its last seconds.
restart_controller() {
    kill -TERM "$slurmctld_pid"
    wait "$slurmctld_pid" || true
    slurmctld -D >>"$cluster/slurmctld.out" 2>&1 &
    slurmctld_pid=$!
    await "the controller" scontrol ping >/dev/null
}

stop_cluster() {
    local pid i environment
    scancel --user="$(id -un)" 2>/dev/null || true
    for i in $(seq 50); do [ -z "$(squeue --noheader 2>/dev/null)" ] && break; sleep 0.2; done
    # Jobs that did not hear it, and who watches them: they would go on without slurmd. Told by this cluster's file.
    for environment in $(grep -lazxF "SLURM_CONF=$cluster/slurm.conf" /proc/[0-9]*/environ 2>/dev/null); do
        pid=$(basename "$(dirname "$environment")")
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = slurmstepd ] || grep -qaz "^SLURM_JOB_ID=" "$environment" 2>/dev/null; then
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
    for pid in ${slurmctld_pid:-} ${slurmd_pid:-} ${munged_pid:-}; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in ${slurmctld_pid:-} ${slurmd_pid:-} ${munged_pid:-}; do
        wait "$pid" 2>/dev/null || true
    done
}
