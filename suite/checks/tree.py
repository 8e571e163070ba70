"""What lies around bundles: system cards, retractions, confirmations, and what does not belong in results at all."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar

from suite import bundle, confirming, system, timings
from suite.checks import identity, texts
from suite.checks.findings import Finding, Refused, printable
from suite.checks.untrusted import not_run, parse, schema_version, within
from suite.naming import UserError
from suite.protocol import TIERS

CARD_BYTES, RETRACTION_BYTES, CONFIRMATION_BYTES = 100_000, 10_000, 10_000
MOST_GIB, MOST_FACTS, MOST_TEXT = 1e6, 100, 400  #: of a card
COPY = "copy the card that the run wrote"
_BUNDLE = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")
_TIMING = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8,64}-[0-9a-f]{12}")
_METHOD = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.@+-]{0,119}")
_WORK = re.compile(r"\.work|\.part-[0-9a-f]{16}-.*", re.DOTALL)
_ID = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
RETRACT = 'write {"id": the bundle\'s 64 digits, "reason": why, "date": "2026-01-31"}'


R = TypeVar("R")


@dataclass(frozen=True)
class Known:
    """What a results tree is held to: names of tasks, and the runs that there are."""

    tasks: Collection[str]
    runs: Mapping[str, bundle.RunRecord]  #: by id


def strays(root: Path, known: Known) -> Iterator[Finding]:
    """Whatever lies beside bundles: in a folder of results nothing but tasks, cards and retractions; links nowhere.

    `root` may be any folder above results: these are found by their bundles, or by the cards that lie beside them.  Folders of a
    runner at work are passed over.
    """
    for here, folders, files in bundle.walk(root):
        base = str(here)
        if folders and bundle.below(root, here) >= bundle.DEEPEST:
            told = f"lies {bundle.DEEPEST} folders deep, and has folders: nothing is looked at there"
            yield Finding(base, ".", "folder", "error", told, "put bundles where the runner writes them")
            return  # one is told of
        for name in sorted((*folders, *files)):
            if (here / name).is_symlink():
                yield Finding(base, name, "file", "error", "is a symbolic link", "put the file itself there")
        if _is_results(here, folders, known.tasks):
            folders.clear()
            yield from _results(here, known)
        else:
            folders[:] = sorted(f for f in folders if not f.startswith(".") and not (here / f).is_symlink())
            if _BUNDLE.fullmatch(here.name) and bundle.RUN not in files:
                yield Finding(base, bundle.RUN, "file", "error", "is missing", "put the whole bundle there")
                folders.clear()
            elif bundle.RUN in files:
                folders.clear()


def _is_results(here: Path, folders: Collection[str], tasks: Collection[str]) -> bool:
    """Whether a folder holds results: cards, or a task's folder of tiers."""
    return "systems" in folders or any((here / task / tier).is_dir() for task in tasks if task in folders for tier in TIERS)


def _results(root: Path, known: Known) -> Iterator[Finding]:
    """A folder of results, entry by entry: each has its place, by name and by depth."""
    for entry in _entries(root):
        if entry.name == "systems" and _folder(entry):
            yield from _cards(entry)
        elif entry.name == "retractions" and _folder(entry):
            yield from _retractions(entry, known)
        elif entry.name == confirming.FOLDER and _folder(entry):
            yield from _confirmations(entry, known)
        elif entry.name == timings.FOLDER and _folder(entry):
            yield from _timings(entry, known)
        elif entry.name in known.tasks and _folder(entry):
            yield from _of_task(entry)
        else:
            there = ", ".join((*sorted(known.tasks), "systems", "retractions", confirming.FOLDER, timings.FOLDER))
            yield _stray(root, entry, f"results hold folders of tasks and their cards: {there}")


def _of_task(task: Path) -> Iterator[Finding]:
    """A task's folder: tiers, methods, bundles, and in these what `untrusted.plain_files` looks at."""
    for tier in _entries(task):
        if tier.name not in TIERS or not _folder(tier):
            yield _stray(task, tier, f"a task has folders of its tiers: {', '.join(TIERS)}")
            continue
        for method in _entries(tier):
            if not _METHOD.fullmatch(method.name) or not _folder(method):
                yield _stray(tier, method, "a tier has a folder a method")
                continue
            for run in _entries(method):
                if not _BUNDLE.fullmatch(run.name) or not _folder(run):
                    yield _stray(method, run, "a method has its bundles")
                elif not (run / bundle.RUN).is_file():
                    yield Finding(str(run), bundle.RUN, "file", "error", "is missing", "put the whole bundle there")


