"""Who is it, and when: variant, key and date, computed again from what the bundle itself says; and what it says of a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from suite import bundle
from suite.checks import texts
from suite.checks.findings import AGAIN, Finding
from suite.naming import digest, variant

AHEAD = timedelta(days=1)  #: that a clock may be ahead of ours
BEGAN = "2026-11-24T00:00:00Z"  #: there was no runner before that day
KINDS = {"bool": bool, "int": int, "float": float, "str": str, "None": type(None)}  #: of settings, as annotations name them
CLOCK = "set this machine's clock"


@dataclass(frozen=True)
class Settings:
    """What can be set of a method, as its source has it."""

    defaults: Mapping[str, Any]
    values: Mapping[str, str]  #: by name the choices apart by commas, or the type


def key(where: str, record: bundle.RunRecord, identities: Sequence[str]) -> Iterator[Finding]:
    """The key is that of what was asked.

    Args:
        identities: digests that may stand for the method's version in it: its source's own, and the one that opened its version.
    """
    asked = [record.spec.model_dump(mode="json"), record.method.name]
    rest = [record.method.configuration, record.data, record.processes, dict(record.systems)]
    keys = [digest([*asked, identity, *rest]) for identity in identities]
    if record.key not in keys:
        told = f"is {record.key[:12]}, what was asked hashes to {keys[0][:12]}"
        yield Finding(where, bundle.RUN, "key", "error", told, AGAIN)


def named(where: str, record: bundle.RunRecord, settings: Settings | None, *, whole: bool = False) -> Iterator[Finding]:
    """The variant names every setting that is not the default's, and nothing else; each has the type that the runner gives it.

    Args:
        settings: of the method's source; None where it is not at hand: then what the variant names must be in the configuration.
        whole: the source is the very one that ran: all that can be set is there.
    """
    method = record.method
    if settings is None:
        named = [part.partition("=")[0] for part in method.variant.split(",") if "=" in part]
        if odd := [n for n in named if n.isidentifier() and n not in method.configuration]:
            told = f"names {odd[0]}, which the configuration does not have"
            yield Finding(where, bundle.RUN, "method.variant", "error", told, AGAIN)
        return
    defaults = settings.defaults
    if whole and (odd := sorted(set(defaults) - set(method.configuration))):
        told = f"has no {odd[0]}, and every setting is written"
        yield Finding(where, bundle.RUN, "method.configuration", "error", told, AGAIN)
        return
    for name, value in method.configuration.items():
        if name in defaults and not typed(value, defaults[name], settings.values.get(name, "")):
            told = f"has {name}={value!r}, and the runner writes {settings.values.get(name) or type(defaults[name]).__name__}"
            yield Finding(where, bundle.RUN, "method.configuration", "error", told, AGAIN)
            return
    if odd := sorted(set(method.configuration) - set(defaults)):
        told = f"has {odd[0]}, which {method.name} cannot be set"
        yield Finding(where, bundle.RUN, "method.configuration", "error", told, AGAIN)
        return
    # a setting that came later has its default in older bundles
    listed = variant({k: _lists(v) for k, v in method.configuration.items()}, {k: _lists(v) for k, v in defaults.items()})
    if _brackets(method.variant) != _brackets(listed):
        told = f"says {method.variant or 'nothing'}, the settings come to {listed or 'the defaults'}"
        yield Finding(where, bundle.RUN, "method.variant", "error", told, AGAIN)


def typed(value: Any, default: Any, values: str) -> bool:
    """Whether a setting is stored as its field's type is: 5 and true equal 5.0 and 1, and are another row's text.

    Args:
        values: the field's choices, or its type.
    """
    named = [part.strip() for part in values.split("|")]
    if default is None or len(named) > 1:
        known = {KINDS[n] for n in named} if set(named) <= KINDS.keys() else {str, int, float, bool, list, type(None)}
        return type(value) in known
    if isinstance(default, list | tuple):
        kinds = {type(v) for v in default} or {str, int, float, bool}
        return isinstance(value, list) and all(type(v) in kinds for v in value)
    chosen = isinstance(default, str) and ", " in values and "[" not in values
    return type(value) is type(default) and (not chosen or value in values.split(", "))


def places(where: str, record: bundle.RunRecord) -> Iterator[Finding]:
    """No text that may hold anything names a folder of somebody's machine."""
    told = [("reason", record.reason), *(("notes", note) for note in record.notes)]
    told += [(f"unsupported {name}", why) for name, why in record.unsupported.items()]
    told += [(f"measures {m.name}", warning) for m in record.measures for warning in m.warnings]
    told += [(f"method.configuration {name}", str(value)) for name, value in record.method.configuration.items()]
    for field, text in told:
        if found := texts.paths(text):
            words = f"names {found[0]}, a folder of some machine"
            yield Finding(where, bundle.RUN, field, "mark", words, "name files by what lies below the data folder")


def _lists(value: Any) -> Any:
    """A tuple has become a list in JSON."""
    return [_lists(v) for v in value] if isinstance(value, list | tuple) else value


def _brackets(text: str) -> str:
    """The text of a variant without what tells a tuple from a list."""
    return text.replace(",)", ")").replace("(", "[").replace(")", "]")


def dated(where: str, record: bundle.RunRecord) -> Iterator[Finding]:
    """Made in the past, by a runner that there was."""
    if record.created < BEGAN:  # texts of one form are in the order of their moments
        told = f"{record.created} lies before {BEGAN[:10]}, when there was no runner"
        yield Finding(where, bundle.RUN, "created", "error", told, CLOCK)
    if ahead(record.created):
        yield Finding(where, bundle.RUN, "created", "error", f"{record.created} lies in the future", CLOCK)


def ahead(moment: str) -> bool:
    """Whether a moment has not been yet, by any clock that goes right."""
    return moment > (datetime.now(UTC) + AHEAD).strftime(bundle.WHEN)


def signed(where: str, record: bundle.RunRecord) -> Iterator[Finding]:
    """Who submits is nobody, or somebody who can be read."""
    if record.submitter and (told := texts.nameless(record.submitter)):
        yield Finding(where, bundle.RUN, "submitter", "error", told, "write a name, or none")
