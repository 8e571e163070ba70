"""The shape of a classifier: its architecture by name, the sizes of its parameters, and which of their elements are not zero.

What is deployed is the task's own architecture with narrower layers, zeros among its weights, or convolutions that run block by
block (`reference_impls.parts.blocks`).  Names are a network's own: ``stages.0.1.conv1.weight``.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from suite.deployed import by_owner, mask_of, packed, tensor, unpacked
from suite.naming import address, canonical_json
from suite.protocol import NoShape, Shape, Tensor

if TYPE_CHECKING:
    import torch
    from torch import nn

    from reference_impls.parts.blocks import Block, BlockConv2d

Kind = Literal["weight", "scale", "shift"]

MOST_PLACES, MOST_IN_ALL = 2**17, 2**22  #: of a list of places, and of all lists of a shape
#: of a module of the architecture what must be as it was built, beside its widths
FIXED = ("kernel_size", "stride", "padding", "dilation", "padding_mode", "eps", "affine", "track_running_stats", "p")


def describe(model: nn.Module, build: Callable[[], nn.Module], inputs: tuple[int, ...]) -> Shape:
    """The shape of a network of the architecture that `build` gives.

    Args:
        inputs: shape of an example, (C, h, w) or (features,).

    Raises NoShape where a module is none of the architecture's.
    """
    from torch import nn

    from reference_impls.parts.blocks import BlockConv2d

    plain = dict(build().named_modules())
    mine = dict(model.named_modules())
    if odd := sorted(mine.keys() ^ plain.keys()):
        raise NoShape(f"{odd[0]} is a module that the architecture, or what is deployed of it, does not have")
    blocks: dict[str, Any] = {}
    folded: list[str] = []
    for name, module in mine.items():
        of = plain[name]
        if any((module._forward_hooks, module._forward_pre_hooks)):
            raise NoShape(f"{name} has hooks, which only its own code knows")
        if type(module) is BlockConv2d and type(of) is nn.Conv2d:
            blocks[name] = {"bias": module.bias is not None}
        elif type(module) is nn.Identity and type(of) is nn.BatchNorm2d:
            folded.append(name)
        elif type(module) is not type(of):
            raise NoShape(f"{name or 'the network'} is a {type(module).__name__}, the architecture has a {type(of).__name__}")
        elif any(p.dtype != q.dtype for p, q in zip(module.parameters(False), of.parameters(False), strict=False)):
            raise NoShape(f"{name} computes in another precision than the architecture")
        elif any(getattr(module, a, None) != getattr(of, a, None) for a in FIXED):
            raise NoShape(f"{name} differs from the architecture's in more than its widths")
    for name, channels in _read_channels(model, list(blocks), inputs).items():
        blocks[name] |= _told_blocks(mine[name], channels)  # type: ignore[arg-type]
    facts: dict[str, Any] = {"input": list(inputs)}
    if any(True for _ in model.parameters(recurse=False)):
        facts["root"] = type(model).__name__  # by which operations call what the network itself owns
    if blocks or folded:
        facts |= {"blocks": blocks, "folded": folded}
    return Shape(facts, {name: tensor((p != 0).cpu().numpy()) for name, p in model.named_parameters()})


def rebuild(shape: Shape, build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network of this shape in eval mode, its weights drawn by the seed; on the processor.

    Raises ValueError where the architecture has no such network.
    """
    from torch import nn

    model = build().cpu().eval()
    blocks, folded = shape.facts.get("blocks", {}), shape.facts.get("folded", [])
    left = dict(shape.tensors)
    for name, module in list(model.named_modules()):
        if name in folded:
            model.set_submodule(name, nn.Identity())
            continue
        if name in blocks:
            conv = _conv_of(module, blocks[name])  # type: ignore[arg-type]
            parameters = _blocked(conv, blocks[name])
            model.set_submodule(name, parameters)
            module = parameters
        own = {key: left.pop(f"{name}.{key}" if name else key, None) for key, _ in module.named_parameters(recurse=False)}
        if missing := [key for key, t in own.items() if t is None]:
            raise ValueError(f"{name}.{missing[0]} is missing: the architecture has it")
        if name not in blocks:
            _resize(name, module, {k: t for k, t in own.items() if t is not None})
        for key, t in own.items():
            assert t is not None
            _fill(name, key, module, t, address("shape", seed, name, key))
    if left:
        raise ValueError(f"{min(left)} is no parameter of the architecture")
    return model.eval()