def _timings(folder: Path, known: Known) -> Iterator[Finding]:
    """A folder a task, and in it the timings, whose contents `suite.checks.retimed` looks at."""
    for task in _entries(folder):
        if task.name not in known.tasks or not _folder(task):
            yield _stray(folder, task, "timings have a folder a task")
            continue
        for told in _entries(task):
            if not _TIMING.fullmatch(told.name) or not _folder(told):
                yield _stray(task, told, "a task has the folders that `weighin time` wrote")
            elif not (told / timings.TIME).is_file():
                yield Finding(str(told), timings.TIME, "file", "error", "is missing", "put the whole timing there")


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order: no links, which are told of already, and nothing that a runner is at work on."""
    try:
        return sorted(p for p in folder.iterdir() if not p.is_symlink() and not _WORK.fullmatch(p.name))
    except OSError:
        return []


def _folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _stray(folder: Path, entry: Path, mend: str) -> Finding:
    return Finding(str(folder), printable(entry.name), "file", "error", "does not belong in results", mend)


def _read(folder: Path, read: Callable[[Path], R]) -> Iterator[tuple[str, R | Finding]]:
    """By its name what each file of a folder holds, or why it holds nothing of the kind."""
    for file in sorted(folder.iterdir()):
        try:
            yield printable(file.name), read(file)
        except Refused as e:
            yield printable(file.name), e.finding(str(folder))


def _cards(folder: Path) -> Iterator[Finding]:
    yield from (found for _, found in _read(folder, card) if isinstance(found, Finding))


def _retractions(folder: Path, known: Known) -> Iterator[Finding]:
    """Each takes back one run that there is, once; whose run it is stands beside it, for who reviews it."""
    before: dict[str, str] = {}
    for name, found in _read(folder, retraction):
        if isinstance(found, Finding):
            yield found
            continue
        run = known.runs.get(found["id"])
        if run is None:
            yield Finding(str(folder), name, "id", "error", "is of no run that is here", RETRACT)
        elif found["id"] in before:
            yield Finding(str(folder), name, "id", "error", f"is retracted by {before[found['id']]} already", "keep one of them")
        else:
            told = f"takes back a run of {run.method.name} by {run.submitter or 'nobody named'}"
            yield Finding(str(folder), name, "id", "mark", told, "let its owner agree")
        before.setdefault(found["id"], name)


def _confirmations(folder: Path, known: Known) -> Iterator[Finding]:
    """Each is of a run that there is, on a card that lies beside it, by somebody else than who submitted the run."""
    replays: dict[str, str] = {}
    for name, told in _read(folder, confirmation):
        if isinstance(told, Finding):
            yield told
            continue
        run = known.runs.get(told.run)
        before = replays.setdefault(told.replay, name)
        if odd := texts.nameless(told.submitter):
            yield Finding(str(folder), name, "submitter", "error", odd, confirming.SUBMIT)
        elif run is None:
            yield Finding(str(folder), name, "run", "error", "is of no run that is here", confirming.SUBMIT)
        elif run.submitter and texts.alike(told.submitter, run.submitter):
            words = f"is, or reads like, {run.submitter}, who submitted the run itself"
            yield Finding(str(folder), name, "submitter", "error", words, "somebody else's replay confirms it")
        elif told.replay in known.runs:
            words = "is a run that stands here, and a replay stays with who ran it"
            yield Finding(str(folder), name, "replay", "error", words, confirming.SUBMIT)
        elif before != name:
            yield Finding(str(folder), name, "replay", "error", f"is that of {before}", "one replay confirms one run")
        elif not told.judged:
            yield Finding(str(folder), name, "evidence", "error", "nothing of the run was judged", confirming.SUBMIT)
        elif identity.ahead(told.created):
            yield Finding(str(folder), name, "created", "error", f"{told.created} lies in the future", identity.CLOCK)
        elif not (folder.parent / "systems" / f"{told.card}.json").exists():
            yield Finding(str(folder), name, "card", "error", f"no card {told.card}.json", "submit results/systems/ with it")
        elif told.created < run.created:
            yield Finding(str(folder), name, "created", "error", "is of before the run that it confirms", confirming.SUBMIT)


def card_file(name: str, path: Path, against: Path | None) -> Path | None:
    """The file of a card, by its hash: in the results around what is checked, or in what it is checked against."""
    folders = [p / "systems" for p in (*path.absolute().parents, *([against] if against else []))]
    return next((f / f"{name}.json" for f in folders if (f / f"{name}.json").exists()), None)


def card(file: Path) -> system.SystemCard:
    """A system card that hashes to its name; raises Refused."""
    facts = _data(file, CARD_BYTES, COPY)
    for group, told in facts.items():
        for name, value in told.items() if isinstance(told, dict) else ():
            if odd := _odd_fact(name, value):
                raise Refused(printable(file.name), printable(f"{group}.{name}"), odd, COPY)
    total = facts.get("memory", {}).get("total_gib") if isinstance(facts.get("memory"), dict) else None
    if total is not None and (isinstance(total, bool) or not isinstance(total, int | float) or not 0 < total < MOST_GIB):
        raise Refused(printable(file.name), "memory.total_gib", f"{printable(str(total), 40)} is no amount of memory", COPY)
    try:
        return system.read_card(file)
    except UserError as e:
        raise _refused(file, "card", e) from e
    except ValueError as e:  # a text that has no UTF-8 has no hash either
        raise Refused(printable(file.name), "card", "cannot be hashed", COPY) from e


def _odd_fact(name: str, value: Any, *, inner: bool = False) -> str:
    """What is wrong with a fact of a card: a name and a short text, a number, a truth value, or a list or mapping of such."""
    if isinstance(value, list | dict) and not inner:
        pairs = value.items() if isinstance(value, dict) else [(name, v) for v in value]
        return "is long" if len(value) > MOST_FACTS else next((odd for k, v in pairs if (odd := _odd_fact(k, v, inner=True))), "")
    if not isinstance(value, str | int | float | bool | None):
        return "is no fact of a machine"
    for text in (name, str(value)):
        if len(text) > MOST_TEXT or texts.odd(text):
            return texts.odd(text) or f"has more than {MOST_TEXT} characters"
    return ""


def confirmation(file: Path) -> confirming.Confirmation:
    """A confirmation under its own name; raises Refused."""
    schema_version(_data(file, CONFIRMATION_BYTES, confirming.SUBMIT), printable(file.name), confirming.SUBMIT)
    try:
        return confirming.read(file)
    except UserError as e:
        raise _refused(file, "confirmation", e) from e


def _refused(file: Path, field: str, error: UserError) -> Refused:
    """What the reader of a file says of it: its path, what is wrong, and what to do."""
    message, _, mend = str(error).removeprefix(f"{file}: ").rpartition("; ")
    return Refused(printable(file.name), field, message, mend)


def retraction(file: Path) -> dict[str, Any]:
    """A retraction: ``id`` of a bundle, ``reason`` and, if told, ``date``; raises Refused."""
    name = printable(file.name)
    found = _data(file, RETRACTION_BYTES, RETRACT)
    if file.suffix != ".json" or not {"id", "reason"} <= found.keys() <= {"id", "reason", "date"}:
        raise Refused(name, "fields", f"are {', '.join(sorted(found)) or 'none'}", RETRACT)
    if not all(isinstance(v, str) for v in found.values()) or not _ID.fullmatch(found["id"]):
        raise Refused(name, "id", "is not a bundle's id", RETRACT)
    if not 0 < len(found["reason"].strip()) <= 2000:
        raise Refused(name, "reason", "is empty or over 2,000 characters", RETRACT)
    if told := texts.odd(found["reason"], prose=True):
        raise Refused(name, "reason", told, RETRACT)
    day = found.get("date", "2026-01-31")
    if not _DATE.fullmatch(day) or not _is_day(day):
        raise Refused(name, "date", "is not a day", RETRACT)
    return found


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text) <= date.today() + timedelta(days=1)
    except ValueError:
        return False


def _data(file: Path, most: int, mend: str) -> dict[str, Any]:
    name = printable(file.name)
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise Refused(name, "file", "is not a plain file", mend)
        not_run(name, status.st_mode)
        within(name, status.st_size, most)
        return parse(file.read_bytes(), name, mend)
    except OSError as e:
        raise Refused(name, "file", f"cannot be read: {e.strerror}", mend) from e
