"""Multiply-adds by layer: what a network costs on paper.

One multiply-add counts as 1.  Counted: convolutions, matrix products, attention, recurrent layers; not
counted: bias, normalisation, activation, pooling (as thop and fvcore count).  torch's
own counter sees operators by dispatch, but on CPU it has no formula for attention, recurrent and int8
layers and takes sparse products for dense ones: they are given here.  An operator that looks heavy and
has no formula becomes a warning, never a silent zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from suite.protocol import Operations

if TYPE_CHECKING:
    import torch
    from torch import nn

#: An operator whose name holds one of these multiplies and adds, unless it holds one of the next line's.
HEAVY = (
    "mm",
    "matmul",
    "conv",
    "attention",
    "linear",
    "lstm",
    "gru",
    "rnn",
    "einsum",
    "transformer",
    "fft",
    "cdist",
    "vdot",
    "addr",
)
LIGHT = ("convert", "_to_copy", "conv_weight_layout", "upsample", "linear_to", "_thnn_fused")


def count(model: nn.Module, inputs: tuple[torch.Tensor, ...], *, training: bool = False) -> Operations:
    """Operations of one forward pass in eval mode, by module.

    Args:
        model: any module; it is left as it was, in eval or train mode module by module.
        inputs: what one item is, with a batch dimension of 1.
        training: whether modules stay in the modes that they are in instead.

    Returns:
        A line for each module that computes or owns parameters: name (its path), kind, macs, params,
        nonzero (weights and biases that are not zero, masks of torch.nn.utils.prune applied; all of them
        where tensors have no data); warnings that name heavy operators without a formula.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    unseen = _Unseen()
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    with nullcontext() if training else _evaluating(model), _no_fused_path(), torch.no_grad(), unseen.watch(counter):
        model(*inputs)
    macs = _exclusive(counter.get_flop_counts(), type(model).__name__)
    layers = []
    met: dict[int, Any] = {}  # by identity; the objects are held, so that no identity is given out twice
    for name, module in model.named_modules():
        own = [(kept, stored) for kept, stored in _weights(module) if id(stored) not in met]  # tied weights count once
        met |= {id(stored): stored for _, stored in own}
        if own or macs.get(name, 0):
            layers.append(
                {
                    "name": name or type(model).__name__,
                    "kind": type(module).__name__,
                    "macs": float(macs.get(name, 0)),
                    "params": sum(kept.numel() for kept, _ in own),
                    "nonzero": sum(nonzero(kept) for kept, _ in own),
                }
            )
    warnings = [f"not counted: {name}" for name in sorted(unseen.names)]
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        warnings.append("a compiled graph may hide operators from the count")
    return Operations(tuple(layers), tuple(warnings))


def nonzero(tensor: torch.Tensor) -> int:
    """Elements that are not zero, of any layout; all elements where a tensor has no data (meta device)."""
    import torch

    if tensor.device.type == "meta":
        return tensor.numel()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout is not torch.strided:
        tensor = tensor.values()
    return int(tensor.count_nonzero())


