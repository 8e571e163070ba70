"""Bytes of the weights in a Solution, whatever shape the Solution has."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def weight_bytes(solution: Any) -> int:
    """Bytes of the parameters and buffers of every module inside `solution`, shared storage counted once.

    Modules are found where pickling finds them: in fields, containers and closures of a pickled class.  Tensors
    outside a module (edges, optimizer state) are no weights.  Sparse tensors count values and indices; int8
    modules their unpacked weights and biases.
    """
    import torch
    from torch import nn

    storages: dict[tuple[str, int], int] = {}

    def weigh(tensor: torch.Tensor) -> None:
        for number, part in enumerate(_dense_parts(tensor)):
            memory = part.untyped_storage()
            # on the meta device nothing has an address: the tensor stands for itself
            storages[str(part.device), memory.data_ptr() or id(tensor) + number] = memory.nbytes()

    packed = 0

    class Walk(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            nonlocal packed
            if isinstance(thing, nn.Module):
                for tensor in (*thing.parameters(), *thing.buffers()):
                    weigh(tensor)
                packed += sum(_packed_bytes(module) for module in thing.modules())
                return "module"
            return "tensor" if isinstance(thing, torch.Tensor | torch.UntypedStorage) else None

    Walk(io.BytesIO()).dump(solution)
    return sum(storages.values()) + packed


def _dense_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The strided tensors that a tensor is made of."""
    import torch

    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor.detach()]


def _packed_bytes(module: Any) -> int:
    """Bytes of a weight and bias that a module keeps packed, outside its parameters."""
    if not (hasattr(module, "_packed_params") and callable(getattr(module, "weight", None))):
        return 0
    return sum(t.numel() * t.element_size() for t in (module.weight(), module.bias()) if t is not None)
