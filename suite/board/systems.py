"""Pages of machines: a page a card, with what was weighed on it and what it can tell apart, and the list of them by class."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite import registry
from suite.board import cases, tables
from suite.board.tables import Board

if TYPE_CHECKING:
    import duckdb
    import jinja2

#: the parent of each run of it on a card, weighed against itself
AGAINST_ITSELF = """
SELECT w.weigh_card, w.task, w."case", m.part, w.seed, m.value, m.low, m.high
FROM (SELECT * FROM weighed UNION ALL SELECT * EXCLUDE ("row") FROM retimed) AS w JOIN parents ON parents.task = w.task AND parents.method = w.method
JOIN measured AS m ON m.run = w.id AND m.name = 'speedup' WHERE m.low IS NOT NULL
ORDER BY m.part, w.seed, w.task, w."case", w.tier, w.target, w.created, w.id
"""
MOST_TRIALS = 60  #: of the parent against itself that a page lists


def pages(env: jinja2.Environment, db: duckdb.DuckDBPyConnection, boards: Sequence[Board]) -> dict[str, str]:
    """All of them.  `boards` are those of every class of machine that stands on a task's page."""
    facts = {name: tables.facts(text) for name, text in db.execute("SELECT hash, facts FROM cards ORDER BY hash").fetchall()}
    machine = cases.classes(db)
    weighed, solved = (
        Counter(dict(db.execute(f"SELECT {role}_card, count(*) FROM {of} GROUP BY ALL").fetchall()))
        for role, of in (
            ("weigh", "(SELECT weigh_card FROM standing UNION ALL SELECT weigh_card FROM retimed)"),
            ("solve", "standing"),
        )
    )
    members: dict[str, list[str]] = defaultdict(list)
    for name in sorted(facts, key=lambda name: (-weighed[name], -solved[name], name)):
        members[machine[name]].append(name)
    here: dict[str, list[Any]] = defaultdict(list)
    for b in boards:
        here[b.card] += [(b, row, registry.task_of(b.ranking)) for row in b.rows if row.timed]
    trials = _trials(db)
    out = {}
    for name, told in facts.items():
        aa = trials.get(name, [])
        out[f"systems/{name}.md"] = env.get_template("system.md.j2").render(
            hash=name,
            machine=words(told),
            facts=_groups(told),
            aa=aa[:MOST_TRIALS],
            further=max(0, len(aa) - MOST_TRIALS),
            resolution=_resolution(aa),
            parents=sorted({registry.task(r["task"]).parent_method for r in aa}),
            weighed=here.get(name, []),
            together=machine[name],
            members=[(other, weighed[other], _apart(told, facts[other])) for other in members[machine[name]] if other != name],
        )
    groups = [
        (first, words(facts[first]), others, sum(weighed[n] for n in others), sum(solved[n] for n in others))
        for first, others in members.items()
    ]
    out["systems/index.md"] = env.get_template("systems.md.j2").render(machines=sorted(groups, key=lambda g: (-g[3], -g[4], g[0])))
    return out


def script(db: duckdb.DuckDBPyConnection) -> str:
    """A script that hands a page what there is to pick from: by class its words, cores, processor and GPU."""
    facts = {name: tables.facts(text) for name, text in db.execute("SELECT hash, facts FROM cards").fetchall()}
    told = {}
    for name in sorted(set(cases.classes(db).values())):
        processor, gpu = (_group(facts[name], group) for group in ("processor", "gpu"))
        told[name] = [
            words(facts[name]),
            processor.get("cores"),
            *(text if isinstance(text, str) else "" for text in (processor.get("model"), gpu.get("name"))),
        ]
    return f"weighin.machines({json.dumps(told, ensure_ascii=False, separators=(',', ':'))})\n"


def _trials(db: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, Any]]]:
    """By card the ratios of parents to themselves, in their task's own workload.

    In others the parent may run beside another program of its own, as with a kernel or a runtime that is not its best.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    known = registry.tasks()
    for card, task, case, part, seed, value, low, high in db.execute(AGAINST_ITSELF).fetchall():
        if task in known and part == registry.task(task).of(case).speed:
            found[card].append({"task": task, "part": part, "seed": seed, "value": value, "low": low, "high": high})
    return found


def _resolution(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What a machine can tell apart: the largest error of a parent against itself, or half of the usual interval."""
    if not trials:
        return None
    errors = sorted(abs(r["value"] - 1) for r in trials)
    halves = sorted((r["high"] - r["low"]) / 2 for r in trials)
    worst = max(errors[-1], halves[len(halves) // 2])
    return {"percent": f"{100 * worst:.1f}", "median": f"{100 * errors[len(errors) // 2]:.2f}", "trials": len(errors)}


def words(facts: Mapping[str, Any]) -> str:
    """A card in a few words: processor, cores, GPU."""
    processor = _group(facts, "processor")
    count = processor.get("cores")
    cores = f"{count} core{'s' * (count != 1)}" if count else ""
    parts = (processor.get("model"), cores, _group(facts, "gpu").get("name"))
    return ", ".join(told(part) for part in parts if part) or "a machine"


def _group(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A group of facts; empty where a card that nobody checked has something else there."""
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def told(value: Any) -> str:
    """A fact of a system card in words, however deep it is nested."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {told(v)}" for k, v in value.items())
    return ", ".join(map(told, value)) if isinstance(value, list) else str(value)


def _groups(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A card's facts as named groups; a fact outside any group is put into one called card."""
    loose = {k: v for k, v in facts.items() if not isinstance(v, dict)}
    return {k: v for k, v in facts.items() if isinstance(v, dict)} | ({"card": loose} if loose else {})


def _apart(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What parts two cards of a class: the other's facts that differ."""
    mine = _groups(ours)
    return "; ".join(
        f"{name} {told(value)}"
        for group, of in _groups(theirs).items()
        for name, value in of.items()
        if mine.get(group, {}).get(name) != value
    )