def thinned(operations: Sequence[Mapping[str, Any]], kernel: Callable[[str], int], inputs: tuple[int, ...]) -> Shape:
    """The shape that follows from operations by layer of a chain of convolutions and linear layers with batch norms.

    What a convolution puts out is what its batch norm has, half of its parameters; without one nothing says it, and an output
    of a linear layer is what parameters and multiply-adds differ by.  Which of its elements are zero is not told, nor does it
    decide the time of a product that computes them all.

    Args:
        kernel: side of a convolution's kernel, by the layer's name; 0: it is none of the architecture's.

    Raises NoShape where a layer is none of these, or its numbers come to no whole widths.
    """
    tensors: dict[str, Tensor] = {}
    by_name = {layer["name"]: layer for layer in operations}
    for layer in operations:
        name, kind, params, nonzero = layer["name"], layer["kind"], int(layer["params"]), int(layer["nonzero"])
        if kind.startswith("BatchNorm") and params % 2 == 0:
            width = params // 2
            scales = min(width, nonzero)
            tensors[f"{name}.weight"] = Tensor((width,), scales)
            tensors[f"{name}.bias"] = Tensor((width,), nonzero - scales)
        elif kind == "Conv2d" and (side := kernel(name)):
            norm = by_name.get(_norm_behind(name))
            out = int(norm["params"]) // 2 if norm else 0
            each, odd = divmod(params, out * side * side) if out else (0, 1)
            if odd or each < 1:
                raise NoShape(f"{name}: {params:,} parameters are no {side}x{side} convolution to {out} channels")
            tensors[f"{name}.weight"] = Tensor((out, each, side, side), nonzero)
        elif kind == "Linear" and (out := params - round(layer["macs"])) > 0 and layer["macs"] % out == 0:
            weights = params - out
            here = min(weights, nonzero)
            tensors[f"{name}.weight"] = Tensor((out, weights // out), here)
            tensors[f"{name}.bias"] = Tensor((out,), nonzero - here)
        else:
            raise NoShape(f"operations do not tell the widths of what runs as {kind}")
    return Shape({"input": list(inputs)}, tensors)


def _norm_behind(name: str) -> str:
    """The batch norm behind a convolution, as these architectures call both."""
    if found := re.fullmatch(r"(.*\.)?(\d+)", name):  # of a sequence it is the next
        return f"{found[1] or ''}{int(found[2]) + 1}" if "layers." not in name else name.replace("layers.", "norms.")
    return re.sub(r"conv(\d*)$", r"bn\1", name)


def layers(shape: Shape) -> list[dict[str, Any]]:
    """Operations by layer as far as the shape tells them: parameters, and those that are not zero."""
    blocks = shape.facts.get("blocks", {})
    written = canonical_json(blocks).decode()
    if sum(int(count) for count in re.findall(r'"([0-9]{1,8}):', written)) > MOST_IN_ALL:
        raise ValueError("its blocks have more places than any machine unpacks for a check")
    for name, told in blocks.items():
        _checked_blocks(name, told, shape.tensors.get(f"{name}.weight"))
    return [{**line, "name": line["name"] or str(shape.facts.get("root", ""))} for line in by_owner(shape.tensors)]


def _resize(name: str, module: nn.Module, own: Mapping[str, Tensor]) -> None:
    """Set a module's widths to those of the tensors; raises ValueError where its kind has no such ones."""
    import torch
    from torch import nn

    for key, parameter in module.named_parameters(recurse=False):
        size = own[key].size
        fixed = slice(2, None) if isinstance(module, nn.Conv2d) and key == "weight" else slice(9, None)
        if len(size) != parameter.dim() or size[fixed] != tuple(parameter.shape[fixed]):
            raise ValueError(f"{name}.{key} is {size}, the architecture has {tuple(parameter.shape)}")
    weight = own.get("weight")
    if isinstance(module, nn.Conv2d) and weight is not None:
        out, each = weight.size[:2]
        depthwise = module.groups == module.in_channels
        if not depthwise and module.groups != 1:
            raise ValueError(f"{name} has {module.groups} groups: how it is cut is not told")
        module.out_channels, module.in_channels, module.groups = out, (out if depthwise else each), (out if depthwise else 1)
    elif isinstance(module, nn.Linear) and weight is not None:
        module.out_features, module.in_features = weight.size
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and weight is not None:
        module.num_features = weight.size[0]
        module.register_buffer("running_mean", torch.zeros(weight.size))
        module.register_buffer("running_var", torch.ones(weight.size))
    elif own and any(t.size != tuple(p.shape) for t, p in zip(own.values(), module.parameters(recurse=False), strict=True)):
        raise ValueError(f"{name} is a {type(module).__name__}, whose sizes the architecture fixes")


def _fill(name: str, key: str, module: nn.Module, told: Tensor, seed: int) -> None:
    """Values of a parameter."""
    from torch import nn

    norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm)
    kind: Kind = "scale" if norm and key == "weight" else "shift" if (len(told.size) < 2 and key != "weight") or norm else "weight"
    setattr(module, key, nn.Parameter(drawn(told, seed, kind), requires_grad=getattr(module, key).requires_grad))


def drawn(told: Tensor, seed: int, kind: Kind) -> torch.Tensor:
    """Values of a tensor, float32: none of them tiny, none of them zero but where the shape says so.

    Weights keep the scale of what passes through: products of a hundred layers neither vanish nor overflow.
    """
    import torch

    mask = torch.from_numpy(mask_of(told, seed))
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(told.size, generator=generator)
    if kind == "scale":
        return (0.5 + uniform) * mask
    signs = 2.0 * torch.randint(0, 2, told.size, generator=generator) - 1.0
    if kind == "shift":
        return (0.01 + 0.09 * uniform) * signs * mask
    entering = max(1.0, told.nonzero / max(1, told.size[0]) if mask.dim() > 1 else math.sqrt(max(1, told.nonzero)))
    return (0.5 + uniform) * math.sqrt(2 / entering) * signs * mask


# Convolutions that run block by block


def _read_channels(model: nn.Module, names: Sequence[str], inputs: tuple[int, ...]) -> dict[str, int]:
    """How many channels the inputs of these modules have, seen in a forward pass."""
    import torch

    if not names:
        return {}
    found: dict[str, int] = {}
    probe = copy.deepcopy(model).eval()
    for name in names:
        probe.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: found.__setitem__(name, int(args[0].shape[1]))  # type: ignore[misc]
        )
    device = next(probe.parameters()).device
    with torch.no_grad():
        probe(torch.zeros(1, *inputs, device=device))
    return found


