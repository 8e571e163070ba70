"""``python -m tests.fuzz.campaign``: thousands of dishonest submissions made of the committed bundles, held against the checker.

Each is a committed bundle that was changed by one mutation, its hashes, id, key and derived measures computed anew.  It ends with 1
where one of them was accepted that changes a number, or where the checker ended otherwise than by findings.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from suite import bundle, registry
from suite.check import check
from suite.processors import cores
from tests.fuzz.mutations import MUTATIONS, Nothing
from tests.fuzz.submission import opened, same_numbers, written

RESULTS = registry.HOUSE / "results"
#: the last but one: a byte that no derived number hangs on, such as the last digit of a block's seconds
SAID = ("refused", "accepted", "failed", "no number changed", "nothing to change")
CHUNK = 40  #: submissions that one call of a worker makes


@dataclass(frozen=True)
class Outcome:
    """What became of one submission."""

    mutation: str
    seed: int
    source: str
    said: str  #: one of `SAID`
    about: str = ""


@cache
def bases() -> tuple[Path, ...]:
    """Committed bundles that are changed: of each case one of the default settings and one of others, the smallest there are."""
    found: dict[tuple[str, ...], Path] = {}
    for path in sorted(bundle.find(RESULTS), key=lambda p: sum(f.stat().st_size for f in p.iterdir())):
        record = bundle.read(path)
        if record.status == "ok":
            s = record.spec
            found.setdefault((s.task, s.tier, s.division, s.case, str(bool(record.method.variant)), str(bool(s.seed))), path)
    return tuple(found.values())


def attempt(seed: int, folder: Path) -> Outcome:
    """One submission: which bundle is changed, how and where follows from the seed."""
    draw = np.random.Generator(np.random.Philox(seed))
    name = list(MUTATIONS)[seed % len(MUTATIONS)]
    for _ in range(20):
        source = bases()[int(draw.integers(len(bases())))]
        submission = opened(source)
        with contextlib.suppress(Nothing):
            MUTATIONS[name](submission, draw)
            break
    else:
        return Outcome(name, seed, "", "nothing to change")
    where = source.relative_to(RESULTS).as_posix()
    try:
        path = written(submission, folder)
        findings = check([folder / "results"])
        unchanged = bool(submission.raw) and not any(f.level == "error" for f in findings) and same_numbers(submission, path)
    except Exception:
        return Outcome(name, seed, where, "failed", traceback.format_exc()[-800:])
    errors = [f for f in findings if f.level == "error"]
    said = "refused" if errors else "no number changed" if unchanged else "accepted"
    return Outcome(name, seed, where, said, errors[0].line() if errors else "")


def several(seeds: Sequence[int]) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        return [attempt(seed, Path(name) / "s") for seed in seeds]


def campaign(count: int, begin: int = 0) -> Iterator[list[Outcome]]:
    """So many submissions by a process a core, some at a time."""
    seeds = range(begin, begin + count)
    chunks = [seeds[i : i + CHUNK] for i in range(0, count, CHUNK)]
    with ProcessPoolExecutor(cores(), get_context("spawn")) as pool:
        yield from pool.map(several, chunks)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="submissions (default: %(default)s)")
    parser.add_argument(
        "--begin", type=int, default=0, help="number of the first one, by which it is made again (default: %(default)s)"
    )
    asked = parser.parse_args(arguments)
    console, began = Console(), time.monotonic()
    outcomes: list[Outcome] = []
    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task("submissions", total=asked.count)
        for found in campaign(asked.count, asked.begin):
            outcomes += found
            bars.update(bar, completed=len(outcomes))
    tried = Counter(o.mutation for o in outcomes if o.said != "nothing to change")
    said = Counter((o.mutation, o.said) for o in outcomes)
    table = Table("mutation", "tried", *SAID[:-1])
    for name in MUTATIONS:
        table.add_row(name.replace("_", " "), str(tried[name]), *(str(said[name, word]) for word in SAID[:-1]))
    console.print(table)
    bad = [o for o in outcomes if o.said in ("accepted", "failed")]
    for o in bad[:40]:
        told = f"{o.said}: {o.mutation}, number {o.seed}, of {o.source} {o.about}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    idle = sorted(set(MUTATIONS) - set(tried))
    if idle:
        console.print(f"never tried: {', '.join(idle)}")
    seconds = time.monotonic() - began
    console.print(f"{sum(tried.values()):,} submissions in {seconds:.0f} s, {len(bad)} accepted or failed", style="bold")
    return 1 if bad or idle else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
