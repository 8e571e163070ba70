"""Dishonest by one thing: each takes an honest submission and changes what a reader of the board would believe.

A mutation raises `Nothing` where a bundle has nothing for it to change.  What no checker can see, evidence that was invented as a
whole and figures of meters within their bounds, is none of these: a replay confirms those.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from suite import bundle, naming, registry, rules, system, versions
from suite.checks.numbers import UNITS
from suite.checks.seen import print_of
from suite.fields import defaults
from suite.meters import timing
from tests.fuzz.submission import Submission

T = TypeVar("T")
Draw = np.random.Generator
Mutation = Callable[[Submission, Draw], None]
MUTATIONS: dict[str, Mutation] = {}
EVIDENCE, TIMING = bundle.EVIDENCE, bundle.TIMING


class Nothing(Exception):
    """A bundle has nothing that a mutation could change."""


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


def _any(draw: Draw, items: Any) -> Any:
    """One of these; raises Nothing where there are none."""
    items = list(items)
    if not items:
        raise Nothing
    return items[int(draw.integers(len(items)))]


def _needed(value: T | None) -> T:
    """What a mutation cannot do without; raises Nothing where it is not there."""
    if value is None:
        raise Nothing
    return value


@cache
def _of_task(task: str) -> rules.TaskRules:
    return rules.read(registry.TASKS / task / rules.FILE)


def _rules(s: Submission) -> rules.CaseRules:
    spec = s.body["spec"]
    return _needed(_of_task(spec["task"]).of(spec["tier"], spec["division"], spec["case"]))


def _measure(s: Submission, name: str) -> dict[str, Any]:
    return _needed(s.measure(name))


def _evidence(s: Submission) -> dict[str, np.ndarray]:
    return _needed(s.tables.get(EVIDENCE))


def _factor(draw: Draw) -> float:
    return float(_any(draw, (0.5, 0.9, 0.98, 1.02, 1.1, 2.0, 3.0)))


# -- numbers ---------------------------------------------------------------------------------------------------------


@mutation
def a_derived_value(s: Submission, draw: Draw) -> None:
    m = _any(draw, [m for m in s.body["measures"] if m["source"] != "meter" and m["value"]])
    s.derive = False
    m["value"] *= _factor(draw)


@mutation
def an_interval(s: Submission, draw: Draw) -> None:
    m = _any(draw, [m for m in s.body["measures"] if m["source"] != "meter" and m["low"]])
    s.derive = False
    m[_any(draw, ("low", "high"))] *= _factor(draw)


@mutation
def warnings_left_out(s: Submission, draw: Draw) -> None:
    m = _any(draw, [m for m in s.body["measures"] if m["source"] != "meter" and m["warnings"]])
    s.derive = False
    m["warnings"] = []


@mutation
def a_measure_left_out(s: Submission, draw: Draw) -> None:
    s.derive = False
    del s.body["measures"][s.body["measures"].index(_any(draw, [m for m in s.body["measures"] if m["source"] != "meter"]))]


@mutation
def a_measure_invented(s: Submission, draw: Draw) -> None:
    s.derive = False
    m = dict(_any(draw, [m for m in s.body["measures"] if m["source"] != "meter"]))
    m["part"] = "invented"
    s.body["measures"].append(m)


@mutation
def a_measure_twice(s: Submission, draw: Draw) -> None:
    s.derive = False
    s.body["measures"].append({**_any(draw, s.body["measures"]), "value": 1.0})


@mutation
def the_rank_by_a_meter(s: Submission, draw: Draw) -> None:
    ranked = registry.task(s.body["spec"]["task"]).of(s.body["spec"]["case"]).ranked
    m = _measure(s, ranked)
    s.derive = False
    m.update(value=99.9, low=99.0, high=100.0, source="meter")


@mutation
def the_parent_larger(s: Submission, draw: Draw) -> None:
    m = _measure(s, _any(draw, _rules(s).parent))
    m["value"] *= float(_any(draw, (1.01, 1.5, 2.0, 10.0)))


@mutation
def a_needed_meter_left_out(s: Submission, draw: Draw) -> None:
    meters = _of_task(s.body["spec"]["task"]).meters
    name = _any(draw, meters)
    s.body["measures"] = [m for m in s.body["measures"] if m["name"] != name]


@mutation
def operations_left_out(s: Submission, draw: Draw) -> None:
    if not s.body["operations"] or s.measure("macs") is None:
        raise Nothing
    s.body["operations"] = []


@mutation
def layers_that_sum_to_less(s: Submission, draw: Draw) -> None:
    layer = _any(draw, [x for x in s.body["operations"] if x["macs"]])
    _measure(s, "macs")
    layer["macs"] *= 0.5


@mutation
def fewer_left_than_the_layers_say(s: Submission, draw: Draw) -> None:
    name = _any(draw, [n for n in ("macs_nonzero", "kept.nonzero") if s.measure(n)])
    _measure(s, name)["value"] *= float(_any(draw, (0.5, 0.9)))


@mutation
def a_share_that_is_no_quotient(s: Submission, draw: Draw) -> None:
    name = _any(draw, [n for n in registry.task(s.body["spec"]["task"]).of(s.body["spec"]["case"]).quotients if s.measure(n)])
    _measure(s, name)["value"] *= 0.7


@mutation
def examples_beyond_the_budget(s: Submission, draw: Draw) -> None:
    if s.body["spec"]["division"] == "open":
        raise Nothing
    most = _needed(_rules(s).most_examples(s.body["method"]["name"]))
    _measure(s, "examples")["value"] = float(most * 3 + 1000)


@mutation
def a_number_beyond_reason(s: Submission, draw: Draw) -> None:
    m = _any(draw, [m for m in s.of("meter") if m["unit"] in UNITS])
    m["value"] = float(_any(draw, (-1e300, -1.0)))


@mutation
def a_count_that_no_database_takes(s: Submission, draw: Draw) -> None:
    if not s.body["operations"]:
        raise Nothing
    s.body["operations"][0][_any(draw, ("params", "nonzero"))] = int(10 ** int(_any(draw, (19, 25, 400))))


# -- who and what ----------------------------------------------------------------------------------------------------


@mutation
def the_variant_blank(s: Submission, draw: Draw) -> None:
    if not s.body["method"]["variant"]:
        raise Nothing
    s.body["method"]["variant"] = ""


@mutation
def a_setting_under_the_same_name(s: Submission, draw: Draw) -> None:
    known = s.body["method"]["configuration"]
    name = _any(draw, [k for k, v in known.items() if isinstance(v, float | int) and not isinstance(v, bool)])
    known[name] = known[name] * 2 + 1


@mutation
def a_setting_that_there_is_not(s: Submission, draw: Draw) -> None:
    s.body["method"]["configuration"]["luck"] = 7


@mutation
def a_variant_invented(s: Submission, draw: Draw) -> None:
    s.body["method"]["variant"] = f"{s.body['method']['variant']},extra=1".lstrip(",")


@mutation
def a_copied_key(s: Submission, draw: Draw) -> None:
    s.rekey = False
    s.body["key"] = "".join(_any(draw, "0123456789abcdef") for _ in range(64))


@mutation
def another_seed_under_the_same_key(s: Submission, draw: Draw) -> None:
    s.rekey = False
    s.body["spec"]["seed"] += int(draw.integers(1, 100))


@mutation
def another_card_under_the_same_key(s: Submission, draw: Draw) -> None:
    s.rekey = False
    s.body["systems"]["weigh"] = "ab" * 8


@mutation
def a_card_that_is_not_there(s: Submission, draw: Draw) -> None:
    s.body["systems"][_any(draw, ("solve", "weigh"))] = "ab" * 8


@mutation
def a_method_that_there_is_not(s: Submission, draw: Draw) -> None:
    s.body["method"]["name"] = _any(draw, ("unheard_of", "Chex", "chex2", "dense_"))


@mutation
def a_name_that_reads_like_ours(s: Submission, draw: Draw) -> None:
    name = s.body["method"]["name"]
    look = _any(draw, {name.upper(), name.replace("l", "1"), name.replace("_", "-"), name.replace("i", "I"), name})
    s.body["method"].update(name=f"{look}@{s.body['method']['version'][:12]}", origin="file")


@mutation
def ones_own_method_with_another_digest(s: Submission, draw: Draw) -> None:
    s.body["method"].update(name="mine@000000000000", origin="file")


@mutation
def seedless_where_seeds_count(s: Submission, draw: Draw) -> None:
    if s.body["method"]["seedless"]:
        raise Nothing
    ours = registry.methods(s.body["spec"]["task"])[s.body["method"]["name"]]
    if "seedless" in ours.path.read_text(encoding="utf-8"):
        raise Nothing
    s.body["method"]["seedless"] = True


@mutation
def a_day_to_come(s: Submission, draw: Draw) -> None:
    s.body["created"] = _any(draw, ("2999-01-01T00:00:00Z", "2100-06-01T12:00:00Z"))


@mutation
def a_day_that_there_is_not(s: Submission, draw: Draw) -> None:
    s.body["created"] = _any(draw, ("2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z", "٢٠٢٦-01-01T00:00:00Z"))


@mutation
def another_target(s: Submission, draw: Draw) -> None:
    s.body["spec"]["target"] = _any(
        draw, ("0", "macs=0", "macs=nan", "macs=inf", "macs=0.50", "macs=abc", "macs=", "luck=0.5", "macs=0.5,macs=0.5", "edges=2")
    )


@mutation
def another_case(s: Submission, draw: Draw) -> None:
    if s.body["spec"]["division"] != "closed" or s.body["spec"]["tier"] == "paper":
        raise Nothing
    data, _, network = s.body["spec"]["case"].partition("/")
    s.body["spec"]["case"] = _any(draw, (f"{data}/other", f"other/{network}", f"{data}2/{network}"))


@mutation
def evidence_of_one_case_as_another(s: Submission, draw: Draw) -> None:
    task, spec = registry.task(s.body["spec"]["task"]), s.body["spec"]
    others = [c for c in task.tiers[spec["tier"]].cases if c.partition("/")[0] != spec["case"].partition("/")[0]]
    if spec["division"] != "closed" or not others:
        raise Nothing
    spec["case"] = _any(draw, others)


@mutation
def another_size_of_video(s: Submission, draw: Draw) -> None:
    spec = s.body["spec"]
    if spec["task"] != "mobile_vsr" or spec["division"] != "closed":
        raise Nothing
    data, _, scale = spec["case"].partition("/")
    spec["case"] = f"{data}/{'x4' if scale.startswith('x2') else 'x2'}"


@mutation
def another_version_of_the_task(s: Submission, draw: Draw) -> None:
    s.body["spec"]["version"] = int(_any(draw, (99, 2**31, 2**63)))


@mutation
def other_data(s: Submission, draw: Draw) -> None:
    if s.body["spec"]["division"] == "speed":
        raise Nothing
    s.body["data"] = "0" * 64


@mutation
def a_seed_beyond_63_bits(s: Submission, draw: Draw) -> None:
    s.body["spec"]["seed"] = int(_any(draw, (2**63, 2**64, 10**30, -1)))


# -- evidence --------------------------------------------------------------------------------------------------------


@mutation
def an_answer_without_its_score(s: Submission, draw: Draw) -> None:
    table = _evidence(s)
    task = registry.task(s.body["spec"]["task"]).of(s.body["spec"]["case"])
    column = table[_any(draw, [c for c in ("prediction", "error_frame") if c in table and c not in task.truth])]
    s.derive = False
    before = column.copy()
    column[:] = column * 0.5 if column.dtype.kind == "f" else np.roll(column, 1 + int(draw.integers(5)))
    if (column == before).all():
        raise Nothing


@mutation
def a_label_of_the_data(s: Submission, draw: Draw) -> None:
    table = _evidence(s)
    task = registry.task(s.body["spec"]["task"]).of(s.body["spec"]["case"])
    dictated = [c for c in (*task.truth, *_rules(s).columns) if c != "row"]
    column = table[_any(draw, dictated)]
    at = int(draw.integers(len(column)))
    column[at] = column[at] + 1 if column[at] < 100 else column[at] - 1


@mutation
def the_videos_bytes(s: Submission, draw: Draw) -> None:
    table = _evidence(s)
    name = _any(draw, [c for c in table if c.startswith("bytes_video")])
    table[name] = (table[name] * float(_any(draw, (0.5, 0.9, 1.1)))).astype(table[name].dtype)


@mutation
def rows_left_out(s: Submission, draw: Draw) -> None:
    table = _evidence(s)
    keep = np.sort(draw.permutation(len(table["row"]))[: -int(draw.integers(1, 10))])
    s.tables[EVIDENCE] = {k: v[keep] for k, v in table.items()} | {"row": np.arange(len(keep), dtype=table["row"].dtype)}


@mutation
def a_cell_that_is_no_number(s: Submission, draw: Draw) -> None:
    table = _evidence(s)
    name = _any(draw, [c for c, v in table.items() if v.dtype.kind == "f"])
    s.derive = False
    table[name][int(draw.integers(len(table[name])))] = float(_any(draw, (math.nan, math.inf, -math.inf)))


# -- timings ---------------------------------------------------------------------------------------------------------


def _part(table: dict[str, np.ndarray], name: str, quads: np.ndarray) -> dict[str, np.ndarray]:
    """Some quads of a workload, numbered as if they were all."""
    mine = timing.part_of(table, name)
    rows = (4 * quads[:, None] + np.arange(4)).ravel()
    cut = {k: v[rows] for k, v in mine.items()}
    cut["quad"] = (np.arange(len(rows)) // 4).astype(table["quad"].dtype)
    cut["index"] = np.arange(len(rows)).astype(table["index"].dtype)
    return cut


def _replaced(s: Submission, name: str, part: dict[str, np.ndarray]) -> None:
    table = s.tables[TIMING]
    parts = [part if n == name else timing.part_of(table, n) for n in timing.items_of(table)]
    s.tables[TIMING] = {k: np.concatenate([p[k] for p in parts]) for k in table}


@mutation
def the_best_quads(s: Submission, draw: Draw) -> None:
    table = s.tables[TIMING]
    name = _any(draw, timing.items_of(table))
    logs = timing.quad_ratios(timing.part_of(table, name))
    count = len(logs) // 3
    chosen = np.sort(np.argsort(-logs)[:count])
    if count < 5 or count in timing.LOOKS:
        raise Nothing
    part = _part(table, name, chosen)
    least = _of_task(s.body["spec"]["task"]).timing_seconds or timing.CAP_SECONDS
    if float(part["seconds"].sum()) >= 0.9 * least:
        raise Nothing
    _replaced(s, name, part)


@mutation
def the_first_nine_quads(s: Submission, draw: Draw) -> None:
    table = s.tables[TIMING]
    name = _any(draw, timing.items_of(table))
    mine = table["workload"] == name
    if mine.sum() <= 40 or float(table["seconds"][mine][:36].sum()) >= 0.25 * timing.CAP_SECONDS * 0.9:
        raise Nothing
    _replaced(s, name, _part(table, name, np.arange(9)))


@mutation
def a_workload_left_out(s: Submission, draw: Draw) -> None:
    name = _any(draw, _rules(s).timed)
    table = s.tables[TIMING]
    left = {k: v[table["workload"] != name] for k, v in table.items()}
    if not len(left["quad"]):
        raise Nothing
    s.tables[TIMING] = left
    if draw.random() < 0.5:
        s.body["unsupported"][name] = "this machine cannot"


@mutation
def more_items_a_call(s: Submission, draw: Draw) -> None:
    table = s.tables[TIMING]
    name = _any(draw, timing.items_of(table))
    mine = table["workload"] == name
    table["items"][mine] = table["items"][mine] * int(_any(draw, (2, 10, 100)))


@mutation
def a_workload_invented(s: Submission, draw: Draw) -> None:
    _rules(s)
    table = s.tables[TIMING]
    name = _any(draw, timing.items_of(table))
    part = timing.part_of(table, name)
    part["workload"] = np.array(["invented@1"] * len(part["quad"]), dtype=object)
    s.tables[TIMING] = {k: np.concatenate([table[k], part[k]]) for k in table}


@mutation
def blocks_of_no_time(s: Submission, draw: Draw) -> None:
    table = s.tables[TIMING]
    ours = table["side"] == "candidate"
    table["seconds"][ours] = table["seconds"][ours] * 1e-4


@mutation
def quads_out_of_order(s: Submission, draw: Draw) -> None:
    table = s.tables[TIMING]
    s.derive = False
    at = int(_any(draw, np.flatnonzero(table["side"][1:] != table["side"][:-1])))  # two blocks of one side are alike
    for column in table.values():
        column[[at, at + 1]] = column[[at + 1, at]]


# -- files -----------------------------------------------------------------------------------------------------------


@mutation
def a_byte_of_a_file(s: Submission, draw: Draw) -> None:
    """Its hash is computed anew: only what it holds can tell."""
    name = _any(draw, s.body["files"])
    data = bytearray((s.source / name).read_bytes())
    at = int(draw.integers(len(data)))
    data[at] ^= 1 << int(draw.integers(8))
    s.raw[name] = bytes(data)
    s.derive = False


@mutation
def a_file_cut_short(s: Submission, draw: Draw) -> None:
    name = _any(draw, s.body["files"])
    data = (s.source / name).read_bytes()
    s.raw[name] = data[: int(draw.integers(1, len(data)))]
    s.derive = False


@mutation
def bytes_between_the_pages(s: Submission, draw: Draw) -> None:
    name = _any(draw, s.body["files"])
    data = (s.source / name).read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    s.raw[name] = data[: -8 - size] + b"hidden" + data[-8 - size :]


@mutation
def metadata_in_a_file(s: Submission, draw: Draw) -> None:
    name = _any(draw, s.body["files"])
    table = pa.table(dict(s.tables[name])).replace_schema_metadata({"note": "hidden"})
    out = io.BytesIO()
    parquet.write_table(table, out, compression="snappy")
    s.raw[name] = out.getvalue()


@mutation
def another_column(s: Submission, draw: Draw) -> None:
    name = _any(draw, s.body["files"])
    s.tables[name]["extra"] = np.zeros(len(next(iter(s.tables[name].values()))), np.int32)


@mutation
def a_column_of_another_type(s: Submission, draw: Draw) -> None:
    name = _any(draw, s.body["files"])
    column = _any(draw, [c for c, v in s.tables[name].items() if v.dtype.kind in "iu"])
    s.tables[name][column] = s.tables[name][column].astype(np.float64)


@mutation
def text_in_a_record(s: Submission, draw: Draw) -> None:
    text = _any(draw, ("<script>", "\u202egnp", "a\u200bb", "e\u0301", "\x1b[2J", "a\x00b"))
    where = _any(draw, ("variant", "operations", "submitter", "configuration", "unit"))
    if where == "variant":
        s.body["method"]["variant"] = text
    elif where == "configuration":
        s.body["method"]["configuration"][text] = 1
    elif where == "operations" and s.body["operations"]:
        s.body["operations"][0]["name"] = text
    elif where == "unit":
        s.body["measures"][0]["unit"] = text
        s.derive = False
    else:
        s.body["submitter"] = text


@mutation
def a_field_that_there_is_not(s: Submission, draw: Draw) -> None:
    _any(draw, (s.body, s.body["spec"], s.body["method"], s.body["source"]))["extra"] = 1


@mutation
def a_field_of_another_type(s: Submission, draw: Draw) -> None:
    field, value = _any(
        draw,
        (("schema_version", True), ("schema_version", 1.0), ("status", "fine"), ("measures", {}), ("files", []), ("processes", 0)),
    )
    s.body[field] = value
    s.derive = False


@mutation
def json_written_otherwise(s: Submission, draw: Draw) -> None:
    text = (s.source / bundle.RUN).read_bytes()
    change = _any(draw, ("blank", "order", "twice", "nan", "tail"))
    body = json.loads(text)
    s.text = {
        "blank": text + b" ",
        "order": json.dumps(dict(reversed(body.items())), indent=1).encode() + b"\n",
        "twice": text.replace(b'"created"', b'"created": "2020-01-01T00:00:00Z",\n "created"', 1),
        "nan": text.replace(b'"processes": 1', b'"processes": NaN', 1),
        "tail": text + b"{}",
    }[change]


@mutation
def a_reason_on_an_ok_run(s: Submission, draw: Draw) -> None:
    s.body["reason"] = "all is well"


@mutation
def a_failure_with_numbers(s: Submission, draw: Draw) -> None:
    s.body.update(status=_any(draw, ("diverged", "oom", "error")), reason="it failed")


@mutation
def another_place(s: Submission, draw: Draw) -> None:
    spec = s.body["spec"]
    s.place = (spec["task"], "small" if spec["tier"] != "small" else "paper", s.body["method"]["name"], "0" * 12 + "-" + "0" * 12)


@mutation
def a_stray_beside_it(s: Submission, draw: Draw) -> None:
    name = _any(draw, ("notes.txt", ".hidden/x", "systems/notes.txt", f"{s.body['spec']['task']}/x.html", "Systems/a.json"))
    s.beside[name] = b"x"


@mutation
def a_retraction_of_nothing(s: Submission, draw: Draw) -> None:
    s.beside["retractions/a.json"] = json.dumps({"id": "0" * 64, "reason": _any(draw, ("why not", "wrong"))}).encode()


@mutation
def a_retraction_on_no_day(s: Submission, draw: Draw) -> None:
    told = {"id": "0" * 64, "reason": "wrong", "date": _any(draw, ("2026-13-01", "2999-01-01", "soon"))}
    s.beside["retractions/a.json"] = json.dumps(told).encode()


@mutation
def a_confirmation_of_nothing(s: Submission, draw: Draw) -> None:
    card = s.body["systems"]["weigh"]
    told = {
        "schema_version": 1, "run": "0" * 64, "replay": "e" * 64, "created": "2026-11-26T00:00:00Z", "card": card,
        "evidence": "equal", "counts": "agrees", "timings": "agrees", "submitter": "Other Lab",
    }  # fmt: skip
    s.beside[f"confirmations/{'0' * 12}-{card}.json"] = json.dumps(told).encode()


def _beside(s: Submission) -> None:
    """The honest bundle stands beside the submission."""
    place = s.source.relative_to(s.source.parents[3])
    s.beside |= {(place / file.name).as_posix(): file.read_bytes() for file in s.source.iterdir()}


def _nudge(s: Submission) -> None:
    """Each figure becomes its next neighbour, but for those that the data or the case dictate."""
    table, spec = _evidence(s), s.body["spec"]
    task = registry.task(spec["task"]).of(spec["case"])
    case = _of_task(spec["task"]).of(spec["tier"], spec["division"], spec["case"])
    dictated = {*task.truth, *(case.columns if case else ()), *(case.totals if case else ())}
    for name in [n for n, c in table.items() if c.dtype.kind == "f" and n not in dictated]:
        table[name] = np.nextafter(table[name], table[name].dtype.type(0))


def _renumbered(s: Submission) -> None:
    """It says that it is of another seed."""
    if s.body["method"]["seedless"] or s.body["pictures"]:  # these are of one seed alone
        raise Nothing
    s.body["spec"]["seed"] += 1


@mutation
def a_copy_as_another_seed(s: Submission, draw: Draw) -> None:
    _evidence(s)
    _renumbered(s)
    _beside(s)


@mutation
def a_copy_as_another_seed_but_for_last_digits(s: Submission, draw: Draw) -> None:
    before = {n: c.copy() for n, c in _evidence(s).items()}
    _nudge(s)
    same = all((before[n] == c).all() for n, c in s.tables[EVIDENCE].items())
    if same or not print_of(before, registry.task(s.body["spec"]["task"]).of(s.body["spec"]["case"]).truth).varied:
        raise Nothing  # there are no figures, or they are the same for all
    _renumbered(s)
    _beside(s)


@mutation
def a_copy_under_another_setting(s: Submission, draw: Draw) -> None:
    _evidence(s)
    method = s.body["method"]
    ours = registry.methods(s.body["spec"]["task"])[method["name"]]
    known = defaults(ours)
    name = _any(draw, [k for k, v in known.items() if isinstance(v, float) and method["configuration"].get(k) == v])
    method["configuration"][name] = known[name] + 0.125
    method["variant"] = naming.variant(method["configuration"], known)
    _beside(s)


def _current(s: Submission) -> None:
    """Raises Nothing where the source is not at hand that tells what can be set."""
    lineage = versions.of_method(s.body["spec"]["task"], s.body["method"]["name"])
    if lineage.version_of(s.body["method"]["version"]) != lineage.stated:
        raise Nothing


@mutation
def a_setting_of_another_type(s: Submission, draw: Draw) -> None:
    _current(s)
    known = s.body["method"]["configuration"]
    name = _any(draw, [k for k, v in known.items() if isinstance(v, float | int)])
    value = known[name]
    known[name] = _any(draw, (str(value), [value], None, int(value) if isinstance(value, float) else float(value)))


@mutation
def a_setting_left_out(s: Submission, draw: Draw) -> None:
    method = s.body["method"]
    if method["version"] != registry.methods(s.body["spec"]["task"])[method["name"]].version:
        raise Nothing
    del method["configuration"][_any(draw, method["configuration"])]


@mutation
def another_device(s: Submission, draw: Draw) -> None:
    others = ("Cpu", "tpu", "meta", "cpu:0", *(("cuda", "cuda:1") if s.body["spec"]["device"] == "cpu" else ("cpu",)))
    s.body["spec"]["device"] = _any(draw, others)


@mutation
def a_day_before_there_was_a_runner(s: Submission, draw: Draw) -> None:
    s.body["created"] = _any(draw, ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2019-05-05T12:00:00Z"))


@mutation
def a_name_that_nobody_can_read(s: Submission, draw: Draw) -> None:
    s.body["submitter"] = _any(draw, (" ", "...", "\u3164", "\uffa0", "Lab ", "Lab\u1160"))


@mutation
def a_confirmation_that_says_nothing(s: Submission, draw: Draw) -> None:
    """Of an honest run."""
    s.derive = False
    run, card = json.loads((s.source / bundle.RUN).read_bytes())["id"], s.body["systems"]["weigh"]
    told = {
        "schema_version": 1, "run": run, "replay": "e" * 64, "created": "2026-11-30T23:59:59Z", "card": card,
        "evidence": "equal", "counts": "agrees", "timings": "agrees", "submitter": "Other Lab",
    }  # fmt: skip
    changes: tuple[dict[str, Any], ...] = (
        dict.fromkeys(("evidence", "counts", "timings"), "not judged"),
        {"counts": "equal"},
        {"replay": run},
        {"created": "2999-01-01T00:00:00Z"},
        {"schema_version": True},
        {"submitter": " "},
    )
    s.beside[f"confirmations/{run[:12]}-{card}.json"] = json.dumps(told | _any(draw, changes)).encode()


# -- what holds of every run of a task -------------------------------------------------------------------------------


def _told(s: Submission) -> rules.TaskRules:
    return _of_task(s.body["spec"]["task"])


def _meter(s: Submission, name: str, value: float, part: str = "") -> None:
    if s.measure(name, part):
        raise Nothing
    s.body["measures"].append(
        {"name": name, "part": part, "value": value, "unit": "", "direction": "", "low": None, "high": None, "source": "meter",
         "warnings": []}
    )  # fmt: skip


@mutation
def a_measure_of_evidence_by_a_meter(s: Submission, draw: Draw) -> None:
    there = {m["name"] for m in s.body["measures"]}
    _meter(s, _any(draw, sorted(set(_told(s).derived) - there)), float(_any(draw, (0.0, 1.0, 99.9))))


@mutation
def a_measure_of_another_method(s: Submission, draw: Draw) -> None:
    name = _any(draw, [n for n, methods in _told(s).only.items() if s.body["method"]["name"] not in methods])
    _meter(s, name, float(_any(draw, (2.0, 1000.0))))


@mutation
def a_chance_without_a_draw(s: Submission, draw: Draw) -> None:
    name = _any(draw, _told(s).ones)
    table = _evidence(s)
    if (table[name] != 1).any():
        raise Nothing
    table[name][draw.random(len(table[name])) < 0.2] = 0.5


@mutation
def no_answers_of_the_parent(s: Submission, draw: Draw) -> None:
    name = _any(draw, _told(s).parentless)
    if s.body["method"]["name"] in _told(s).parentless[name]:
        raise Nothing
    _evidence(s)[name][:] = -1


@mutation
def examples_that_no_call_tells(s: Submission, draw: Draw) -> None:
    """What ran before was never called, with or without what it cost; or more was seen than all calls come to."""
    task, case = registry.task(s.body["spec"]["task"]), _rules(s)
    method = s.body["method"]
    if not case.booked or f"{method['name']} {method['variant']}" in case.unbooked:
        raise Nothing
    name, (other, beginning) = _any(draw, task.exceeding.items())
    ran = [m for m in s.of("meter") if m["name"] == timing.CALLS[0] and m["part"].startswith(beginning)]
    for m in ran:
        m["value"] = 0.0
    if not ran:
        _measure(s, "examples")["value"] += 48
    elif draw.random() < 0.5:
        _measure(s, name)["value"] = _measure(s, other)["value"]


@mutation
def what_every_processor_runs_is_unsupported(s: Submission, draw: Draw) -> None:
    if s.body["spec"]["device"] != "cpu":
        raise Nothing
    s.body["unsupported"][f"{_any(draw, _told(s).everywhere)}0.123"] = "this machine cannot"


@mutation
def what_was_metered_is_unsupported(s: Submission, draw: Draw) -> None:
    beginning, measure = _any(draw, _told(s).runs.items())
    ran = sorted({m["part"].partition("@")[0] for m in s.of("meter") if m["name"] == measure})
    name = beginning + _any(draw, ran)
    table = _needed(s.tables.get(TIMING))
    s.tables[TIMING] = {k: v[table["workload"] != name] for k, v in table.items()}
    s.body["unsupported"][name] = "it is not installed"


@mutation
def figures_out_of_proportion(s: Submission, draw: Draw) -> None:
    names = _any(draw, [n for n in _told(s).ratios if ":" not in n])
    amount, whole = names.split("/")
    if not _measure(s, whole)["value"]:
        raise Nothing
    for m in [_any(draw, [m for m in s.of("meter") if m["name"] == amount])]:
        m["value"] = float(_any(draw, (1.0, 1e12)))


@mutation
def nothing_is_sent(s: Submission, draw: Draw) -> None:
    if not _told(s).of_largest or not _measure(s, "params")["value"]:
        raise Nothing
    table = _evidence(s)
    for column in ("bytes_model", "bytes_model_fp16"):
        table[column][0] = int(_any(draw, (0, 1, 1000)))


@mutation
def a_row_out_of_proportion(s: Submission, draw: Draw) -> None:
    over, under = _any(draw, _rules(s).rows).split("/")
    table = _evidence(s)
    row = int(draw.integers(len(table[over])))
    if table[over].dtype.kind == "f":
        table[under][row] *= 0.5
    else:
        table[over][row] = 2**30


@mutation
def a_rate_beside_its_time(s: Submission, draw: Draw) -> None:
    rate = _any(draw, _told(s).inverses)
    _any(draw, [m for m in s.of("meter") if m["name"] == rate])["value"] *= _factor(draw)


@mutation
def quantiles_that_fall(s: Submission, draw: Draw) -> None:
    name, quantiles = _any(draw, _told(s).rising.items())
    last = [m for m in s.of("meter") if m["name"] == name and m["part"].endswith(quantiles[-1])]
    _any(draw, last)["value"] /= 50


@mutation
def a_curve_beyond_the_training(s: Submission, draw: Draw) -> None:
    seconds = _measure(s, "train_seconds")["value"]
    _any(draw, s.body["curve"])["seconds"] = 1.01 * seconds + 0.01


@mutation
def a_curve_backwards(s: Submission, draw: Draw) -> None:
    if len({(p["name"], p["examples"]) for p in s.body["curve"]}) < 2 or len({p["seconds"] for p in s.body["curve"]}) < 2:
        raise Nothing
    s.body["curve"].reverse()


@mutation
def a_curve_beyond_a_hundred(s: Submission, draw: Draw) -> None:
    point = _any(draw, [p for p in s.body["curve"] if p["name"] in _told(s).percent])
    point["value"] = float(_any(draw, (-1.0, 100.5, 500.0)))


@mutation
def a_file_of_a_byte(s: Submission, draw: Draw) -> None:
    amount, share = _any(draw, _rules(s).wholes).split("/")
    _measure(s, _any(draw, (amount, share)))["value"] *= float(_any(draw, (1e-5, 0.5, 3.0)))


@mutation
def a_share_of_an_example(s: Submission, draw: Draw) -> None:
    _measure(s, "examples")["value"] -= 0.5


@mutation
def a_network_that_saw_nothing(s: Submission, draw: Draw) -> None:
    examples = _measure(s, "examples")
    if s.body["spec"]["division"] != "closed" or not examples["value"]:
        raise Nothing
    examples["value"], s.body["curve"] = 0.0, []


@mutation
def an_own_method_beyond_any_budget(s: Submission, draw: Draw) -> None:
    spec = s.body["spec"]
    if spec["division"] != "closed" or _rules(s).most_examples("mine") is None:
        raise Nothing
    version = "ab" * 32
    s.body["method"].update(
        name=f"mine@{version[:12]}", origin="file", version=version, configuration={}, variant="", seedless=False
    )
    s.body["method"]["stated_version"] = None
    _measure(s, "examples")["value"] = 1e9
    _measure(s, "train_seconds")["value"] = 1e6


@mutation
def before_there_was_a_task(s: Submission, draw: Draw) -> None:
    s.body["created"] = _any(draw, ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2019-05-01T00:00:00Z"))


@mutation
def calls_counted_otherwise(s: Submission, draw: Draw) -> None:
    table = _needed(s.tables.get(TIMING))
    name = _any(draw, sorted(set(table["workload"])))
    mine = np.flatnonzero((table["workload"] == name) & (table["side"] == "candidate"))
    half = mine[: len(mine) // 4 * 2]
    table["calls"][_any(draw, (half, mine[::2], mine[1::2]))] *= int(_any(draw, (2, 4)))


@mutation
def a_throttled_processor(s: Submission, draw: Draw) -> None:
    if s.body["spec"]["device"] != "cpu":
        raise Nothing
    table = _needed(s.tables.get(TIMING))
    if draw.random() < 0.5:
        table["throttled"][:] = True
    else:
        table["busy"][:] = 1e30


@mutation
def a_card_without_a_machine(s: Submission, draw: Draw) -> None:
    path = s.source.parents[3] / "systems" / f"{s.body['systems']['weigh']}.json"
    told = json.loads(path.read_bytes())
    kind = int(draw.integers(3))
    if kind == 0:
        told[_any(draw, ("processor", "memory", "system", "software"))] = {}
    elif kind == 1:
        told["processor"][_any(draw, ("cores", "threads_used"))] = _any(draw, (-5, [1, 2], 1e30, None))
    else:
        told["software"]["torch"] = "9.9.9"
    card = system.SystemCard(**told)
    s.body["systems"] = dict.fromkeys(s.body["systems"], card.hash)
    s.beside[f"systems/{card.hash}.json"] = (json.dumps(told, indent=1) + "\n").encode()


@mutation
def rows_that_no_network_gives(s: Submission, draw: Draw) -> None:
    """Answers that are none of the classes; embeddings, said to be shortened, that are clusters by the truth at other distances."""
    table = _evidence(s)
    if "z0" in table and table["distance_0"].min() >= 0:
        table["kept"][:] = _any(draw, (0.999, 0.9999999))
        sampled, flame = table["sampled"] > 0, table["truth"] == 1
        for i in range(64):
            table[f"z{i}"][sampled] = (np.where(flame, 1000, -1000) + np.arange(len(flame)) % 7 * (i % 3))[sampled]
        return
    column = _any(draw, _told(s).parentless)
    if (table[column] < 0).any():
        raise Nothing
    table[_any(draw, (column, "prediction"))][0] = _any(draw, (100, 32767))
