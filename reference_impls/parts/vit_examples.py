"""Which training examples a ViT is trained on: forgetting counts out of a training's own steps, rankings, subsets, the swap.

What a step tells of its examples stays on the device until the epoch's end; then all of it is counted at once, on the processor and
in the order of presentation, by running counters: nothing grows with the number of presentations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import torch
from torch import nn

from reference_impls.parts.vit_training import VitHooks
from suite import parallel
from suite.naming import UserError
from tasks.images.augment import Deit
from tasks.images.recipes import Recipe
from tasks.images.sources import ImageFiles, InMemory, Source
from tasks.vit_training.problem import VitProblem

Criterion = Literal["forgetting", "forgetting+cls"]

NEVER = 2**31 - 1  #: the presentation of a first success that has not come
LEFT_OUT = -1  #: in place of right (1) or wrong (0): a presentation that does not count


def drawing(seed: int) -> torch.Generator:
    """A stream of its own, on the processor."""
    return torch.Generator().manual_seed(seed)


# How many, and of which class


def known_share(name: str, value: float | None) -> None:
    """Raises UserError where a setting is no share; None: it is not set."""
    if value is not None and not 0 < value <= 1:
        raise UserError(f"{name}={value}: a share lies above 0 and is at most 1")


def subset_size(problem: VitProblem, share: float, keep: float | None = None) -> int:
    """How many training examples stay.

    Args:
        share: of the dense training's steps that are asked for: as many examples as come nearest to it, the share of all of them
            where that gives these steps, since an epoch is a whole number of batches.
        keep: overrides it: M - round((1 - keep) M) examples, whatever steps they make.

    Raises UserError where they do not fill a batch.
    """
    count, batch = problem.source.train_count, problem.batch
    if keep is not None:
        size = count - round((1 - keep) * count)
    else:
        steps = max(1, round(share * (count // batch)))
        size = min(max(round(share * count), steps * batch), steps * batch + batch - 1, count)
    if size < batch:
        raise UserError(f"{size} of {count} training examples fill no batch of {batch}; keep more of them")
    return size


def train_labels(source: Source) -> torch.Tensor:
    """Labels of the training examples (M,) int64, as they were before any mixing; none in the speed division."""
    if isinstance(source, InMemory):
        return source.examples.y["train"]
    if isinstance(source, ImageFiles):
        return torch.from_numpy(source.labels[source.parts["train"]]).long()
    return torch.cat([torch.zeros(0, dtype=torch.long), *(y for _, y in source.evaluate("train", 500))])


def quotas(labels: torch.Tensor, size: int) -> torch.Tensor:
    """So many examples dealt out to the classes as they are frequent, (classes,) int64: the largest remainders get what is left."""
    wanted = labels.bincount().double() * size / len(labels)
    whole = wanted.floor()
    left = size - int(whole.sum())
    whole[(wanted - whole).argsort(descending=True, stable=True)[:left]] += 1
    return whole.long()


def first_of_each(rows: torch.Tensor, labels: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The first `count[c]` rows of each class, in their order.

    Args:
        rows: (n,) int64.
        labels: of all training examples.
        count: (classes,) int64.
    """
    label = labels[rows]
    order = label.argsort(stable=True)
    sizes = label.bincount(minlength=len(count))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes)[label[order]]  # among the rows of its own class
    return rows[place < count[label]]


class Chosen(VitHooks):
    """Epochs of chosen rows."""

    def __init__(self, rows: Callable[[int], torch.Tensor | None]) -> None:
        self.rows = rows

    def among(self, epoch: int) -> torch.Tensor | None:
        return self.rows(epoch)


# Rankings


def ranked(rows: torch.Tensor, keys: Iterable[torch.Tensor], draw: torch.Generator) -> torch.Tensor:
    """Rows by rising keys, the first of which leads; where all are equal in drawn order (a permutation, then stable sorts).

    Args:
        rows: (n,) int64.
        keys: (M,) each, of all training examples.
    """
    rows = rows[torch.randperm(len(rows), generator=draw)]
    for key in reversed([*keys]):
        rows = rows[key[rows].argsort(stable=True)]
    return rows


def highest(
    scores: torch.Tensor,
    size: int,
    draw: torch.Generator,
    *,
    skipped: int = 0,
    labels: torch.Tensor | None = None,
    share: float | None = None,
) -> torch.Tensor:
    """The rows of the highest scores, rising; equal ones are drawn.

    Args:
        scores: (M,)
        skipped: so many of the very highest are left out.
        labels: given, the highest are taken of each class.
        share: round(`share` n) of a class's n examples, as DeepCore has it; None: as many as make `size` in all.
    """
    order = ranked(torch.arange(len(scores)), [scores], draw).flip(0)[skipped:]
    if labels is None or not len(labels):
        return order[:size].sort().values
    of_class = labels.bincount().tolist()
    count = quotas(labels, size) if share is None else torch.tensor([round(share * n) for n in of_class])
    return first_of_each(order, labels, count).sort().values


