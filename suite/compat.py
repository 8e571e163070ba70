"""Libraries that do not get on with each other: torchvision beside a CPU build of torch, timm beside Pillow 13.

No CPU build of torchvision exists: its compiled operators want CUDA and do not load, and its Python
part then stops at import because two operators have no schema.  Models, transforms and datasets need
none of them, so the schemas are declared here; calling such an operator still fails, with a reason.
Import torchvision only by `import_torchvision`, or after `declare_operators`.

timm's RandAugment posterizes to 0 bits at its strongest, which is a black image; Pillow refuses that from 13 on, and about one
training in which a few hundred images were varied would stop.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

OPERATORS = ("nms", "qnms")
_kept: list[Any] = []  # a torch Library unregisters when it is collected


def import_torchvision() -> ModuleType:
    """Import torchvision, whether its compiled operators load here or not."""
    declare_operators()
    let_posterize_to_black()
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


def let_posterize_to_black() -> None:
    """Let Pillow keep 0 bits of each colour as it did before version 13: nothing is left but black."""
    from PIL import ImageOps

    known: Any = ImageOps.posterize
    if getattr(known, "to_black", False):
        return

    @functools.wraps(known)
    def posterize(image: Any, bits: int) -> Any:
        return known(image, bits) if bits else image.point(lambda _: 0)

    posterize.to_black = True  # type: ignore[attr-defined]
    ImageOps.posterize = posterize


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
