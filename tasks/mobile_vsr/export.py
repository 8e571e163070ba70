"""A player's files for another device: programs, maps and a description that says how to use them.

A folder holds ``player.json`` (the description), the networks as one ExecuTorch program (``player.pte``, a method for each)
and as ONNX files (``branch<i>.onnx``), maps as raw bytes (row-major, little-endian) and whatever else is sent, such as the
video.  It is written whole or not at all; `read` holds every file to its digest.  `site/docs/phone.md` shows how a phone
plays it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.files import atomic, write_json
from suite.naming import UserError
from suite.protocol import Unsupported
from tasks.common import engines
from tasks.mobile_vsr import runtimes
from tasks.mobile_vsr.runtimes import Branch

FORMAT = 1
DESCRIPTION, PROGRAM = "player.json", "player.pte"
KINDS = ("uint8", "uint16", "int32", "float32")  #: of a map's elements: what any phone can read
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # no separators, nothing hidden


@dataclass(frozen=True)
class Exported:
    """A folder that `read` has verified.

    Attributes:
        description: what ``player.json`` says: ``input``, ``output``, ``scale``, ``precision``, ``branches``, ``maps``,
            ``executorch``, ``missing``, ``about`` and ``files``.
        maps: chunk, split or other maps by name.
    """

    folder: Path
    description: Mapping[str, Any]
    maps: Mapping[str, np.ndarray]


def write(
    folder: Path,
    branches: Sequence[Branch],
    *,
    scale: int,
    precision: str = "fp32",
    maps: Mapping[str, np.ndarray] | None = None,
    files: Mapping[str, bytes] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """Write a player into a new folder and return its description.

    Args:
        folder: must not exist, or be empty.
        branches: the networks in the order of their indices, RGB in ``[0, 1]``, and the sizes that they meet.
        scale: of the output against the input, each way.
        precision: in which the weights were sent (``fp32``, ``fp16``); programs compute in fp32 with what was received.
        maps: by name; arrays of `KINDS`, for example ``{"split": (frames, rows, columns) of 0 and 1}``.
        files: further files by name, for example the video.
        about: anything else that a player must know, as JSON: clip, grid, frame rate, method.

    Raises:
        UserError: the folder is in use, a name or a map cannot be written, or no runtime's exporter is installed.
    """
    maps, files, about = dict(maps or {}), dict(files or {}), dict(about or {})
    if not branches:
        raise UserError("a player needs a network at least; bicubic has nothing to export")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; name a new folder")
    try:
        json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise UserError(f"what is said about the player is no JSON ({e}); use text, finite numbers, lists and mappings") from e
    content, listed = _programs(branches)
    for name, values in maps.items():
        content[f"{name}.bin"] = _map_bytes(name, values)
    for name in files:
        if name in content or name == DESCRIPTION:
            raise UserError(f"the name {name} is taken by a file of the player; give it another")
    content |= files
    for name in content:
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r} is no name for an exported file; use letters, digits, _ - and .")
    description = {
        "format": FORMAT,
        "input": {"layout": "NCHW", "channels": "RGB", "type": "float32", "range": [0, 1]},
        "output": {"layout": "NCHW", "channels": "RGB", "type": "float32", "clamp": [0, 1]},
        "scale": scale,
        "precision": precision,
        **listed,
        "maps": {n: {"file": f"{n}.bin", "type": v.dtype.name, "shape": list(v.shape)} for n, v in maps.items()},
        "about": about,
        "files": {n: {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in sorted(content.items())},
    }
    _write_whole(folder, content, description)
    return description


def read(folder: Path) -> Exported:
    """Read an exported folder; raises UserError where a file is missing, changed or was never described."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        listed = {str(n): (int(f["bytes"]), str(f["sha256"])) for n, f in description["files"].items()}
        form, told = description["format"], dict(description["maps"])
    except FileNotFoundError as e:
        raise UserError(f"{folder} is no exported player (no {DESCRIPTION}); write one with `weighin export`") from e
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{folder / DESCRIPTION} cannot be read ({type(e).__name__}: {e}); export the player again") from e
    if form != FORMAT:
        raise UserError(f"{folder} is written in format {form!r}, this version reads {FORMAT}; export the player again")
    there = {p.name for p in folder.iterdir()} - {DESCRIPTION}
    if there != set(listed):
        differ = ", ".join(sorted(there ^ set(listed)))
        raise UserError(f"{folder} does not hold what its {DESCRIPTION} lists ({differ}); export the player again")
    for name, (size, digest) in listed.items():
        path = folder / name
        # a link could lead anywhere
        if path.is_symlink() or not path.is_file() or path.stat().st_size != size or _digest(path) != digest:
            raise UserError(f"{path} is not the file that was exported; export the player again")
    return Exported(folder, description, {name: _read_map(folder, name, entry, listed) for name, entry in told.items()})


def _programs(branches: Sequence[Branch]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files of the networks, and what the description says of them; what cannot be written is named with its reason."""
    content: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    executorch: dict[str, Any] | None = None
    try:
        content[PROGRAM] = runtimes.executorch_file(branches)
        executorch = {
            "file": PROGRAM,
            "backend": "XnnpackBackend",
            "planned_bytes": runtimes.planned_bytes(content[PROGRAM]),
            "arena_bytes": runtimes.arena_bytes(content[PROGRAM]),
        }
    except Unsupported as e:
        missing["executorch"] = str(e)
    try:
        content |= {f"branch{i}.onnx": runtimes.onnx_file(b) for i, b in enumerate(branches)}
    except Unsupported as e:
        missing["onnx"] = str(e)
    if not content:
        raise UserError(f"no program can be written: {'; '.join(missing.values())}")
    told = [
        {
            "method": f"branch{i}" if executorch else None,
            "onnx": f"branch{i}.onnx" if "onnx" not in missing else None,
            "largest": list(b.largest),
            "shapes": [list(s) for s in b.shapes],
        }
        for i, b in enumerate(branches)
    ]
    names = {"input": engines.PATCH, "output": engines.IMAGE}
    return content, {"branches": told, "executorch": executorch, "onnx_names": names, "missing": missing}


def _map_bytes(name: str, values: np.ndarray) -> bytes:
    if values.dtype.name not in KINDS:
        raise UserError(f"map {name!r} holds {values.dtype.name}; convert it to one of {', '.join(KINDS)}")
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _read_map(folder: Path, name: str, entry: Any, listed: Mapping[str, Any]) -> np.ndarray:
    try:
        file, kind, shape = str(entry["file"]), str(entry["type"]), tuple(int(n) for n in entry["shape"])
        if file not in listed or kind not in KINDS or min(shape, default=0) < 0:
            raise ValueError("it names no file, type or shape that it may")
        values = np.frombuffer((folder / file).read_bytes(), np.dtype(kind).newbyteorder("<")).reshape(shape)
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"map {name!r} of {folder} cannot be read ({e}); export the player again") from e
    return values.astype(kind)


def _write_whole(folder: Path, content: Mapping[str, bytes], description: Mapping[str, Any]) -> None:
    """All files into a folder beside, which then takes the name."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic(folder) as scratch:
            scratch.mkdir()
            for name, data in content.items():
                (scratch / name).write_bytes(data)
            write_json(scratch / DESCRIPTION, description)
    except OSError as e:
        raise UserError(f"cannot write {folder}: {e.strerror}; make room or name another folder") from e


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
