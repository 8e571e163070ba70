"""Who is it, and when: variant, key and date, computed again from what the bundle itself says; and what it says of a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from suite import bundle
from suite.checks import texts
from suite.checks.findings import AGAIN, Finding
from suite.naming import digest, variant

AHEAD = timedelta(days=1)  #: that a clock may be ahead of ours


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


def named(where: str, record: bundle.RunRecord, defaults: Mapping[str, Any] | None) -> Iterator[Finding]:
    """The variant names every setting that is not the default's, and nothing else.

    Args:
        defaults: of the method's source; None where it is not at hand: then what the variant names must be in the configuration.
    """
    method = record.method
    if defaults is None:
        named = [part.partition("=")[0] for part in method.variant.split(",") if "=" in part]
        if odd := [n for n in named if n.isidentifier() and n not in method.configuration]:
            told = f"names {odd[0]}, which the configuration does not have"
            yield Finding(where, bundle.RUN, "method.variant", "error", told, AGAIN)
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
    """Made in the past."""
    if record.created > (datetime.now(UTC) + AHEAD).strftime(bundle.WHEN):  # texts of one form are in the order of their moments
        yield Finding(where, bundle.RUN, "created", "error", f"{record.created} lies in the future", "set this machine's clock")
