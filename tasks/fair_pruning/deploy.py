"""A small network as it would run and as it would be stored: dead units out, each product by the kernel that is fastest here.

A perceptron is made without the hidden units that nothing enters or nothing leaves; each layer is then a dense product or one with
its weights in compressed rows, whichever these operands are multiplied by sooner on this machine.  Its parent is served alike.
"""

from __future__ import annotations

import copy
import io
import itertools
import zipfile
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tasks.graph_tickets.deploy import Deployed
from tasks.images.networks import Mlp
from tasks.images.workloads import fold_batch_norms


@torch.no_grad()
def without_dead_units(model: Mlp) -> Mlp:
    """A copy without hidden units that are constant or that nobody reads: its logits are the same.

    A unit that nothing enters is the constant relu(bias), which moves into the next layer's bias.
    """
    small = copy.deepcopy(model).eval()
    layers = [*small.layers, small.fc]
    for first, second in itertools.pairwise(layers):
        w, b, v = first.weight, first.bias, second.weight
        fed, read = (w != 0).any(1), (v != 0).any(0)
        second.bias += v @ (F.relu(b) * ~fed)
        alive = (fed & read).nonzero().flatten()
        if len(alive) == 0:
            v[:, 0] = 0.0  # what it said is in the bias already, or nobody listens
            alive = torch.zeros(1, dtype=torch.long, device=w.device)  # a product needs a width
        first.weight, first.bias = nn.Parameter(w[alive].clone()), nn.Parameter(b[alive].clone())
        second.weight = nn.Parameter(v[:, alive].clone())
        first.out_features = second.in_features = len(alive)
    return small


def deploy(model: nn.Module, x: torch.Tensor) -> tuple[Callable[[], torch.Tensor], list[str]]:
    """The call that gives the logits of `x` (n, ...), and the kernel of each layer where there was a choice.

    Batch norms are folded; convolutional networks then run as they are.
    """
    network = fold_batch_norms(model, x[:2])
    if not isinstance(network, Mlp):
        network = network.to(memory_format=torch.channels_last)

        def plain() -> torch.Tensor:
            with torch.inference_mode():
                return network(x)  # type: ignore[no-any-return]

        return plain, []
    small = without_dead_units(network)
    steps = [(m.weight.detach(), m.bias.detach()) for m in (*small.layers, small.fc)]
    kernels, flat = Deployed(), x.flatten(1)

    def call() -> torch.Tensor:
        kernels.begin()
        with torch.inference_mode():
            h = flat
            for i, (weight, bias) in enumerate(steps):
                h = kernels.linear(h, weight) + bias
                if i + 1 < len(steps):
                    h = F.relu(h)
            return h

    call()
    chosen = kernels.names
    if any(name != "dense" for name in chosen):
        return call, chosen

    def dense() -> torch.Tensor:
        with torch.inference_mode():
            h = flat
            for weight, bias in steps[:-1]:
                h = F.relu(F.linear(h, weight, bias))
            return F.linear(h, *steps[-1])

    return dense, chosen


def file_bytes(model: nn.Module) -> int:
    """Bytes of a file that holds the network's parameters and buffers: of each array what is not zero, where that is shorter.

    A sparse array is its values and the gaps between them as whole numbers, the file a zip of npy arrays, deflated.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, tensor in model.state_dict().items():
            for part, array in _stored(tensor.detach().cpu().numpy()).items():
                body = io.BytesIO()
                np.save(body, array)
                file.writestr(f"{name}{part}", body.getvalue())
    return buffer.tell()


def _stored(array: np.ndarray) -> dict[str, np.ndarray]:
    flat = array.reshape(-1)
    at = np.flatnonzero(flat)
    if array.ndim < 2 or 2 * len(at) > len(flat):
        return {"": array}
    gaps = np.diff(at, prepend=0)
    kind = np.uint8 if gaps.max(initial=0) < 2**8 else np.uint16 if gaps.max() < 2**16 else np.uint32
    return {".values": flat[at], ".gaps": gaps.astype(kind), ".shape": np.array(array.shape, np.int32)}
