"""Several processes for one solve: each holds the whole network and sees its share of every batch.

Lightning Fabric starts them and wraps the network in torch's DistributedDataParallel, which averages
gradients.  Everything a method decides from weights and gradients it decides alike in all of them; batch
norms see their own share, and the first process's statistics are the ones that are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from suite.extras import need
from suite.naming import UserError

if TYPE_CHECKING:
    from torch import nn

#: variables by which launchers say that they have started this process as one of several
LAUNCHERS = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launch(processes: int, device: str) -> None:
    """Start the other processes, which run this very command, and join them.

    A scheduler's variables (SLURM's tell of one task where a job was asked for with many cores) have no say in how many there are.
    Raises UserError where the machine has not as many cores or GPUs, where not as many came together, or Lightning Fabric is not
    installed.
    """
    import torch

    from suite.processors import cores

    fabric = need("lightning_fabric", "--processes")
    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.device_count() < processes:
        raise UserError(f"{processes} processes need as many GPUs; there are {torch.cuda.device_count()}")
    if kind == "cpu" and processes > cores():
        raise UserError(f"{processes} processes need as many cores; there are {cores()}")

    threads, alone = torch.get_num_threads(), fabric.plugins.environments.LightningEnvironment()
    accelerator = "gpu" if kind == "cuda" else "cpu"
    fabric.Fabric(accelerator=accelerator, devices=processes, strategy="ddp", plugins=alone).launch()
    torch.set_num_threads(threads)  # the launch has set as many as the machine has cores
    if world() != processes:
        raise UserError(
            f"{processes} processes were ordered, and {world()} came together; unset {', '.join(LAUNCHERS)} and run again"
        )


def own_device(device: str) -> str:
    """This process's device: of several GPUs the one of its number."""
    return f"cuda:{rank()}" if device.startswith("cuda") and world() > 1 else device


def rank() -> int:
    """This process's number; 0 where it is alone."""
    import torch.distributed as group

    return group.get_rank() if group.is_available() and group.is_initialized() else 0


def world() -> int:
    """How many processes share a batch."""
    import torch.distributed as group

    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def distribute(model: nn.Module) -> nn.Module:
    """What a training step calls: the model, or its wrapper that averages gradients over processes."""
    if world() == 1:
        return model
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model)


def share(batch: int) -> slice:
    """Which of a batch's items are this process's; raises UserError where they cannot be dealt out evenly."""
    if batch % world():
        raise UserError(f"a batch of {batch} cannot be shared by {world()} processes; choose a number that divides it")
    return slice(rank(), None, world())
