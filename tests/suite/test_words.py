"""No word of a task stands in the harness: what a task alone knows it declares (`Task`, `Show`)."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from suite import registry

SUITE = registry.HOUSE / "suite"
#: names that tasks and methods share with the harness or with its language, each with the reason why they may stand there
SHARED = {
    "bytes": "Python's type",
    "set": "Python's type",
    "throughput": "what `suite.meters.timing` measures of any workload",
    "macs": "a column of the operations that every task counts (`Operations`)",
    "nonzero": "a column of the operations that every task counts (`Operations`)",
    "filters": "what a reader narrows a table by",
    "digits": "those of a number that is written",
    "training": "what most methods do to a network, and the mode that it is in",
    "before": "earlier",
    "frame": "what is drawn around, and a table of pandas",
    "tested": "tried, of anything",
    "tokens": "those of a text that is read",
    "weights": "those of any network: its initial ones, the bytes that they take",
}


@cache
def words() -> dict[str, str]:
    """Every name that a task, its cases, targets, measures, workloads or methods have, with where it comes from."""
    found: dict[str, str] = {}
    for name in registry.tasks():
        task = registry.task(name)
        cases = [case for tier in task.tiers.values() for case in tier.cases]
        targets = [part.partition("=")[0] for tier in task.tiers.values() for t in tier.targets for part in t.split(",")]
        said = [name, *(method.partition("@")[0] for method in registry.methods(name)), *cases, *targets]
        said += [case.partition("/")[0] for case in cases]
        for card in {type(card): card for card in (task, *map(task.of, cases))}.values():
            show = card.show
            ruled = [*card.quotients, *card.within, *card.within.values(), *card.amounts]
            ruled += [part for both in (*card.quotients.values(), card.promised) for part in both.split("/")]
            measures = [card.ranked, *card.beside, *show.shares, *ruled, *(axis.measure for axis in show.against)]
            measures += [p.measure for p in show.parts if p.measure]
            if show.tradeoff:
                measures += [show.tradeoff.quality, show.tradeoff.cost, show.tradeoff.floor]
            if show.reach:
                measures += [*show.reach.counts, *show.reach.clocked]
            said += [measure.partition(":")[0] for measure in measures]
            said += [card.speed, *show.families, *(f"{family}@" for family in show.families), *show.words, *show.words.values()]
            said += [*card.libraries, *([show.curve.name] if show.curve else [])]
            said += [show.gallery.likeness.name] if show.gallery and show.gallery.likeness else []
        found |= {word: name for word in said if word}
    return found


@cache
def sources() -> tuple[tuple[Path, str], ...]:
    """The harness without what only explains it: docstrings and comments, where examples may stand."""
    found = []
    for file in sorted(SUITE.rglob("*")):
        text = file.read_text(encoding="utf-8") if file.suffix in (".py", ".j2", ".sql") else ""
        if file.suffix == ".py":
            tree = ast.parse(text)
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
                    node.body = node.body[1:] or [ast.Pass()]
            text = ast.unparse(tree)
        found.append((file, re.sub(r"--.*", "", text) if file.suffix == ".sql" else text))
    return tuple(found)


def met(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)" if word[-1].isalnum() else re.escape(word), text) is not None


@pytest.mark.slow
def test_no_name_of_a_task_a_method_or_a_measure_stands_in_the_harness() -> None:
    known = words()
    assert {"image_pruning", "chex", "top1", "kept.macs", "infer@", "PSNR", "fashion", "worst_class", "awdnn"} <= known.keys()
    found = [
        f"{file.relative_to(SUITE)}: {word}, of {known[word]}"
        for file, text in sources()
        for word in known.keys() - SHARED.keys()
        if met(word, text)
    ]
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("word", ["dense", "FPS", "dB", "frame"])
def test_words_that_the_board_once_had_of_its_own_stand_in_no_text_of_it(word: str) -> None:
    """In templates, and in what code writes: strings with a space in them, as opposed to keys."""
    texts = [(file, text) for file, text in sources() if file.suffix == ".j2"]
    for file, text in sources():
        if file.suffix == ".py":
            strings = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            texts.append((file, "\n".join(s for s in strings if " " in s or s == word)))
    assert [str(file.relative_to(SUITE)) for file, text in texts if met(word, text)] == []


def test_every_shared_name_still_is_one() -> None:
    known, texts = words(), [text for _, text in sources()]
    assert [word for word in SHARED if word not in known] == []
    assert [word for word in SHARED if not any(met(word, text) for text in texts)] == []