# What the steps tell


def gathered(mine: torch.Tensor) -> torch.Tensor:
    """What all processes have of their items of the same batches, in the batches' own order: (n,) to (processes n,).

    Of a batch a process has every so-manieth item (`suite.parallel.share`).
    """
    if parallel.world() == 1:
        return mine
    parts = [torch.empty_like(mine) for _ in range(parallel.world())]
    torch.distributed.all_gather(parts, mine.contiguous())
    return torch.stack(parts, 1).flatten()


def agreed(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The first process's values in all of them, on the processor: so that all choose alike."""
    if parallel.world() > 1:
        values = values.to(device).contiguous()
        torch.distributed.broadcast(values, 0)
    return values.cpu()


@dataclass
class Log:
    """What the steps of an epoch tell of their examples, left on the device until it is asked for.

    Pickled it keeps the rows of the last step alone: enough to take such a step again, and to time it.
    """

    rows: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))  #: of the coming step (batch,) int64
    lines: list[tuple[torch.Tensor, ...]] = field(default_factory=list)

    def add(self, *columns: torch.Tensor) -> None:
        """Values (batch,) of the step's rows."""
        self.lines.append((self.rows, *columns))

    def take(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Rows and columns of all steps and of all processes since the last call, in order, on the processor; () if there are none.

        Args:
            device: through which processes exchange.
        """
        lines, self.lines = self.lines, []
        return tuple(gathered(torch.cat(column).to(device)).cpu() for column in zip(*lines, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self.rows, "lines": []}


@dataclass
class Recorder:
    """Keeps of a step which of its examples were answered rightly."""

    clean: bool = False  #: whether batches are left out that show more of the other image than of the first
    own: torch.Tensor | None = None  #: labels of the coming step's rows, needed where targets are mixed
    log: Log = field(default_factory=Log)

    def record(self, logits: torch.Tensor, y: torch.Tensor, class_variance: torch.Tensor | None = None) -> None:
        """Book a step.

        An answer to a mixed image is right if it is the label of the image that the other one was mixed into (as Tri-Level E-ViT's
        released code has it); how much of it is left is what the soft target says of this label.

        Args:
            logits: (n, C)
            y: (n,) labels, or (n, C) soft targets.
            class_variance: (n,) of the last block's class attention, over the patches.
        """
        with torch.no_grad():
            label = y
            if y.is_floating_point():
                if self.own is None:
                    raise ValueError("soft targets do not tell an example's own label, and this set has no augmentation that mixes")
                label = self.own.to(y.device)
            right = (logits.argmax(1) == label).to(torch.int8)
            if self.clean and y.is_floating_point():
                # one weight mixes the whole batch: under 1/2 where any target says more of another class than of its own
                weak = (y.gather(1, label[:, None])[:, 0] < y.amax(1)).any()
                right = torch.where(weak, torch.full_like(right, LEFT_OUT), right)
            self.log.add(right, *(() if class_variance is None else (class_variance.detach().float(),)))


class Records(Protocol):
    """Who books a step; see `Recorder.record`."""

    def record(self, logits: torch.Tensor, y: torch.Tensor, class_variance: torch.Tensor | None = None) -> None: ...


@dataclass(frozen=True)
class Recorded:
    """The recipe's loss, whose logits are recorded on the way.  It can be pickled."""

    recipe: Recipe
    recorder: Records
    variance: Callable[[nn.Module], torch.Tensor | None] | None = None  #: of the class attention in a network's last pass

    def __call__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        def forward(images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = model(images)
            self.recorder.record(logits, y, self.variance(model) if self.variance else None)
            return logits

        return self.recipe.loss(forward, x, y)  # type: ignore[arg-type]


@dataclass
class ForgettingCounts:
    """Forgetting events of each training example (Toneva et al. 2019, section 2), presentation by presentation."""

    count: int  #: M, training examples
    limit: int = 0  #: presentations of each, the first ones, in which it can be learned and forgotten; 0: all

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.seen = torch.zeros(self.count, dtype=torch.int32)  #: presentations
        self.was = torch.zeros(self.count, dtype=torch.bool)  #: whether the last one was answered rightly
        self.events = torch.zeros(self.count, dtype=torch.int32)  #: right, and wrong the next time
        self.first = torch.full((self.count,), NEVER, dtype=torch.int32)  #: the first right one, counted from 0
        self.spread = torch.zeros(self.count, dtype=torch.float64)  #: variances of the class attention, summed

    def add(self, rows: torch.Tensor, right: torch.Tensor, class_variance: torch.Tensor | None = None) -> None:
        """Count presentations (n,) in their order, those of one example among them as often as they come."""
        if not len(rows):
            return
        order = rows.argsort(stable=True)
        row, now = rows[order], right[order].bool()
        begins = torch.ones_like(now)  # an example's presentations follow one another
        begins[1:] = row[1:] != row[:-1]
        place = torch.arange(len(row), dtype=torch.int32)
        number = self.seen[row] + place - torch.where(begins, place, 0).cummax(0).values.int()
        before = torch.where(begins, self.was[row], now.roll(1))
        counts = number < self.limit if self.limit else torch.ones_like(now)
        self.events += row[before & ~now & counts].bincount(minlength=self.count).int()
        learned = now & counts
        self.first.scatter_reduce_(0, row[learned], number[learned], "amin")
        self.seen += row.bincount(minlength=self.count).int()
        ends = begins.roll(-1)
        self.was[row[ends]] = now[ends]
        if class_variance is not None:
            self.spread += rows.bincount(class_variance.double(), self.count)

    @property
    def learned(self) -> torch.Tensor:
        """Which were ever answered rightly, (M,) bool."""
        return self.first != NEVER

    @property
    def scored(self) -> torch.Tensor:
        """The rows that were seen, rising."""
        return self.seen.nonzero()[:, 0]

    def scores(self, unlearned: int) -> torch.Tensor:
        """(M,) int32: the events, and `unlearned` of those that were never answered rightly."""
        return torch.where(self.learned, self.events, unlearned)

    @property
    def class_variance(self) -> torch.Tensor:
        """Mean over all presentations, (M,) float64; 0 of those that were not seen."""
        return self.spread / self.seen.clamp_min(1)

    def state(self) -> dict[str, torch.Tensor]:
        return {"seen": self.seen, "was": self.was, "events": self.events, "first": self.first, "spread": self.spread}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value.clone())


class Counted(VitHooks):
    """Forgetting counts of a training, out of its own steps: its loss calls `record` (`Recorded`, or one of the method's own).

    Pickled it is what a step calls, and no more.
    """

    def __init__(self, problem: VitProblem, limit: int = 0, *, clean_stats: bool = False) -> None:
        """Limit and clean_stats: see `ForgettingCounts.limit` and `Recorder.clean`."""
        self.device = problem.device
        self.counts = ForgettingCounts(problem.source.train_count, limit)
        self.recorder = Recorder(clean_stats)
        varied = problem.source.augmentation
        mixed = isinstance(varied, Deit) and (varied.mixup or varied.cutmix)
        self._labels = train_labels(problem.source) if mixed else None

    def before_step(self, rows: torch.Tensor) -> None:
        self.recorder.log.rows = rows
        if self._labels is not None:
            self.recorder.own = self._labels[rows]

    def record(self, logits: torch.Tensor, y: torch.Tensor, class_variance: torch.Tensor | None = None) -> None:
        """See `Recorder.record`."""
        self.recorder.record(logits, y, class_variance)

    def among(self, epoch: int) -> torch.Tensor | None:
        self.settle()
        return None

    def settle(self) -> None:
        """Count what was recorded: of all processes, which therefore call it together."""
        columns = self.recorder.log.take(self.device)
        if columns:
            stays = columns[1] != LEFT_OUT
            self.counts.add(*(c[stays] for c in columns))

    def state(self) -> dict[str, Any]:
        self.settle()
        return {"counts": self.counts.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.counts.restore(state["counts"])

    def __getstate__(self) -> dict[str, Any]:
        return {"recorder": self.recorder}


# The swap


def swap(
    train: torch.Tensor, shuffled: torch.Tensor, ranking: torch.Tensor, count: int, keep_lowest: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exchange the least forgotten training examples for some of the pool (Tri-Level E-ViT).

    Args:
        train: rows, each once.
        shuffled: the pool's rows in drawn order.
        ranking: the training rows that have a score, least forgotten first.
        count: how many are exchanged, as far as there are so many on both sides: the number of training examples stays.
        keep_lowest: so many at the ranking's beginning stay.

    Returns train, those that stay rising and then the new ones, and the pool, which those that go join at its end.
    """
    count = min(count, max(0, len(ranking) - keep_lowest), len(shuffled))
    gone = ranking[keep_lowest : keep_lowest + count]
    stay = train[~torch.isin(train, gone)].unique()
    return torch.cat([stay, shuffled[:count]]), torch.cat([shuffled[count:], gone])


def check_swaps(criterion: str, swap_share: float, keep_lowest: int) -> None:
    """Raises UserError for settings of the swap that cannot be; see `SwappedExamples`."""
    if criterion not in get_args(Criterion):
        raise UserError(f"criterion={criterion}: choose {' or '.join(get_args(Criterion))}")
    if not 0 <= swap_share <= 1:
        raise UserError(f"swap_share={swap_share}: a share lies within 0 to 1")
    if keep_lowest < 0:
        raise UserError(f"keep_lowest={keep_lowest}: a number of examples, 0 or more")


def swap_epochs(epochs: int) -> tuple[int, ...]:
    """Epochs at whose start examples are swapped, five at most: a tenth of the training, two tenths, up to the half of it."""
    return tuple(sorted({round(j * epochs / 10) for j in range(1, 6)} - {0}))


class SwappedExamples(Counted):
    """Training on part of the examples, of which the never forgotten are exchanged for removed ones (Tri-Level E-ViT).

    The part is drawn by the seed.  A swap ranks what was seen since the last one by its score: forgetting events within the first
    E/10 presentations, or E/10 of what was never answered rightly in them.  After half of the epochs the part stays as it is.
    """

    def __init__(
        self,
        problem: VitProblem,
        epochs: int,
        share_removed: float,
        *,
        criterion: Criterion = "forgetting",
        swap_share: float = 0.05,
        keep_lowest: int = 0,
        clean_stats: bool = False,
        name: str = "tri_level_evit",
    ) -> None:
        """Draw the part.

        Args:
            epochs: E, of the whole training.
            share_removed: of the M examples, that are left out at any time; 0: none, and then nothing is swapped or recorded.
            criterion: with ``+cls`` equal scores go by rising mean variance of the class attention, which the loss records.
            swap_share: of the M examples, exchanged at a swap.
            keep_lowest: so many examples of the lowest score stay at each swap.
            clean_stats: whether batches are left out of the counts that are mixed with less than half of their own images.
            name: of the method, whose draws these are.

        Raises UserError for settings that cannot be.
        """
        check_swaps(criterion, swap_share, keep_lowest)
        if not 0 <= share_removed < 1:
            raise UserError(f"{share_removed} of the examples cannot be removed: a share lies from 0 on and below 1")
        self.presentations = max(1, round(epochs / 10))
        super().__init__(problem, self.presentations, clean_stats=clean_stats)
        self.problem, self.name, self.criterion, self.keep_lowest = problem, name, criterion, keep_lowest
        self.epochs_of_swaps = swap_epochs(epochs)
        self.swapped = round(swap_share * self.counts.count)  #: at a time
        held = round(share_removed * self.counts.count)
        order = torch.randperm(self.counts.count, generator=drawing(problem.run.seed(f"{name} split")))
        self.train, self.pool = order[held:], order[:held]
        self.history: list[dict[str, int]] = []  #: of each swap the epoch, how many were exchanged and what the counts said

    def among(self, epoch: int) -> torch.Tensor | None:
        if not len(self.pool):
            return None
        self.settle()
        if epoch in self.epochs_of_swaps:
            self._swap(epoch)
        return self.train

    def record(self, logits: torch.Tensor, y: torch.Tensor, class_variance: torch.Tensor | None = None) -> None:
        """See `Recorder.record`; raises ValueError where the criterion asks for a variance and there is none."""
        if len(self.pool):
            if class_variance is None and self.criterion == "forgetting+cls":
                raise ValueError("criterion forgetting+cls ranks by the class attention's variance: give it with each step")
            super().record(logits, y, class_variance)

    @property
    def notes(self) -> dict[str, Any]:
        """What is worth knowing of the choice."""
        return {
            "examples": len(self.train),
            "examples_removed": len(self.pool),
            "swaps": self.history,
            "never_learned_since": int((~self.counts.learned[self.counts.scored]).sum()),
        }

    def state(self) -> dict[str, Any]:
        return {**super().state(), "train": self.train, "pool": self.pool, "history": self.history}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.train, self.pool, self.history = state["train"], state["pool"], list(state["history"])

    def __getstate__(self) -> dict[str, Any]:
        return {"recorder": self.recorder, "pool": self.pool[:1], "criterion": self.criterion}

    def _swap(self, epoch: int) -> None:
        counts, seed = self.counts, self.problem.run.seed
        rows = counts.scored
        keys = [counts.scores(self.presentations), *([counts.class_variance] if self.criterion == "forgetting+cls" else [])]
        ranking = ranked(rows, keys, drawing(seed(f"{self.name} ties", epoch)))
        shuffled = self.pool[torch.randperm(len(self.pool), generator=drawing(seed(f"{self.name} pool", epoch)))]
        was = self.train
        self.train, self.pool = swap(was, shuffled, ranking, self.swapped, self.keep_lowest)
        self.history.append(
            {
                "epoch": epoch,
                "exchanged": int((~torch.isin(was, self.train)).sum()),
                "never_learned": int((~counts.learned[rows]).sum()),
                "never_forgotten": int((counts.events[rows] == 0)[counts.learned[rows]].sum()),
                "not_seen": len(was) - len(rows),
            }
        )
        counts.clear()
