#!/usr/bin/env bash
# submitit 1.5.4 on Slurm 22.05.8 (Debian 12): a job that Slurm puts back into the queue (`scontrol requeue`, a pre-emption) is told so by
# SIGTERM.  If its function ends by an exception then, as programs that stop in order do, submitit keeps that as the job's result; while the
# job waits for its next life, `squeue` says PENDING, and submitit's `done()` says True and `exception()` gives the first life's error.
# What the second life returns takes its place later, so that a caller who asked too early has been told of a failure that is none.
# Exits 0 while that is so, 1 when it changes.  Needs Debian 12's apt-get; nothing is installed.
set -euo pipefail
work=$(mktemp -d)
pids=()
trap '{ kill -9 "${pids[@]}"; wait; } 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install submitit==1.5.4 >/dev/null 2>&1

# Debian's Slurm, unpacked and not installed: a controller and a node of this machine alone, without accounting
(mkdir "$work/deb" && cd "$work/deb" && chmod 777 . && apt-get -qq download slurm{ctld,d,-client,-wlm-basic-plugins}=22.05.8-4+deb12u3 \
  munge=0.5.15-2+deb12u1 lib{munge2,hwloc15,jansson4,json-c5,lua5.1-0,numa1,yaml-0-2,dbus-1-3} && for f in *.deb; do dpkg -x "$f" "$work/root"; done) 2>/dev/null
root=$work/root/usr
export PATH=$root/bin:$PATH LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu/slurm-wlm SLURM_CONF=$work/slurm.conf
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
cat >"$SLURM_CONF" <<CONF
ClusterName=tiny
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$(port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$work/munge.socket
PluginDir=$root/lib/x86_64-linux-gnu/slurm-wlm
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/%n.pid
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
SelectType=select/cons_tres
KillWait=5
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$(port) CPUs=2 RealMemory=2000
PartitionName=main Nodes=n1 Default=YES MaxTime=60
CONF
echo CgroupAutomount=no >"$work/cgroup.conf"
mkdir -m 700 "$work/state" "$work/n1" "$work/munge"
head -c 1024 /dev/urandom >"$work/munge/key" && chmod 400 "$work/munge/key"
at=$work/munge
"$root/sbin/munged" -F --force --key-file="$at/key" --socket="$work/munge.socket" --pid-file="$at/pid" --log-file="$at/log" \
  --seed-file="$at/seed" 2>/dev/null & pids+=($!)
while [ ! -S "$work/munge.socket" ]; do sleep 0.1; done
"$root/sbin/slurmctld-wlm" -D -i >"$work/slurmctld.log" 2>&1 & pids+=($!)
"$root/sbin/slurmd-wlm" -D -N n1 -d "$root/sbin/slurmstepd-wlm" >"$work/n1.log" 2>&1 & pids+=($!)
for _ in {1..100}; do [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break; sleep 0.2; done
sinfo --version
cat >"$work/work.py" <<'PY'
import os, signal, time

def stop(*_):
    raise RuntimeError("asked to stop")

def work():
    signal.signal(signal.SIGTERM, stop)
    if "SLURM_RESTART_COUNT" not in os.environ:
        time.sleep(60)
    return "the second life's result"
PY
cat >"$work/ask.py" <<'PY'
import subprocess, time
import submitit, work

executor = submitit.AutoExecutor(folder="logs", cluster="slurm")
executor.update_parameters(timeout_min=2)
job = executor.submit(work.work)

def state():
    return subprocess.run(["squeue", "-h", "-j", job.job_id, "-t", "all", "-o", "%T"], capture_output=True, text=True).stdout.strip()

while state() != "RUNNING":
    time.sleep(0.2)
time.sleep(4)
subprocess.run(["scontrol", "requeue", job.job_id], check=True)
while state() != "PENDING":
    time.sleep(0.2)
told = str(job.exception()).splitlines()
print("Slurm", state(), "done", job.done(force_check=True), [line for line in told if line.startswith("RuntimeError")])
subprocess.run(["scontrol", "update", f"JobId={job.job_id}", "StartTime=now"], check=True)
while state() != "COMPLETED":
    time.sleep(0.2)
print("Slurm", state(), "done", job.done(force_check=True), job.result())
PY
saw=$(cd "$work" && PYTHONPATH=$work timeout 120 "$work/venv/bin/python" ask.py 2>"$work/ask.log") || { echo "$saw"; cat "$work/ask.log" "$work"/*.log; exit 1; }
saw=$(echo "$saw" | grep -v "submitit WARNING") # of sacct, which has nothing to tell
echo "$saw"
[ "$saw" = "Slurm PENDING done True ['RuntimeError: asked to stop']
Slurm COMPLETED done True the second life's result" ]
