"""torchvision beside a CPU build of torch.

No CPU build of torchvision exists: its compiled operators want CUDA and do not load, and its Python
part then stops at import because two operators have no schema.  Models, transforms and datasets need
none of them, so the schemas are declared here; calling such an operator still fails, with a reason.
Import torchvision only by `import_torchvision`, or after `declare_operators`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

OPERATORS = ("nms", "qnms")
_kept: list[Any] = []  # a torch Library unregisters when it is collected


def import_torchvision() -> ModuleType:
    """Import torchvision, whether its compiled operators load here or not."""
    declare_operators()
    import torchvision

    module: ModuleType = torchvision
    return module


def declare_operators() -> None:
    """Let others import torchvision, as unpickling one of its networks does."""
    import torch

    if not _kept and not _has_compiled_operators():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.impl(name, _absent(name), "CompositeExplicitAutograd")
        _kept.append(library)


def _has_compiled_operators() -> bool:
    """Whether the compiled library of the installed torchvision loads beside this torch."""
    import importlib.util
    from pathlib import Path

    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for file in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(file)
        except OSError:
            return False
        return True
    return False


def _absent(name: str) -> Any:
    def operator(dets: Any, scores: Any, iou_threshold: float) -> Any:
        raise RuntimeError(f"torchvision::{name} is not there: torchvision's compiled operators need a CUDA build of torch")

    return operator
