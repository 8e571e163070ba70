"""Which examples are chosen, against the released codes' results and against slow counts; what methods show, to the image."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reference_impls.parts import vit_example_scores, vit_examples
from reference_impls.parts.vit_example_scores import Beginning, error_norm, last_layer_gradient, last_layer_norm, whole_gradient
from reference_impls.parts.vit_examples import (
    Counted,
    ForgettingCounts,
    Recorded,
    Recorder,
    SwappedExamples,
    drawing,
    first_of_each,
    highest,
    quotas,
    ranked,
    subset_size,
    swap,
    swap_epochs,
    train_labels,
)
from reference_impls.parts.vit_training import VitHooks, VitTrainer
from reference_impls.vit_training.dense import Dense
from reference_impls.vit_training.el2n import El2n
from reference_impls.vit_training.forgetting import Forgetting
from reference_impls.vit_training.grand import Grand
from reference_impls.vit_training.infobatch import InfoBatch, WeightedLoss, WellLearned, book, prune
from reference_impls.vit_training.random_subset import RandomSubset
from reference_impls.vit_training.shorter_dense import ShorterDense
from suite import parallel
from suite.naming import UserError
from suite.protocol import Spec, Stopped
from tasks.images import datasets
from tasks.images.augment import Deit
from tasks.images.recipes import AdamW
from tasks.images.sources import ImageFiles, InMemory, Shapes
from tasks.vit_training.problem import BEFORE, Trained, VitProblem
from tests.helpers import MemoryRun, golden, golden_tensors

COUNT, BATCH, EPOCHS, CLASSES = 64, 8, 10, 4
STEPS = COUNT // BATCH  #: of a whole epoch


@cache
def images(count: int = COUNT, classes: int = CLASSES) -> datasets.Examples:
    """Noise of 16x16 around one picture a class: some of it is learned, some forgotten."""
    draw = np.random.Generator(np.random.Philox(5))
    means = draw.integers(60, 200, (classes, 16, 16, 3))
    arrays: dict[str, np.ndarray] = {"classes": np.array([f"c{i}" for i in range(classes)])}
    for split, n in (("train", count), ("val", 12), ("test", 12)):
        y = draw.integers(0, classes, n)
        arrays[f"{split}_x"] = np.clip(means[y] + draw.normal(0, 60, (n, 16, 16, 3)), 0, 255).astype(np.uint8)
        arrays[f"{split}_y"] = y
    return datasets.examples(arrays)


def problem(run: MemoryRun | None = None, *, augmentation: Any = "plain", **changes: Any) -> VitProblem:
    settings = {"target": "train_macs=0.8", "division": "closed", "seed": 0, "epochs": EPOCHS, "count": COUNT, **changes}
    spec = Spec("vit_training", 1, "smoke", settings["division"], "noise/vit-16-1-2-p8", settings["target"], settings["seed"])
    source: Any = InMemory(images(settings["count"]), None if augmentation == "plain" else augmentation)
    if settings["division"] == "speed":
        source = Shapes((3, 16, 16), CLASSES, settings["count"])
    recipe = AdamW(3e-3, warmup=1, warmup_from=1.5e-3, least=3e-5)
    run = run or MemoryRun(spec)
    return VitProblem(spec, run, source, "vit-16-1-2-p8", settings["epochs"], BATCH, "fp32", torch.device("cpu"), recipe)  # type: ignore[arg-type]


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def spent(p: VitProblem) -> Mapping[str, int]:
    return p.run.spent


# Released codes' results


def presentations(saved: Mapping[str, Any]) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Of the golden file each presentation's rows (positions, not ids), correctness and class variance."""
    found = []
    for t in range(saved["correct"].shape[1]):
        rows = (saved["presentations"] > t).nonzero()[:, 0]
        found.append((rows, saved["correct"][rows, t], saved["cls_var"][rows, t]))
    return found


def test_forgetting_counts_and_both_orders_are_those_of_tri_level() -> None:
    saved = golden_tensors("tri_level_evit_forgetting")
    limit = int(saved["npresentations"])
    counts = ForgettingCounts(len(saved["example_id"]), limit)
    for rows, right, variance in presentations(saved):
        counts.add(rows, right, variance)
    assert torch.equal(counts.events.long(), saved["forget_events"])
    never = saved["first_learned"].isnan()
    assert torch.equal(~counts.learned, never)
    assert torch.equal(counts.first[~never].double(), saved["first_learned"][~never].double())
    scores = counts.scores(limit)
    order = ranked(counts.scored, [scores], drawing(0))
    assert torch.equal(scores[order].long(), saved["sorted_score"])
    place = {int(i): k for k, i in enumerate(saved["example_id"])}
    theirs = torch.tensor([place[int(i)] for i in saved["order_by_forgetting"]])
    assert torch.equal(scores[theirs], scores[order])
    both = ranked(counts.scored, [scores, counts.class_variance], drawing(0))
    assert torch.equal(saved["example_id"][both], saved["order_by_forgetting_then_clsvar"])


def test_the_swap_is_that_of_tri_level_in_its_order() -> None:
    saved = golden("tri_level_evit_swap")
    np.random.seed(int(saved["numpy_global_seed"]))
    shuffled = saved["removed_before"].copy()
    np.random.shuffle(shuffled)
    parts = (torch.from_numpy(a) for a in (saved["train_before"], shuffled, saved["ordered_examples"]))
    train, pool = swap(*parts, int(saved["remove_n"]))
    assert torch.equal(train, torch.from_numpy(saved["train_after"]))
    assert torch.equal(pool, torch.from_numpy(saved["removed_after"]))


