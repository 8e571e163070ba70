"""What the cases of tasks share: their two parts, and what stands for data that nobody looks at."""

from __future__ import annotations

import hashlib

from suite.naming import UserError
from suite.protocol import Spec


def data_and_model(spec: Spec, example: str) -> tuple[str, str]:
    """The two parts of a case such as ``fashion/resnet20``; raises UserError on a text that is none."""
    name, _, architecture = spec.case.partition("/")
    if not name or not architecture or "/" in architecture or name in (".", ".."):
        raise UserError(f"case {spec.case!r}: write data/architecture, for example {example}")
    return name, architecture


def shapes_digest(name: str) -> str:
    """Stands for a set's data in the `speed` division, which looks at none of it."""
    return hashlib.sha256(f"shapes of {name}".encode()).hexdigest()
