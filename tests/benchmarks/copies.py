"""Results as many labs would send them: `python -m tests.benchmarks.copies results OUT 10`.

The first lab's are the results themselves; every other lab has them once more under other seeds, its own name and its own cards,
with the same evidence, curves and pictures.  Every third lab's cards differ from the first's by the kernel's patch level alone.
Files beside run.json are hard links where the file system knows these.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from suite import bundle
from suite.system import SystemCard, read_cards

SEEDS = 1000  #: from a lab's seeds to the next one's


def copies(results: Path, out: Path, labs: int, *, processes: int = 2) -> int:
    """Write `labs` labs' results under `out`; returns how many bundles."""
    found = [p.relative_to(results) for p in bundle.find(results)]
    cards = read_cards(results / "systems")
    (out / "systems").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(partial(_lab, results, out, found, cards), range(labs)))
    return labs * len(found)


def _lab(results: Path, out: Path, found: list[Path], cards: dict[str, SystemCard], lab: int) -> None:
    mine = {name: _card(card, lab) for name, card in cards.items()}
    for card in mine.values():
        (out / "systems" / f"{card.hash}.json").write_text(json.dumps(card.model_dump(mode="json"), indent=1, sort_keys=True))
    for path in found:
        body: dict[str, Any] = json.loads((results / path / bundle.RUN).read_bytes())
        if lab:
            body["spec"]["seed"] += SEEDS * lab
            body["key"] = f"{lab:06x}{body['key'][6:]}"
            body["systems"] = {role: mine[name].hash for role, name in body["systems"].items()}
            body["submitter"] = f"lab {lab}"
            body["created"] = f"{body['created'][:11]}{lab % 24:02d}:{lab // 24 % 60:02d}:{lab // 1440 % 60:02d}Z"
            body["id"] = bundle.identity(body)
        folder = out / path.parent / f"{body['key'][:12]}-{body['id'][:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / bundle.RUN).write_text(json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        for name in sorted(os.listdir(results / path)):
            if name != bundle.RUN:
                _link(results / path / name, folder / name)


def _card(card: SystemCard, lab: int) -> SystemCard:
    if not lab:
        return card
    body = card.model_dump(mode="json")
    if lab % 3:
        body["processor"]["model"] = f"{body['processor']['model']} {lab}"
    else:
        body["system"]["kernel"] = f"{body['system']['kernel']}-{lab}"
    return SystemCard.model_validate(body)


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(FileExistsError):
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)


if __name__ == "__main__":
    print(copies(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])), "bundles")
