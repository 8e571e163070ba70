#!/usr/bin/env bash
# Lightning Fabric 2.6.6: within a job that SLURM gave several cores and one task (`salloc --cpus-per-task 2`), as its environment
# variables say, `Fabric(devices=2, strategy="ddp").launch()` starts nobody and comes back: the world is one process, no error, and a
# script that books what it asked for states two.  With `plugins=LightningEnvironment()` the same call starts the other process.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install lightning-fabric==2.6.6 torch==2.13.0 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import sys

import torch.distributed as group
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment

plugins = LightningEnvironment() if sys.argv[1] == "named" else None
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", plugins=plugins)
fabric.launch()
if fabric.global_rank == 0:
    print(sys.argv[1], "asked for 2, world is", group.get_world_size() if group.is_initialized() else 1)
PY
job="SLURM_JOB_ID=17 SLURM_JOB_NAME=train SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NNODES=1
 SLURM_NODELIST=localhost SLURM_JOB_NODELIST=localhost SLURM_CPUS_PER_TASK=2"
saw=$(for how in default named; do env $job "$work/venv/bin/python" "$work/ask.py" "$how" 2>"$work/$how.log"; done)
echo "$saw"
[ "$saw" = "default asked for 2, world is 1
named asked for 2, world is 2" ]
