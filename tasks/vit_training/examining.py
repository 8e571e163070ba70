"""How a trained network is tested: as it is ranked, and on all, on chosen and on random patches beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from suite.naming import UserError
from tasks.images.sources import Source
from tasks.vit_training.patches import OnTickets, entering
from tasks.vit_training.problem import Trained, VitProblem

CHUNK = 500
NOBODY = -1  #: was not asked


def deployed(solution: Trained) -> nn.Module:
    """What answers when the solution is used."""
    if solution.tested == "all":
        return solution.model
    if solution.selector is None:
        raise UserError("a network that is tested on tickets needs the selector that chooses them; give Trained.selector")
    return OnTickets(solution.selector, solution.model)


def pictures(source: Source, count: int) -> np.ndarray:
    """Of each test image which picture it shows, (n,) int64: its own, unless the set shows one several times."""
    shown: Any = getattr(source, "pictures", None)
    return shown("test").numpy() if shown else np.arange(count)


def examine(problem: VitProblem, solution: Trained, draws: int, seed: int) -> dict[str, np.ndarray]:
    """The columns of the evidence, one line a test image."""
    label, prediction, confidence = problem.predict(deployed(solution).to(problem.device), "test")
    n = len(label)
    nobody = np.full(n, NOBODY)
    columns: dict[str, np.ndarray] = {
        "row": np.arange(n),
        "label": label,
        "picture": pictures(problem.source, n),
        "prediction": prediction,
        "confidence": confidence,
        "found": nobody,
        "informative": nobody,
    }
    named = ("all", "ticket", "random")
    columns |= {prefix + name: nobody for prefix in ("", "parent_") for name in named}
    if solution.selector is None:
        return columns
    tickets = torch.cat([solution.selector.eval()(x) for x in _images(problem)])
    for prefix, model in (("", solution.model), ("parent_", solution.whole)):
        if model is not None:
            found = on_patches(problem, model, tickets, draws, seed)
            columns |= {prefix + name: values for name, values in zip(named, found, strict=True)}
    informative: Any = getattr(problem.source, "informative", None)
    if informative:
        true = informative("test", problem.vit.patch).to(tickets.device)
        columns["found"] = true.gather(1, tickets).sum(1).cpu().numpy()
        columns["informative"] = true.sum(1).cpu().numpy()
    return columns


@torch.inference_mode()
def on_patches(
    problem: VitProblem, model: nn.Module, tickets: torch.Tensor, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers on all patches and on tickets, and how many draws of as many random patches are answered rightly, (n,) each.

    Draws are the same for every network.
    """
    model = model.to(problem.device).eval()
    generator = torch.Generator().manual_seed(seed)
    n, chosen = tickets.shape
    # ordered uniform numbers: a draw without replacement for each image
    random = torch.rand(draws, n, problem.vit.patches, generator=generator).argsort(-1)[..., :chosen].to(problem.device)
    answers, at = [], 0
    for x, y in problem.source.evaluate("test", CHUNK):
        x, y, here = x.to(problem.device), y.to(problem.device), slice(at, at + len(y))
        at += len(y)
        whole = _answer(model, x, None)
        on_ticket = _answer(model, x, tickets[here])
        hits = sum((_answer(model, x, draw[here]) == y).int() for draw in random)
        answers.append(torch.stack([whole, on_ticket, torch.as_tensor(hits)]).cpu())
    whole, on_ticket, hits = torch.cat(answers, 1).numpy()
    return whole, on_ticket, hits


def _answer(model: nn.Module, x: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
    with entering(model, index):
        return model(x).argmax(1)  # type: ignore[no-any-return]


@torch.inference_mode()
def _images(problem: VitProblem) -> Iterator[torch.Tensor]:
    for x, _ in problem.source.evaluate("test", CHUNK):
        yield x.to(problem.device)
