"""Packages that only some methods, tasks or options need: which extra installs them, and one line where they are missing.

Import such a package by `need`, where it is used or, at the latest, before any training starts.
"""

from __future__ import annotations

import importlib
from typing import Any

from suite.naming import UserError

#: A package's import name, and the extra of pyproject.toml that holds it.
EXTRAS = {
    "av": "video",
    "executorch": "mobile",
    "lightning_fabric": "processes",
    "mtkahypar": "pruning",
    "onnx": "mobile",
    "onnxruntime": "mobile",
    "onnxscript": "mobile",
    "openvino": "mobile",
    "submitit": "cluster",
    "timm": "vit",
    "torch_geometric": "graphs",
    "torch_pruning": "pruning",
}


def need(module: str, what: str) -> Any:
    """Import a module of one of the packages of `EXTRAS`.

    Args:
        module: its dotted name.
        what: what needs it, as the user knows it: the first words of the message.

    Raises:
        UserError: it cannot be imported; says why, and how to install it.
    """
    package = module.partition(".")[0]
    advice = install(package)
    try:
        return importlib.import_module(module)
    except ImportError as e:
        why = " ".join(str(e).split())
        raise UserError(f"{what} needs the package {package}, which cannot be imported ({why}); {advice}") from e


def install(package: str) -> str:
    """The command that installs a package of `EXTRAS`."""
    return f"pip install 'weighin[{EXTRAS[package]}]'"
