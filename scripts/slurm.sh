#!/usr/bin/env bash
# A Slurm cluster of this one machine, for tests: no munge, no systemd, no control groups. Needs
# root and Debian's slurmctld, slurmd and slurm-client.
#   bash scripts/slurm.sh start FOLDER    prints the line that makes Slurm's commands find it
#   bash scripts/slurm.sh stop FOLDER
set -euo pipefail
action="$1" folder="$(realpath -m "$2")"

stop() {
    local file
    for file in "$folder"/slurmctld.pid "$folder"/slurmd.pid; do
        if [ -s "$file" ]; then
            kill "$(cat "$file")" 2>/dev/null || true
        fi
    done
}

start() {
    local cores host
    cores=$(env -u OMP_NUM_THREADS nproc) host=$(hostname -s)
    mkdir -p "$folder"/state "$folder"/spool
    cat >"$folder/slurm.conf" <<CONF
ClusterName=beitmed
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
KillWait=2
ReturnToService=2
MpiDefault=none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores
PartitionName=test Nodes=$host Default=YES State=UP OverSubscribe=NO
CONF
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld -c
    slurmd
    for _ in $(seq 30); do
        if [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ]; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 1
    done
    tail -n 20 "$folder"/*.log >&2
    stop
    return 1
}

"$action"
