"""The bundle's schema as a table, generated from the models that read and write it."""

from __future__ import annotations

import typing
from typing import Annotated, Any

from pydantic import BaseModel

from suite.bundle import RunRecord


def schema_table() -> str:
    """Every record of ``run.json`` as a Markdown table: field, type, meaning."""
    parts: list[str] = [
        "A bundle is a folder `results/<task>/<tier>/<method>/<key>-<id>/` with `run.json`, `evidence.parquet` (a line a test row) and",
        "`timing.parquet` (a line a timed block) and at most four small pictures (`*.webp`, without loss). Within a schema version fields are only added.",
        "",
    ]
    todo: list[type[BaseModel]] = [RunRecord]
    seen: set[str] = set()
    while todo:
        model = todo.pop(0)
        if model.__name__ in seen:
            continue
        seen.add(model.__name__)
        parts += [
            f"## {model.__name__}",
            "",
            (model.__doc__ or "").strip().replace("``", "`"),
            "",
            "| field | type | meaning |",
            "|---|---|---|",
        ]
        hints = typing.get_type_hints(model, include_extras=True)
        for name, field in model.model_fields.items():
            parts.append(f"| `{name}` | {_words(hints[name])} | {field.description or ''} |")
            todo += _models(field.annotation)
        parts.append("")
    return "\n".join(parts)


def _words(hint: Any) -> str:
    """A type in words that a reader of JSON knows."""
    if typing.get_origin(hint) is Annotated:
        return _words(typing.get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin is list:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return f"object: {_words(arguments[0])} to {_words(arguments[1])}"
    if arguments:
        return " or ".join(_words(a) for a in arguments)
    return {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}.get(hint, "any")


def _models(hint: Any) -> list[type[BaseModel]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return [hint]
    return [m for a in typing.get_args(hint) for m in _models(a)]
