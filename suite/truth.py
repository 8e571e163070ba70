"""truth.toml: what the data dictate, as tasks write it and the checker holds evidence to it, without data or torch."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

FILE = "truth.toml"  #: beside a task's task.py


def read(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The [[case]] tables of a truth.toml by tier and data name: tier, name, data, rows, columns, classes; empty without a file."""
    if not path.is_file():
        return {}
    return {(e["tier"], e["name"]): e for e in tomllib.loads(path.read_text(encoding="utf-8"))["case"]}


def column_digest(column: np.ndarray, kind: str) -> str:
    """SHA-256 of a column's little-endian bytes in the type that the task declares."""
    return hashlib.sha256(np.ascontiguousarray(column.astype(np.dtype(kind).newbyteorder("<"))).tobytes()).hexdigest()
