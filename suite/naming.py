"""Names and addresses that must read the same everywhere: targets, variants, seeds, digests."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Any


class UserError(Exception):
    """The user's mistake: one line that says what to do; the command prints it and exits with 2."""


def parse_target(text: str) -> dict[str, float]:
    """Read ``a=0.5,b=0.2``; raises UserError on anything that is not finite positive numbers with names."""
    out: dict[str, float] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name.isidentifier() or not (0 < number < math.inf) or name in out:
            raise UserError(f"target {text!r}: write name=number pairs such as kept=0.5 or one=0.5,other=0.2")
        out[name] = number
    return out


def canonical_target(text: str) -> str:
    """Names sorted, numbers in shortest form, so that one target has one text."""
    return ",".join(f"{k}={v:g}" for k, v in sorted(parse_target(text).items()))


#: letters that are seen as nothing: what stands in for a part of a Korean syllable that is not there
FILLERS = frozenset("\u115f\u1160\u3164\uffa0")
SUBMITTER = r"[\w .@+-]{1,80}"  #: a pattern


def unreadable(name: str) -> str:
    """What is wrong with the name of who submits beside its characters; empty where it is one that can be told from others."""
    if not any(c.isalnum() for c in name):
        return "has no letter and no digit"
    return "" if " ".join(name.split()) == name else "has blanks around it, or several in a row"


def check_submitter(name: str) -> None:
    """Raises UserError on a name that no bundle can hold."""
    whole = unicodedata.normalize("NFC", name) == name and not FILLERS.intersection(name)
    if not re.fullmatch(SUBMITTER, name) or not whole or unreadable(name):
        raise UserError(f"--submitter {name!r}: write letters, digits, single blanks between them and . _ @ + -, at most 80")


def address(*parts: object) -> int:
    """A 63-bit seed that depends on its parts only: randomness is addressed, not streamed."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: what every digest of the suite is taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def indented_json(value: Any) -> str:
    """What `json.dumps` writes with sorted keys and an indent of one blank, by its C encoder, which knows no indent.

    An object or list without another within is written at one stroke, its separator a line's end and the indent.
    Raises ValueError on NaN and infinities.
    """
    return _indented(value, 0)


def _indented(value: Any, level: int) -> str:
    ends = ("{", "}") if isinstance(value, dict) else ("[", "]")
    if not isinstance(value, dict | list) or not value:
        return _encoder(level).encode(value)
    within = "\n" + " " * (level + 1)
    if isinstance(value, dict):
        if any(isinstance(v, dict | list) for v in value.values()):
            plain = _encoder(level)
            body = f",{within}".join(f"{plain.encode(k)}: {_indented(value[k], level + 1)}" for k in sorted(value))
        else:
            body = _encoder(level).encode(value)[1:-1]
    elif any(isinstance(v, dict | list) for v in value):
        body = f",{within}".join(_indented(v, level + 1) for v in value)
    else:
        body = _encoder(level).encode(value)[1:-1]
    return f"{ends[0]}{within}{body}{within[:-1]}{ends[1]}"


@cache
def _encoder(level: int) -> json.JSONEncoder:
    """Writes what lies within an object at this level."""
    separators = (",\n" + " " * (level + 1), ": ")
    return json.JSONEncoder(sort_keys=True, separators=separators, ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def variant(configuration: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Non-default settings as canonical text, the name of a row's variant: ``delta0=0``; empty for the defaults."""
    return ",".join(f"{k}={configuration[k]}" for k in sorted(configuration) if configuration[k] != defaults.get(k))


UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}


def seconds(text: str) -> float:
    """A budget such as ``6h``, ``90m``, ``1h30m`` or ``90`` (seconds) in seconds; raises UserError on anything else."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(h|min|m|s|$)", text.replace(" ", ""))
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise UserError(f"--budget {text!r}: write hours, minutes or seconds, such as 6h, 10m, 1h30m or 90s")
    whole = sum(float(number) * UNITS[unit] for number, unit in parts)
    if whole <= 0:
        raise UserError(f"--budget {text!r}: write more than 0")
    return whole