def test_infobatch_prunes_weighs_and_books_as_released() -> None:
    saved = golden_tensors("vit_baselines_infobatch")
    count = len(saved["loss"])
    p = problem()
    scores = torch.full((count,), 3.0)
    assert not (scores < scores.mean()).any()
    book(scores, torch.arange(count), saved["loss"])
    assert torch.equal(scores, saved["loss"])
    assert float(saved["loss"].mean()) == pytest.approx(saved["first_mean"])
    assert int((scores < scores.double().mean()).sum()) == int(saved["n_well_learned"])
    np.random.seed(int(saved["numpy_global_seed"]))
    rows, weights = prune(
        scores, saved["prune_ratio"], lambda well, n: torch.from_numpy(np.random.choice(well.numpy(), n, replace=False))
    )
    kept = rows.numpy()
    np.random.shuffle(kept)
    assert np.array_equal(kept, saved["kept"].numpy())
    assert torch.equal(weights, saved["weights"].float())
    # logits that give exactly these losses: of two classes, label 0, -log sigmoid(z) = loss
    losses, index = saved["batch_loss"].double(), saved["batch_index"]
    logits = torch.stack([-(losses.expm1()).log(), torch.zeros_like(losses)], 1)
    loss = WeightedLoss(p.recipe)
    loss.log.rows, loss.weight = index, weights[index]
    value = loss(lambda x: logits, logits, torch.zeros(len(index), dtype=torch.long))  # type: ignore[arg-type]
    assert float(value) == pytest.approx(saved["reduced_loss"], rel=1e-6)
    book(scores, *loss.log.take(p.device))
    torch.testing.assert_close(scores, saved["scores_after"], rtol=1e-6, atol=1e-7)


def test_forgetting_counts_and_scores_are_those_of_deepcore() -> None:
    saved = golden_tensors("vit_baselines_example_scores")
    counts, rows = ForgettingCounts(len(saved["labels"])), torch.arange(len(saved["labels"]))
    for logits in saved["logits"]:
        counts.add(rows, logits.argmax(1) == saved["labels"])
    assert torch.equal(counts.events.float(), saved["forgetting_events"])
    found = last_layer_norm(saved["logits"][-1], saved["labels"], saved["embedding"])
    torch.testing.assert_close(found, saved["grand_last_layer"], rtol=1e-5, atol=1e-6)
    error = error_norm(saved["logits"][-1], saved["labels"])
    torch.testing.assert_close(error * (1 + saved["embedding"].square().sum(1)).sqrt(), found)


# Counts


def slowly(lists: Mapping[int, list[int]], limit: int) -> tuple[dict[int, int], set[int]]:
    """Events, and who was learned, one example and one presentation after the other."""
    events, learned = {}, set()
    for row, all_of in lists.items():
        answers = all_of[:limit]
        events[row] = sum(a == 1 and b == 0 for a, b in pairwise(answers))
        if any(answers):
            learned.add(row)
    return events, learned


@pytest.mark.parametrize("piece", [1, 7, 64, 500])
def test_presentations_are_counted_alike_in_pieces_of_any_size_repeats_included(piece: int) -> None:
    draw = torch.Generator().manual_seed(piece)
    rows = torch.randint(12, (500,), generator=draw).repeat_interleave(3)[:500]  # as repeated augmentation has it
    right = torch.rand(500, generator=draw) < 0.3
    right[rows == 4] = False
    variance = torch.rand(500, generator=draw)
    counts = ForgettingCounts(14, limit=9)
    for part in zip(rows.split(piece), right.split(piece), variance.split(piece), strict=True):
        counts.add(*part)
    lists = {r: right[rows == r].int().tolist() for r in range(12)}
    events, learned = slowly(lists, 9)
    assert {r: int(counts.events[r]) for r in range(12)} == events
    assert set(counts.learned.nonzero()[:, 0].tolist()) == learned
    assert 4 not in learned
    assert counts.scored.tolist() == list(range(12))
    assert counts.scores(9)[4] == 9
    for r in range(12):
        assert float(counts.class_variance[r]) == pytest.approx(float(variance[rows == r].double().mean()))


def test_a_first_success_after_the_last_presentation_that_counts_does_not_help() -> None:
    counts = ForgettingCounts(2, limit=2)
    for answers in ([0, 1], [0, 0], [1, 1], [0, 0]):
        counts.add(torch.arange(2), torch.tensor(answers))
    assert counts.learned.tolist() == [False, True]
    assert counts.scores(2).tolist() == [2, 1]


