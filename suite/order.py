"""The order: what a runner asks of its child processes, as JSON in the work folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from suite.files import write_json
from suite.naming import UserError, digest
from suite.protocol import Spec

DATA = "data: "  #: how a bundle's notes of its data begin
SHAPE = "shape: "  #: how a bundle's note of why its shape cannot be told begins
ORDER, SOLUTION, CHECKPOINT, LOG = "order.json", "solution.pt", "checkpoint.pt", "log.txt"


def outcome_file(work: Path, *stage: str) -> Path:
    """Where a stage leaves its outcome; a workload's name may hold a slash."""
    return work / f"{'-'.join(stage).replace('/', '+')}.json"


@dataclass(frozen=True)
class Order:
    """A run in full: Spec, method, configuration, data.  Equal orders give equal results."""

    spec: Spec
    method: str  #: as recorded: ``chex``, or ``mine@<digest>``
    origin: Literal["reference", "package", "file"]
    path: str  #: the method's file
    module: str  #: the name it is imported under
    version: str  #: digest of the method's source
    configuration: Mapping[str, Any]
    variant: str
    seedless: bool
    data: str  #: digest of the data
    threads: int = 0  #: 0: as many as there are cores
    processes: int = 1  #: that share each batch of the solve
    stated: int = 1  #: the version that the method states
    identity: str = ""  #: the digest that stands for that version in keys, if it is not the source's own (`suite.versions`)
    task_digest: str = ""  #: digest of the source of the task's modules
    timing_seconds: float = 0.0  #: cap of each timed comparison; 0: the tier's
    again: bool = False  #: what is weighed is built from the shape of a row (`suite.retiming`), and was not solved here

    def key(self, cards: Mapping[str, str]) -> str:
        """What was asked, on which systems: runs of one key are replays of each other."""
        spec = {k: v for k, v in asdict(self.spec).items() if k != "data"}
        # not threads: the cards tell how many were used
        asked = [spec, self.method, self.identity or self.version, dict(self.configuration), self.data, self.processes, dict(cards)]
        return digest(asked)

    def write(self, work: Path) -> None:
        write_json(work / ORDER, asdict(self))

    @staticmethod
    def read(work: Path) -> Order:
        try:
            fields = json.loads((work / ORDER).read_text(encoding="utf-8"))
            return Order(**{**fields, "spec": Spec(**fields["spec"])})
        except (OSError, ValueError, TypeError) as e:
            raise UserError(f"{work} is no work folder (no readable {ORDER}); name one that `weighin run` made") from e

    def at(self, data: str) -> Order:
        """The same order with another data folder."""
        return replace(self, spec=replace(self.spec, data=data))
