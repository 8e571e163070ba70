"""What is left of a network beside its dense parent: multiply-adds and weights, by shape and by what is not zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from suite.meters import operations
from suite.protocol import Measure, Operations


def kept(ours: Operations, model: nn.Module, theirs: Operations, parent: nn.Module) -> list[Measure]:
    """Multiply-adds and weights of a network, and their shares of the parent's.

    `macs_nonzero` counts of each layer the share whose weights are not zero, `kept.nonzero` the weights of convolutions and linear
    layers that are not zero.
    """
    modules = dict(model.named_modules())
    theoretical = 0.0
    weights = 0
    for layer in ours.layers:
        alive, share = nonzero(modules.get(layer["name"]), layer)
        weights += alive
        theoretical += layer["macs"] * share
    dense_weights = sum(m.weight.numel() for m in parent.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return [
        Measure("macs", ours.total("macs"), "", "down", source="meter"),
        Measure("macs_parent", theirs.total("macs"), "", "", source="meter"),
        Measure("macs_nonzero", theoretical, "", "down", source="meter"),
        Measure("kept.macs", ours.total("macs") / theirs.total("macs"), "", "down", source="meter"),
        Measure("params", ours.total("params"), "", "down", source="meter"),
        Measure("nonzero", ours.total("nonzero"), "", "down", source="meter"),
        Measure("kept.nonzero", weights / dense_weights, "", "down", source="meter"),
    ]


def nonzero(module: nn.Module | None, layer: Mapping[str, Any]) -> tuple[int, float]:
    """Weights of a layer that are not zero, and their share; of what multiplies no weights 0 and 1.

    Where a module has no tensor called weight (attention, int8, a network's own forward), its line of the count stands for
    it.  Normalisation and the like, which multiply nothing that is counted, have no weights here.
    """
    if not layer["macs"] and not isinstance(module, nn.Conv2d | nn.Linear):
        return 0, 1.0
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor):
        alive = operations.nonzero(weight)
        return alive, alive / weight.numel()
    return (layer["nonzero"], layer["nonzero"] / layer["params"]) if layer["params"] else (0, 1.0)