def _told_blocks(conv: BlockConv2d, channels: int) -> dict[str, Any]:
    """Rows and columns of a convolution's blocks; no columns where a block has those of the one before it."""
    import torch

    area = conv.kernel[0] * conv.kernel[1]
    flat = conv.place if conv.overlaps else _rows_of(conv)
    told = []
    for i, rows in enumerate(flat.cpu().split(conv.rows)):  # type: ignore[operator]
        columns = conv.get_buffer(f"source{i}").cpu()
        if conv.whole[i]:
            columns = columns if len(columns) else torch.arange(channels)
            columns = (columns[:, None] * area + torch.arange(area)).flatten()
        told.append([places(rows.numpy()), "" if conv.again[i] else places(columns.numpy())])
    return {"channels": [channels, conv.channels], "each": told}


def _rows_of(conv: BlockConv2d) -> Any:
    """Rows of all blocks one after the other, from where each output stands among them."""
    import torch

    place = conv.place
    count = sum(conv.rows)
    rows = torch.empty(count, dtype=torch.long, device=place.device)  # type: ignore[union-attr]
    living = (place < count).nonzero().flatten()  # type: ignore[operator]
    rows[place[living]] = living  # type: ignore[index]
    return rows


def _checked_blocks(name: str, told: Any, weight: Tensor | None) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Rows, columns and whether these are the last block's; raises ValueError where they are no blocks of such a weight."""
    try:
        channels, out = told["channels"]
        each = told["each"]
        if type(channels) is not int or type(out) is not int or not isinstance(each, list) or not isinstance(told["bias"], bool):
            raise TypeError
        found: list[tuple[np.ndarray, np.ndarray, bool]] = []
        for rows, columns in each:
            again = columns == ""
            found.append((unplaced(rows), found[-1][1] if again else unplaced(columns), again))
    except (KeyError, TypeError, IndexError, AttributeError) as e:
        raise ValueError(f"{name}: its blocks are no rows and columns") from e
    size = sum(len(r) * len(c) for r, c, _ in found)
    if weight is None or weight.size != (size,):
        raise ValueError(f"{name}: its blocks have {size:,} weights, its weight is {weight.size if weight else 'missing'}")
    if any(not len(r) or not len(c) or r.min() < 0 or r.max() >= out or c.min() < 0 for r, c, _ in found):
        raise ValueError(f"{name}: a block lies outside of the layer")
    return found