def _weights(module: nn.Module) -> Iterator[tuple[torch.Tensor, Any]]:
    """A module's own weights and biases as it computes with them, each with what stores it.

    Pruned by torch.nn.utils.prune: masked.  Parametrized: what the parametrization yields, counted at the
    module that uses it, not at the container.  Int8 modules: unpacked, since they own no parameter.
    """
    from torch.nn.utils import parametrize

    if isinstance(module, parametrize.ParametrizationList):
        return
    for name, stored in module.named_parameters(recurse=False):
        mask = getattr(module, name.removesuffix("_orig") + "_mask", None) if name.endswith("_orig") else None
        yield (stored if mask is None else stored * mask), stored
    if parametrize.is_parametrized(module):
        for name, parametrizations in module.parametrizations.items():  # type: ignore[union-attr, operator]
            yield getattr(module, name), parametrizations
    if hasattr(module, "_packed_params") and callable(getattr(module, "weight", None)):
        for tensor in (module.weight(), module.bias()):  # type: ignore[operator]
            if tensor is not None:
                yield tensor, tensor


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode within, each module's own mode after: a frozen normalisation layer stays frozen."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class _Unseen:
    """Watches dispatched operators for heavy ones without a formula."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    @contextmanager
    def watch(self, counter: Any) -> Iterator[None]:
        from torch.utils._python_dispatch import TorchDispatchMode

        names, known = self.names, counter.flop_registry

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                packet = func._overloadpacket
                space, _, name = func._schema.name.partition("::")
                if packet not in known and (space not in ("aten", "prim", "prims") or _looks_heavy(name)):
                    names.add(func._schema.name)
                return func(*args, **(kwargs or {}))

        # the counter is entered last, so it sees operators first and lets the composite ones fall apart
        with Watch(), counter:  # type: ignore[no-untyped-call]
            yield


def _looks_heavy(name: str) -> bool:
    return any(w in name for w in HEAVY) and not any(w in name for w in LIGHT)


@contextmanager
def _no_fused_path() -> Iterator[None]:
    """Encoder layers in their parts: the fused operator hides them."""
    import torch

    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def _exclusive(flops: Mapping[str, Mapping[Any, int]], root: str) -> dict[str, int]:
    """MACs by module path, without those of its children.  The counter reports inclusive FLOPs under ``Root.path``.

    A child may be called outside its parent, by what stands around both: the parent then lacks what is taken off it for the
    child.  What it lacks is taken off the next ancestor instead, so that no layer has less than nothing and the sum stays.
    """
    # a module that is called and is none of the network's stands under a name of its own: the whole holds it already
    ours = (name for name in flops if name == root or name.startswith(f"{root}."))
    inclusive = {name: sum(flops[name].values()) for name in ours}
    inclusive[root] = sum(flops.get("Global", {}).values())
    own = dict(inclusive)
    above = {name: next((a for a in _ancestors(name) if a in inclusive), None) for name in inclusive}
    for name, value in inclusive.items():
        if (parent := above[name]) is not None:
            own[parent] -= value
    for name in sorted(own, key=lambda n: n.count("."), reverse=True):  # deepest first: a lack may move up more than once
        if own[name] < 0 and (parent := above[name]) is not None:
            own[parent] += own[name]
            own[name] = 0
    return {name[len(root) + 1 :] if name != root else "": value // 2 for name, value in own.items()}


def _ancestors(path: str) -> Iterator[str]:
    """The paths above a module's, nearest first."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _formulas() -> dict[Any, Callable[..., int]]:
    """FLOPs (2 a multiply-add, as torch's counter has it) of what the counter lacks or gets wrong.

    Long, as a table of small formulas is; each stands alone.
    """
    import torch
    from torch.utils.flop_counter import sdpa_flop_count

    aten = torch.ops.aten

    def attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    def product(a: torch.Tensor, b: torch.Tensor, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
        if a.layout is not torch.strided:
            return 2 * _stored(a) * b.shape[-1]
        if b.layout is not torch.strided:
            return 2 * _stored(b) * a.shape[0]
        return int(2 * math.prod(a.shape) * b.shape[-1])

    def add_product(_: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return product(a, b)

    def batched_sum(_: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return 2 * a.numel() * b.shape[-1]

    def times_vector(a: torch.Tensor, b: torch.Tensor, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return 2 * (a.numel() if a.layout is torch.strided else _stored(a))

    def add_times_vector(_: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return times_vector(a, b)

    def bilinear(a: torch.Tensor, w: torch.Tensor, b: torch.Tensor, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
        # each row: w times one side (all of w), then the result times the other side
        rows = a.numel() // w.shape[1]
        return 2 * rows * (w.numel() + w.shape[0] * w.shape[2])

    def recurrent(
        x: torch.Tensor, w_input: torch.Tensor, w_hidden: torch.Tensor, *args: Any, out_val: Any = None, **kwargs: Any
    ) -> int:
        return 2 * math.prod(x.shape[:-1]) * (w_input.numel() + w_hidden.numel())

    def cudnn_recurrent(x: torch.Tensor, weights: list[torch.Tensor], *args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return 2 * math.prod(x.shape[:-1]) * sum(w.numel() for w in weights if w.dim() == 2)

    def packed_convolution(x: torch.Tensor, packed: Any, *args: Any, out_val: torch.Tensor, **kwargs: Any) -> int:
        return 2 * out_val.numel() * int(packed.unpack()[0][0].numel())

    def packed_linear(x: torch.Tensor, *args: Any, out_val: torch.Tensor, **kwargs: Any) -> int:
        return 2 * out_val.numel() * x.shape[-1]

    raw: dict[Any, Callable[..., int]] = {
        aten.mm: product,
        aten._sparse_mm: product,
        aten.addmm: add_product,
        aten._sparse_addmm: add_product,
        aten.addbmm: batched_sum,
        aten.mv: times_vector,
        aten.dot: times_vector,
        aten.addmv: add_times_vector,
        aten._trilinear: bilinear,
        aten.mkldnn_rnn_layer: recurrent,
        aten._cudnn_rnn: cudnn_recurrent,
    }
    for space, name, formula in (
        ("quantized", "linear", packed_linear),
        ("quantized", "linear_relu", packed_linear),
        ("quantized", "linear_dynamic", packed_linear),
        ("quantized", "linear_relu_dynamic", packed_linear),
        ("onednn", "qlinear_pointwise", packed_linear),
        ("quantized", "conv2d", packed_convolution),
        ("quantized", "conv2d_relu", packed_convolution),
    ):
        packet = getattr(getattr(torch.ops, space), name, None)
        if packet is not None:
            raw[packet] = formula
    shaped: dict[Any, Callable[..., int]] = {}
    for name in ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_fused_attention_overrideable"):
        if hasattr(aten, name):
            shaped[getattr(aten, name)] = attention
    for formula in raw.values():
        formula._get_raw = True  # type: ignore[attr-defined]  # the counter then passes tensors, not shapes
    return raw | shaped


def _stored(sparse: torch.Tensor) -> int:
    """Values that a sparse tensor stores."""
    import torch

    return sparse._nnz() if sparse.layout is torch.sparse_coo else int(sparse.values().numel())
