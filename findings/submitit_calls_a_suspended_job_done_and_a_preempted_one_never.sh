#!/usr/bin/env bash
# submitit 1.5.4: a job that Slurm suspends (`scontrol suspend`, PreemptMode=SUSPEND) and that will go on is done to submitit, once and for
# all, for what it took for done it never asks again; one that another job pre-empted for good (PreemptMode=CANCEL) never is, so that
# `job.wait()`, `result()` and `exception()` wait without end.  The states are what `sacct` of Slurm 22.05.8 (Debian 12, with slurmdbd) said
# of two such jobs; here a file of that name says them, for the accounting needs a database.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install submitit==1.5.4 >/dev/null 2>&1
mkdir "$work/bin"
cat >"$work/bin/sacct" <<'SH'
#!/bin/sh
echo 'JobID|State|NodeList'
echo "1|$(cat "$(dirname "$0")/first")|n1"
echo '2|PREEMPTED|n1'
SH
chmod +x "$work/bin/sacct"
cat >"$work/ask.py" <<'PY'
import sys
from pathlib import Path
from submitit import SlurmJob

first, folder = Path(sys.argv[1]), Path(sys.argv[2])
suspended, preempted = SlurmJob(folder, "1"), SlurmJob(folder, "2")
for state in ("SUSPENDED", "RUNNING"):
    first.write_text(state)
    print("first is", state, "done", suspended.done(force_check=True))
print("second is", preempted.state, "done", preempted.done(force_check=True))
PY
saw=$(cd "$work" && PATH="$work/bin:$PATH" "$work/venv/bin/python" ask.py "$work/bin/first" "$work")
echo "$saw"
[ "$saw" = "first is SUSPENDED done True
first is RUNNING done True
second is PREEMPTED done False" ]