def _conv_of(conv: nn.Conv2d, told: Mapping[str, Any]) -> nn.Conv2d:
    from torch import nn

    channels, out = told["channels"]
    return nn.Conv2d(
        channels,
        out,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        bias=bool(told["bias"]),  # type: ignore[arg-type]
    )


def _blocked(conv: nn.Conv2d, told: Mapping[str, Any]) -> BlockConv2d:
    import torch

    from reference_impls.parts.blocks import Block, BlockConv2d

    blocks: list[Block] = []
    for rows, columns in told["each"]:
        # the very columns of the block before, where they are shared: they are gathered once
        source = blocks[-1].columns if columns == "" else torch.from_numpy(unplaced(columns))
        blocks.append(Block(torch.from_numpy(unplaced(rows)), source))
    return BlockConv2d(conv, blocks)


def places(values: np.ndarray) -> str:
    """Whole numbers as text: differences of 32 bits, deflated, in base64, behind how many there are."""
    steps = np.diff(np.asarray(values, np.int64), prepend=0).astype("<i4")
    return f"{len(values)}:{packed(steps.tobytes())}"


def unplaced(text: str) -> np.ndarray:
    """The numbers that `places` wrote; raises ValueError on any other text."""
    found = re.fullmatch(r"([0-9]{1,8}):([A-Za-z0-9+/]+={0,2})", text)
    if not found or int(found[1]) > MOST_PLACES:
        raise ValueError("no list of places")
    try:
        raw = unpacked(found[2], 4 * int(found[1]))
    except ValueError as e:
        raise ValueError(f"no list of places: {e}") from e
    return np.cumsum(np.frombuffer(raw, "<i4").astype(np.int64))


def source(shape: Shape, known: tuple[tuple[int, ...], int] | None) -> tuple[tuple[int, ...], int]:
    """Shape of an example and number of classes; raises ValueError where they are none, or not those of a set that is known."""
    inputs, classes = shape.facts.get("input"), shape.facts.get("classes")
    whole = isinstance(inputs, list) and len(inputs) in (1, 3) and all(type(n) is int and 0 < n <= 4096 for n in inputs)
    if not whole or type(classes) is not int or not 0 < classes <= 100_000:
        raise ValueError("says nothing of the examples that the network is for")
    assert isinstance(inputs, list)
    found = (tuple(inputs), classes)
    if known is not None and found != known:
        raise ValueError(f"is for examples of {found[0]} in {classes} classes, the set has {known[0]} in {known[1]}")
    return found


def on_device(model: nn.Module, device: Any) -> nn.Module:
    """The network where the problem computes, its convolutions' weights channels last, as the tasks' own."""
    import torch

    return model.to(device, memory_format=torch.channels_last)