def test_ties_are_random_and_reproducible() -> None:
    scores = torch.zeros(200)
    scores[:20] = 1
    rows = torch.arange(200)
    first, again, other = (ranked(rows, [scores], drawing(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert set(first[-20:].tolist()) == set(range(20))
    assert (first[:180].diff() < 0).any()
    kept = highest(scores, 50, drawing(1))
    assert set(range(20)) <= set(kept.tolist())
    assert not torch.equal(kept, highest(scores, 50, drawing(2)))
    assert torch.equal(kept, kept.sort().values)


# The swap


def test_the_lowest_may_stay_and_no_example_of_the_pool_is_lost() -> None:
    train, pool, ranking = torch.arange(10), torch.arange(10, 16), torch.arange(9, -1, -1)
    for keep in (0, 4, 8, 30):
        after, left = swap(train, pool.flip(0), ranking, 3, keep)
        moved = max(0, min(3, 10 - keep))
        assert len(after) == 10
        assert sorted([*after.tolist(), *left.tolist()]) == list(range(16))
        assert set(train.tolist()) - set(after.tolist()) == set(ranking[keep : keep + moved].tolist())
        assert after[: 10 - moved].tolist() == sorted(after[: 10 - moved].tolist())
        assert after[10 - moved :].tolist() == [15, 14, 13][:moved]


def test_where_too_few_have_a_score_or_lie_in_the_pool_fewer_are_swapped() -> None:
    train = torch.arange(10)
    after, left = swap(train, torch.tensor([11, 10]), torch.tensor([3, 5, 7]), 5)
    assert (after.tolist(), left.tolist()) == ([0, 1, 2, 4, 6, 7, 8, 9, 11, 10], [3, 5])
    after, left = swap(train, torch.arange(10, 20), torch.tensor([3]), 5)
    assert (len(after), len(left)) == (10, 10)
    assert 3 not in after


def test_swaps_come_after_each_tenth_up_to_the_half() -> None:
    assert swap_epochs(300) == (30, 60, 90, 120, 150)
    assert swap_epochs(60) == (6, 12, 18, 24, 30)
    assert swap_epochs(4) == (1, 2)


def test_the_parts_have_the_sizes_of_the_paper() -> None:
    class Many:
        train_count, augmentation = 1_281_167, None

    p = problem()
    p.source = Many()  # type: ignore[assignment]
    hooks = SwappedExamples(p, 300, 0.2)
    assert (len(hooks.pool), hooks.swapped, hooks.presentations) == (256_233, 64_058, 30)
    assert len(SwappedExamples(p, 300, 0.1).pool) == 128_117
    assert len({*hooks.pool[:1000].tolist()} | {*hooks.train[:1000].tolist()}) == 2000


class Watched(SwappedExamples):
    """Keeps what each epoch consisted of, and every answer, to be counted slowly."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.seen: list[torch.Tensor] = []
        self.pools: list[torch.Tensor] = []
        self.answers: list[dict[int, list[int]]] = []

    def among(self, epoch: int) -> torch.Tensor | None:
        rows = super().among(epoch)
        assert rows is not None
        self.seen.append(rows.clone())
        self.pools.append(self.pool.clone())
        if epoch == 0 or epoch in self.epochs_of_swaps:
            self.answers.append({})
        return rows

    def record(self, logits: torch.Tensor, y: torch.Tensor, class_variance: torch.Tensor | None = None) -> None:
        super().record(logits, y, class_variance)
        rows = self.recorder.log.rows.tolist()
        for row, right in zip(rows, (logits.argmax(1) == y).int().tolist(), strict=True):
            self.answers[-1].setdefault(row, []).append(right)


def swapped(p: VitProblem, hooks: SwappedExamples) -> Any:
    loss = Recorded(p.recipe, hooks)  # type: ignore[arg-type]
    return VitTrainer(p).fit("train", p.network(), hooks=hooks, loss=loss)


def test_the_least_forgotten_leave_at_each_swap_and_the_part_is_frozen_after_half() -> None:
    count = 40
    p = problem(epochs=20, count=count)
    hooks = Watched(p, 20, 0.2)
    fitted = swapped(p, hooks)
    size = count - round(0.2 * count)
    assert fitted.steps == 20 * (size // BATCH)
    assert p.run.examples == 20 * BATCH * (size // BATCH)
    changes = [e for e in range(1, 20) if not torch.equal(hooks.seen[e], hooks.seen[e - 1])]
    assert changes == [2, 4, 6, 8, 10]
    for k, epoch in enumerate(changes):
        before, after = set(hooks.seen[epoch - 1].tolist()), set(hooks.seen[epoch].tolist())
        gone = before - after
        assert len(gone) == round(0.05 * count) == len(after - before)
        assert len(after) == size
        assert after | set(hooks.pools[epoch].tolist()) == set(range(count))
        events, learned = slowly(hooks.answers[k], limit=2)
        scores = {r: events[r] if r in learned else 2 for r in events}
        assert max(scores[r] for r in gone) <= min(scores[r] for r in before - gone if r in scores)
        assert hooks.history[k]["never_learned"] == len(events) - len(learned)
        assert gone <= set(scores), "what was not seen has no score and cannot go"
    assert hooks.notes["examples"] == size


def test_with_the_tie_break_the_lowest_class_attention_variance_leaves_first() -> None:
    p = problem()
    hooks = SwappedExamples(p, 10, 0.2, criterion="forgetting+cls")
    hooks.among(0)
    variance = torch.linspace(1, 0, COUNT)
    logits = F.one_hot(torch.zeros(COUNT, dtype=torch.long), CLASSES).float()
    hooks.before_step(hooks.train)
    with pytest.raises(ValueError, match="give it with each step"):
        hooks.record(logits[: len(hooks.train)], torch.zeros(len(hooks.train), dtype=torch.long))
    was = hooks.train
    hooks.record(logits[: len(was)], torch.zeros(len(was), dtype=torch.long), variance[was])
    now = hooks.among(1)
    assert now is not None
    gone = was[~torch.isin(was, now)]
    assert set(gone.tolist()) == set(was.sort(descending=True).values[: hooks.swapped].tolist())


def test_without_a_removed_share_the_training_is_the_dense_one_and_nothing_is_recorded() -> None:
    p = problem(epochs=2)
    hooks = SwappedExamples(p, 2, 0.0)
    fitted = swapped(p, hooks)
    assert same(fitted.model, Dense().solve(problem(epochs=2)).model)
    assert hooks.among(1) is None
    assert not len(hooks.counts.scored)


def test_a_swap_training_that_is_stopped_again_and_again_ends_as_if_it_had_not_been() -> None:
    small = partial(problem, count=40)
    whole = small()
    expected = SwappedExamples(whole, EPOCHS, 0.2)
    model = swapped(whole, expected).model
    saved = None
    # epochs are four batches: before anything is saved, between two swaps, and behind the last one
    for stop in (2, 13, 22):
        run = MemoryRun(whole.spec, stop_after=stop, saved=saved)
        p = small(run)
        with pytest.raises(Stopped):
            swapped(p, SwappedExamples(p, EPOCHS, 0.2))
        saved = run.saved
    again = small(MemoryRun(whole.spec, saved=saved))
    hooks = SwappedExamples(again, EPOCHS, 0.2)
    assert same(swapped(again, hooks).model, model)
    assert torch.equal(hooks.train, expected.train)
    assert torch.equal(hooks.pool, expected.pool)
    assert hooks.notes == expected.notes
    state, other = hooks.state()["counts"], expected.state()["counts"]
    assert all(torch.equal(state[k], other[k]) for k in other)
    assert spent(again) == spent(whole)


def test_another_seed_draws_another_part_and_another_name_another_stream() -> None:
    first, again, seed, name = (
        SwappedExamples(problem(seed=s), EPOCHS, 0.2, name=n).train
        for s, n in ((0, "tri_level_evit"), (0, "tri_level_evit"), (1, "tri_level_evit"), (0, "another"))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, seed)
    assert not torch.equal(first, name)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share_removed": 1.0}, "below 1"),
        ({"criterion": "margin"}, "forgetting or forgetting\\+cls"),
        ({"swap_share": 2.0}, "swap_share"),
        ({"keep_lowest": -1}, "keep_lowest"),
    ],
)
def test_settings_of_the_swap_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SwappedExamples(problem(), EPOCHS, **{"share_removed": 0.2, **settings})


# Mixed images


def soft(labels: torch.Tensor, share: float) -> torch.Tensor:
    one_hot = F.one_hot(labels, CLASSES) * 0.9 + 0.1 / CLASSES
    return share * one_hot + (1 - share) * one_hot.flip(0)


def test_an_answer_to_a_mixed_image_is_held_to_the_first_images_own_label() -> None:
    labels = torch.tensor([0, 1, 2, 3, 3, 1])
    logits = F.one_hot(labels, CLASSES).float()
    for share in (0.7, 0.3):
        recorder = Recorder(own=labels)
        recorder.record(logits, soft(labels, share))
        assert recorder.log.lines[0][1].tolist() == [1] * 6
        recorder.record(soft(labels, share).log(), soft(labels, share))
        assert recorder.log.lines[1][1].bool().all() == (share > 0.5)
    with pytest.raises(ValueError, match="own label"):
        Recorder().record(logits, soft(labels, 0.7))


def test_clean_counts_leave_out_batches_that_show_less_than_half_of_their_own_images() -> None:
    labels = torch.tensor([0, 1, 2, 3, 3, 0])  # the first and the last are mixed with their like: they tell nothing
    logits = F.one_hot(labels, CLASSES).float()
    for share, counted in ((1.0, True), (0.5, True), (0.51, True), (0.49, False), (0.0, False)):
        recorder = Recorder(clean=True, own=labels)
        recorder.record(logits, soft(labels, share))
        assert (recorder.log.lines[0][1] == vit_examples.LEFT_OUT).all() == (not counted), share


@pytest.mark.parametrize("cut", [False, True])
def test_own_labels_and_clean_counts_from_the_real_augmentation(cut: bool) -> None:
    """Held to the weight that timm drew, told by the images (mixup) or by the pasted box (cutmix)."""
    mixing = Deit(policy="", erase=0.0, mixup=0.0 if cut else 0.8, cutmix=1.0 if cut else 0.0, repeats=1)
    p = problem(augmentation=mixing)
    labels = train_labels(p.source)
    hooks = Counted(p, clean_stats=True)
    x = torch.randn(BATCH, 3, 16, 16)
    outcomes = set()
    for step in range(30):
        rows = torch.randperm(COUNT, generator=drawing(step))[:BATCH]
        if (labels[rows] == labels[rows].flip(0)).all():
            continue
        mixed, y = mixing.mix(x, labels[rows], CLASSES, step)
        own = (x[0, 0] == mixed[0, 0]).float().mean() if cut else ((mixed - x.flip(0)) / (x - x.flip(0)))[0, 0].median()
        hooks.before_step(rows)
        hooks.record(F.one_hot(labels[rows], CLASSES).float(), y)
        left_out = bool((hooks.recorder.log.lines[-1][1] == vit_examples.LEFT_OUT).all())
        assert left_out == (float(own) < 0.5), (step, float(own))
        outcomes.add(left_out)
    assert outcomes == {True, False}
    hooks.settle()
    assert hooks.counts.events.sum() == 0


def test_a_training_with_repeated_mixed_images_swaps_and_counts_bursts() -> None:
    p = problem(augmentation=Deit(policy="", erase=0.0, repeats=3), count=40)
    hooks = SwappedExamples(p, EPOCHS, 0.2)
    fitted = swapped(p, hooks)
    size = 40 - round(0.2 * 40)
    assert spent(p)[""] == EPOCHS * BATCH * (size // BATCH) == fitted.steps * BATCH
    assert int(hooks.counts.seen.sum()) == 5 * BATCH * (size // BATCH)  # since the last swap
    assert hooks.history[0]["not_seen"] >= size // 2, "an epoch shows a third of the examples"


def test_labels_are_told_by_every_source() -> None:
    p = problem()
    files = ImageFiles([], np.array([2, 0, 1, 3]), {"train": np.array([3, 0])}, ("a", "b", "c", "d"))
    assert train_labels(files).tolist() == [3, 2]
    assert torch.equal(train_labels(p.source), p.source.examples.y["train"])

    class Other:
        def evaluate(self, split: str, batch: int) -> Any:
            assert split == "train"
            yield torch.zeros(2, 1), torch.tensor([1, 2])
            yield torch.zeros(1, 1), torch.tensor([0])

    assert train_labels(Other()).tolist() == [1, 2, 0]  # type: ignore[arg-type]
    assert train_labels(Shapes((3, 16, 16), 4, 9)).tolist() == []


# Several processes


def _process(rank: int, folder: str) -> None:
    import torch.distributed as group

    patience = timedelta(seconds=120)  # where the other one has failed, nobody comes
    group.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=patience)
    try:
        _count(rank, folder)
    finally:
        group.destroy_process_group()


def _count(rank: int, folder: str) -> None:
    p = problem()
    swapping, pruning = SwappedExamples(p, EPOCHS, 0.2, criterion="forgetting+cls"), WellLearned(p, InfoBatch())
    _feed(p, swapping, pruning)
    scores = vit_examples.agreed(torch.arange(3.0) + rank, p.device)
    found = {"train": swapping.train, "state": swapping.state(), "pruning": pruning.state(), "scores": scores}
    torch.save(found, Path(folder) / f"{rank}.pt")


def _feed(p: VitProblem, swapping: SwappedExamples, pruning: WellLearned) -> None:
    """Three epochs of made-up answers, which depend on example and epoch alone, to the items of the batches that are one's own."""
    answers = torch.randn(6, COUNT, CLASSES, generator=drawing(7))
    labels = train_labels(p.source)
    for epoch in range(6):
        among = swapping.among(epoch)
        pruning.among(epoch)
        for rows in p.rows(epoch, among):
            logits = answers[epoch, rows]
            swapping.before_step(rows)
            swapping.record(logits, labels[rows], logits.var(1))
            pruning.before_step(rows)
            pruning.loss(lambda x: x, logits, labels[rows])  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_processes_count_and_choose_as_one(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_process, args=(1, str(tmp_path)))
    other.start()
    try:
        _process(0, str(tmp_path))  # this one has imported all that the other one must: seconds
        other.join(120)
    finally:
        other.kill()
    assert other.exitcode == 0
    first, second = (torch.load(tmp_path / f"{r}.pt", weights_only=False) for r in (0, 1))
    p = problem()
    swapping, pruning = SwappedExamples(p, EPOCHS, 0.2, criterion="forgetting+cls"), WellLearned(p, InfoBatch())
    _feed(p, swapping, pruning)
    assert len(swapping.history) == 5
    for found in (first, second):
        assert torch.equal(found["train"], swapping.train)
        state, pruned = swapping.state(), pruning.state()
        assert found["state"]["history"] == state["history"]
        assert all(torch.equal(found["state"]["counts"][k], v) for k, v in state["counts"].items())
        assert torch.equal(found["pruning"]["scores"], pruned["scores"])
        assert found["pruning"]["history"] == pruned["history"]
        assert found["scores"].tolist() == [0.0, 1.0, 2.0]


def test_items_of_processes_come_back_in_the_batches_order(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.arange(24)  # three batches of eight
    mine = [torch.cat([b[r::2] for b in whole.split(8)]) for r in range(2)]
    monkeypatch.setattr(parallel, "world", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", lambda parts, _: [a.copy_(b) for a, b in zip(parts, mine, strict=True)])
    assert torch.equal(vit_examples.gathered(mine[0]), whole)


# How many, and of which class


def test_the_number_of_examples_is_the_one_whose_steps_come_nearest() -> None:
    for count in (96, 100, 104, 111, 240, 1257, 3068):
        for share in (1.0, 0.9, 0.8, 0.7, 0.33):
            p = problem(count=104)
            p.source = Shapes((3, 16, 16), CLASSES, count)
            size, dense = subset_size(p, share), count // BATCH
            assert abs(size // BATCH - share * dense) <= 0.5 + 1e-9
            assert abs(size - share * count) < BATCH
            if round(share * count) // BATCH == round(share * dense):
                assert size == round(share * count)
            assert subset_size(p, share, keep=0.5) == count - round(0.5 * count)
    with pytest.raises(UserError, match="fill no batch"):
        subset_size(problem(), 0.8, keep=0.05)


def test_quotas_and_the_first_of_each_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 21)
    found = quotas(labels, 80)
    assert int(found.sum()) == 80
    assert found.tolist() == [39, 24, 17]  # 39.6, 23.8, 16.6
    order = torch.randperm(101, generator=drawing(0))
    rows = first_of_each(order, labels, torch.tensor([3, 2, 1]))
    slow, left = [], [3, 2, 1]
    for r in order.tolist():
        if left[int(labels[r])]:
            left[int(labels[r])] -= 1
            slow.append(r)
    assert rows.tolist() == slow


# Methods

SAVING = [RandomSubset(), RandomSubset(draw="each_epoch"), RandomSubset(balanced=True), Forgetting(), El2n(), Grand()]
NAMES = ["random", "random-each-epoch", "random-balanced", "forgetting", "el2n", "grand"]


class Rows(VitHooks):
    """Which rows each epoch of the real training showed."""

    def __init__(self, p: VitProblem) -> None:
        self.seen: list[torch.Tensor] = []
        batches = p.batches
        original = type(p).rows

        def rows(epoch: int, among: torch.Tensor | None = None) -> Any:
            found = list(original(p, epoch, among))
            self.seen.append(torch.cat(found))
            return found

        p.rows, p.batches = rows, batches  # type: ignore[method-assign,assignment]


class Ticking(MemoryRun):
    """A clock that goes on by one with each batch."""

    @property
    def seconds(self) -> float:
        return float(self.batches)

    @seconds.setter
    def seconds(self, value: float) -> None:
        pass


@cache
def _solved(method: Any, epochs: int) -> tuple[VitProblem, Rows, Trained]:
    p = problem(Ticking(problem().spec), epochs=epochs)
    return p, Rows(p), method.solve(p)


def solved(method: Any, epochs: int = EPOCHS) -> tuple[VitProblem, Rows, Trained]:
    """Each method is solved once for all tests, at 0.8 of the multiply-adds; the Solution is a copy, the rest is read alone."""
    p, shown, found = _solved(method, epochs)
    return p, shown, copy.deepcopy(found)


@pytest.mark.parametrize("method", SAVING, ids=NAMES)
def test_the_images_that_are_shown_are_the_share_to_the_image(method: Any) -> None:
    share = 0.8
    p, shown, found = solved(method)
    steps = round(share * STEPS)
    assert spent(p)[""] == EPOCHS * BATCH * steps
    assert found.training is not None
    assert found.training.steps == EPOCHS * steps
    assert found.training.epochs == EPOCHS
    assert [len(s) for s in shown.seen[-EPOCHS:]] == [BATCH * steps] * EPOCHS
    used = torch.cat(shown.seen[-EPOCHS:]).unique()
    if getattr(method, "draw", "once") == "once":
        assert len(used) <= found.notes["examples"] == subset_size(p, share)
    else:
        assert len(used) == COUNT


@pytest.mark.parametrize("method", [*SAVING, Dense(), ShorterDense(), InfoBatch()], ids=[*NAMES, "dense", "shorter", "infobatch"])
def test_solutions_tell_what_they_cost_and_can_be_pickled(method: Any) -> None:
    p, _, kept = solved(method)
    found: Trained = pickle.loads(pickle.dumps(kept))
    names = [b.name for b in found.before]
    assert names == {Forgetting: ["forgetting"], El2n: ["scoring_runs", "scores"], Grand: ["scoring_runs", "scores"]}.get(
        type(method), []
    )
    assert set(found.seconds) == {"train", "total"}
    if not names:
        assert BEFORE not in spent(p)
        assert found.seconds["total"] == found.seconds["train"]
    else:
        booked = sum(b.batches * b.batch for b in found.before)
        assert spent(p)[BEFORE] == pytest.approx(booked)
    for made in (found.training, *(b.training for b in found.before)):
        if made is not None:
            network = copy.deepcopy(found.model).train()
            x, y = torch.randn(BATCH, 3, 16, 16), torch.zeros(BATCH, dtype=torch.long)
            (made.loss or made.recipe.loss)(network, x[:6], y[:6]).backward()  # a step can be taken again, of any size
            assert made.recipe.optimizer(network) is not None


@pytest.mark.parametrize("method", [Forgetting(), El2n()], ids=["forgetting", "el2n"])
def test_what_runs_before_is_part_of_the_whole_time(method: Any) -> None:
    seconds = solved(method)[2].seconds
    assert seconds["train"] == EPOCHS * round(0.8 * STEPS)
    # two epochs, or three of one each and a pass over all examples, booked at once
    assert seconds["total"] - seconds["train"] == (2 * STEPS if isinstance(method, Forgetting) else 3 * (STEPS + 1))


@pytest.mark.parametrize("method", [*SAVING, Dense(), ShorterDense(), InfoBatch()], ids=[*NAMES, "dense", "shorter", "infobatch"])
def test_the_speed_division_plans_the_steps_without_a_batch(method: Any) -> None:
    p = problem(division="speed", target="" if isinstance(method, Dense) else "train_macs=0.8")
    found = method.solve(p)
    assert same(found.model, p.network())
    whole = isinstance(method, Dense | InfoBatch)  # nobody knows losses here
    assert (
        found.training.steps == EPOCHS * STEPS
        if whole
        else 8 * STEPS
        if isinstance(method, ShorterDense)
        else EPOCHS * round(0.8 * STEPS)
    )
    assert not spent(p)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "stops"),
    [  # batches from where a life of the run goes on: early and late in the runs before the training, then in the training
        (InfoBatch(), (1, 10, 20, 28)),
        (Forgetting(before=0.5), (1, 36, 15, 32)),  # so late that what was counted before tells who stays
        (El2n(), (1, 10, 20, 28)),
        (RandomSubset(), (1, 10, 20, 28)),
    ],
    ids=["infobatch", "forgetting", "el2n", "random"],
)
def test_a_solve_that_is_stopped_again_and_again_ends_as_if_it_had_not_been(method: Any, stops: tuple[int, ...]) -> None:
    whole, _, expected = solved(method)
    saved = None
    for stop in stops:
        run = MemoryRun(whole.spec, stop_after=stop, saved=saved)
        with pytest.raises(Stopped):
            method.solve(problem(run))
        assert saved is None or run.saved["examples"] > saved["examples"]  # type: ignore[index]
        saved = run.saved
    again = problem(MemoryRun(whole.spec, saved=saved))
    found = method.solve(again)
    assert same(found.model, expected.model)
    assert found.notes == expected.notes
    assert found.training.steps == expected.training.steps
    assert spent(again) == spent(whole)


@pytest.mark.parametrize("method", [*SAVING, ShorterDense(), InfoBatch()], ids=[*NAMES, "shorter", "infobatch"])
def test_another_target_is_refused_before_any_training(method: Any) -> None:
    p = problem(target="tokens=0.75")
    with pytest.raises(UserError, match="train_macs"):
        method.solve(p)
    assert not spent(p)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ShorterDense(share=1.5), "share=1.5"),
        (lambda: RandomSubset(draw="twice"), "once or each_epoch"),  # type: ignore[arg-type]
        (lambda: RandomSubset(keep=0.0), "keep=0"),
        (lambda: Forgetting(before=0.0), "before=0"),
        (lambda: Forgetting(convention="other"), "toneva or deepcore"),  # type: ignore[arg-type]
        (lambda: El2n(runs=0), "runs=0"),
        (lambda: El2n(skipped=1.0), "skipped=1"),
        (lambda: Grand(at=2.0), "at=2"),
        (lambda: Grand(gradient="half"), "last_layer or whole"),  # type: ignore[arg-type]
        (lambda: InfoBatch(r=1.0), "r=1"),
        (lambda: InfoBatch(delta=-0.1), "delta=-0.1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_shorter_dense_has_fewer_epochs_and_a_schedule_of_its_own() -> None:
    p, _, found = solved(ShorterDense())
    assert found.training is not None
    assert (found.training.epochs, found.training.steps) == (8, 8 * STEPS)
    assert spent(p) == {"": 8 * STEPS * BATCH}
    assert found.training.recipe == p.recipe_of(8)
    whole = problem(division="speed", epochs=300)  # no batch is taken
    recipe = ShorterDense().solve(whole).training.recipe  # type: ignore[union-attr]
    assert (whole.recipe_of(300).warmup, recipe.warmup) == (5, 4)
    assert recipe.rate(239, 240) < 2 * whole.recipe_of(300).rate(299, 300)
    assert ShorterDense(share=0.5).solve(problem(epochs=2)).notes == {"epochs": 1}


def test_a_random_subset_is_drawn_once_or_each_epoch() -> None:
    for method in (RandomSubset(), RandomSubset(draw="each_epoch")):
        p, shown, _ = solved(method)
        parts = [frozenset(s.tolist()) for s in shown.seen]
        assert all(len(s) == 48 for s in parts)
        # 51 examples make six batches: three of them are left over each time
        assert (len(frozenset.union(*parts)) == 51) == (method.draw == "once")
        assert subset_size(p, 0.8) == 51


def test_a_balanced_subset_keeps_each_classs_share() -> None:
    p, shown, _ = solved(RandomSubset(balanced=True))
    labels = train_labels(p.source)
    used = labels[torch.cat(shown.seen).unique()].bincount(minlength=CLASSES)
    assert (used - 51 / COUNT * labels.bincount()).abs().max() < 1


def test_the_forgetting_run_is_counted_and_the_most_forgotten_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(target="train_macs=0.5")
    shown, kept = Rows(p), {}

    def spy(scores: torch.Tensor, size: int, *args: Any, **settings: Any) -> torch.Tensor:
        rows = highest(scores, size, *args, **settings)
        kept.update(scores=scores, rows=rows)
        return rows

    monkeypatch.setattr("reference_impls.vit_training.forgetting.highest", spy)
    found = Forgetting(before=0.8).solve(p)
    assert found.before[0].training is not None
    assert found.before[0].training.epochs == 8
    assert spent(p)[BEFORE] == 8 * STEPS * BATCH
    scores, rows = kept["scores"], kept["rows"]
    left = torch.ones(COUNT, dtype=torch.bool)
    left[rows] = False
    assert scores[rows].min() >= scores[left].max()
    assert int((scores == 8).sum()) == found.notes["never_learned"]
    assert torch.cat(shown.seen[-EPOCHS:]).unique().tolist() == sorted(rows.tolist()) or len(rows) % BATCH


def test_deepcores_convention_drops_what_was_never_learned_and_chooses_by_class() -> None:
    scores = torch.tensor([0, 3, 1, 2, 0, 5, 4, 0])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    rows = highest(scores, 5, drawing(0), labels=labels, share=0.6)
    assert rows.tolist() == [1, 3, 5, 6]  # round(0.6 * 4) = 2 of each
    assert highest(scores, 5, drawing(0)).tolist() == [1, 2, 3, 5, 6]
    counts = ForgettingCounts(3)
    for answers in ([0, 1, 1], [0, 0, 1]):
        counts.add(torch.arange(3), torch.tensor(answers))
    assert counts.scores(0).tolist() == [0, 1, 0]
    assert counts.scores(2).tolist() == [2, 1, 0]
    p = problem(epochs=2)
    notes = Forgetting(convention="deepcore", keep=0.5).solve(p).notes
    assert notes["examples"] == sum(round(0.5 * n) for n in train_labels(p.source).bincount().tolist())


def test_scoring_runs_have_draws_of_their_own_and_break_off_at_the_whole_trainings_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(epochs=20)
    seen: list[tuple[torch.nn.Module, bool, torch.Tensor]] = []

    def watch(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append((copy.deepcopy(model), model.training, x))
        return vit_example_scores.el2n(model, x, y)

    trainer = VitTrainer(p)
    scores, before = vit_example_scores.mean_scores(trainer, watch, runs=3, at=0.1)
    assert len(seen) == 3
    assert not any(training for _, training, _ in seen)
    assert not same(seen[0][0], seen[1][0])
    assert not same(seen[1][0], seen[2][0])
    plain = torch.cat([x for x, _ in p.source.evaluate("train", 500)])
    assert all(torch.equal(x, plain) for _, _, x in seen), "not augmented, in stored order"
    each = torch.stack([error_norm(m.eval()(plain), train_labels(p.source)) for m, _, _ in seen])
    torch.testing.assert_close(scores.float(), each.mean(0), rtol=1e-5, atol=1e-6)
    (runs, _), (passes, _) = before
    assert runs.batches == 3 * 2 * STEPS
    assert passes.training is None
    assert spent(p) == {BEFORE: 3 * 2 * STEPS * BATCH + 3 * COUNT}
    recipe = Beginning.of(p, whole=20)
    assert [recipe.rate(e, 2) for e in (0, 1)] == [p.recipe.rate(e, 20) for e in (0, 1)]


@pytest.mark.parametrize("method", [El2n(), Grand(), Grand(gradient="whole")], ids=["el2n", "grand", "grand-whole"])
def test_the_hardest_stay_and_the_very_hardest_may_be_skipped(method: Any) -> None:
    found = solved(method, epochs=2)[2].notes
    assert found["score_kept"] > found["score_left_out"]
    skipped = replace(method, skipped=0.1).solve(problem(epochs=2)).notes
    assert skipped["score_kept"] < found["score_kept"]
    with pytest.raises(UserError, match="skip fewer"):
        replace(method, skipped=0.5).solve(problem(epochs=2))


def test_a_second_seed_and_method_of_the_same_runs_agree_on_the_runs() -> None:
    el2n, grand = (solved(m, epochs=2)[2] for m in (El2n(), Grand()))
    assert same(el2n.before[0].model, grand.before[0].model)
    other = El2n().solve(problem(epochs=2, seed=1))
    assert not same(el2n.before[0].model, other.before[0].model)


def test_gradients_are_those_of_backward() -> None:
    p = problem()
    model = p.network().eval()
    x, y = next(iter(p.source.evaluate("train", 6)))
    whole, last = whole_gradient(model, x, y), last_layer_gradient(model, x, y)
    for i in range(6):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        squares = {n: q.grad.square().sum() for n, q in model.named_parameters() if q.grad is not None}
        assert float(whole[i]) == pytest.approx(float(sum(squares.values())) ** 0.5, rel=1e-4)
        assert float(last[i]) == pytest.approx(float(squares["head.weight"] + squares["head.bias"]) ** 0.5, rel=1e-4)
    with pytest.raises(UserError, match="gradient=whole"):
        last_layer_gradient(torch.nn.Flatten(), x, y)


def test_infobatch_shows_all_at_first_and_at_the_end_and_weighs_in_between() -> None:
    p = problem(epochs=16)
    hooks, weights = WellLearned(p, InfoBatch()), []
    shown = Rows(p)

    class Spy(VitHooks):
        def among(self, epoch: int) -> torch.Tensor | None:
            rows = hooks.among(epoch)
            weights.append((hooks.weights.clone(), hooks.scores.clone(), rows))
            return rows

        before_step, state, restore = hooks.before_step, hooks.state, hooks.restore  # type: ignore[assignment]

    fitted = VitTrainer(p).fit("train", p.network(), hooks=Spy(), loss=hooks.loss)
    assert (weights[0][1] == 3).all()
    sizes = [h["shown"] for h in hooks.history]
    assert sizes[0] == COUNT == sizes[14] == sizes[15], "0.875 of 16 epochs is 14"
    assert max(sizes[1:14]) < COUNT
    for weight, scores, rows in weights[1:14]:
        low = scores < scores.double().mean()
        assert set(rows.tolist()) >= set((~low).nonzero()[:, 0].tolist())
        double = weight == 2
        assert int(double.sum()) == int(0.5 * int(low.sum()))
        assert not (double & ~low).any()
        assert set(double.nonzero()[:, 0].tolist()) <= set(rows.tolist())
        assert len(rows) == int((~low).sum()) + int(double.sum())
    assert weights[14][2] is None
    assert (weights[14][0] == 1).all()
    assert not torch.equal(weights[3][0], weights[4][0])
    assert fitted.steps == sum(n // BATCH for n in sizes)
    assert [len(s) for s in shown.seen] == [n // BATCH * BATCH for n in sizes]


def test_infobatch_books_what_it_saves_and_needs_losses_of_single_examples() -> None:
    p, _, found = solved(InfoBatch())
    assert found.training is not None
    assert spent(p)[""] == found.training.steps * BATCH < p.budget
    assert found.notes["share_pruned"] == pytest.approx(1 - spent(p)[""] / p.budget)
    whole, dense = (m.solve(problem(epochs=4)).model.state_dict() for m in (InfoBatch(r=0.0), Dense()))
    assert all(torch.allclose(whole[k], v, atol=1e-4) for k, v in dense.items()), "with r = 0 it is the dense training"
    mixing = problem()
    mixing.recipe = replace(mixing.recipe, mixup=0.8)
    with pytest.raises(UserError, match="augmentation"):
        InfoBatch().solve(mixing)


def test_the_loss_of_a_mixed_example_is_booked_unweighted_on_its_own_row() -> None:
    p = problem(augmentation=Deit(policy="", erase=0.0, repeats=1))
    loss = WeightedLoss(replace(p.recipe, label_smoothing=0.1))
    logits, rows = torch.randn(BATCH, CLASSES, generator=drawing(1)), torch.arange(BATCH)
    y = soft(rows % CLASSES, 0.3)
    loss.log.rows, loss.weight = rows, torch.full((BATCH,), 2.0)
    value = loss(lambda x: x, logits, y)  # type: ignore[arg-type]
    expected = -(y * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(value, 2 * expected.mean())
    torch.testing.assert_close(loss.log.take(p.device)[1], expected)
    scores = torch.full((4,), 3.0)
    book(scores, torch.tensor([1, 2, 1]), torch.tensor([5.0, 6.0, 7.0]))
    assert scores.tolist() == [3.0, 7.0, 6.0, 3.0]


def test_what_is_pickled_of_a_recording_loss_is_small_and_still_records() -> None:
    p = problem(epochs=4)
    hooks = SwappedExamples(p, 4, 0.2)
    swapped(p, hooks)
    copied = pickle.loads(pickle.dumps(hooks))
    assert not hasattr(copied, "problem")
    assert copied.recorder.log.lines == []
    copied.record(torch.randn(BATCH, CLASSES), torch.zeros(BATCH, dtype=torch.long))
    assert len(copied.recorder.log.lines) == 1
    assert len(pickle.dumps(hooks)) < 5000
