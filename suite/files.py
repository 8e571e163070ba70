"""Small files, written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside its place, then move it there; of several writers at once the last one's stands."""
    # a name of its own: two runs that start together both write the machine's card
    scratch = path.with_name(f".part-{secrets.token_hex(8)}")
    try:
        with scratch.open("w", encoding="utf-8") as f:
            json.dump(value, f, indent=1, sort_keys=True, allow_nan=False)
            f.flush()
            os.fsync(f.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text beside its place, then move it there."""
    scratch = path.with_name(f".part-{secrets.token_hex(8)}")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """JSON, or None where the file is not there yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
