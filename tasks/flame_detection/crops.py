"""Pictures to look at: which patches of a frame are called flame, over its thermal picture, clear and under smoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from tasks.flame_detection.problem import Detectors, FlameProblem, Patches

SIZE = (280, 224)  #: columns and rows: those of 640x512 in the same shape, within what a bundle may carry
NAMES = {False: "clear", True: "under-smoke"}
FLAME = (255, 120, 20)  #: of patches that are called flame
TINT = 0.35  #: how far a pixel goes towards it; a patch's outermost pixels go all the way
GAMMA = 0.5  #: brightens what is cool beside flames
RULE = (
    "The first frames of the test that hold fire, clear and under smoke. Orange: patches that are called flame, by the nearest"
    " centre where there is smoke and the method has centres; on the original those that truly are, by 80 °C or by construction."
    " Thermal pictures as the square root of their brightness."
)
CREDITS = {
    "synthetic": "Rendered by this project from a fixed seed",
    "flame3_scenes": "FLAME 3 sample images, Michael Marinaccio and Fatemeh Afghah, CC BY-NC 4.0, not for commercial use; reduced,"
    " scaled to grey, patches marked",
}


def pictures(problem: FlameProblem, solution: Detectors | None) -> dict[str, np.ndarray]:
    """At most two pictures, uint8 (H, W, 3): frames with what a method calls flame marked, or with what is."""
    found = {}
    for smoky, name in NAMES.items():
        for fold, whole in enumerate(problem.patches.folds):
            rows = chosen(whole.test, smoky, _count(problem))
            if not len(rows):
                continue
            part = whole.test.take(rows)
            found[name] = drawn(problem, part, answers(problem, part, solution, fold))
            break
    return found


def chosen(test: Patches, smoky: bool, count: int) -> torch.Tensor:
    """Rows of the first `count` frames that are all clear, or all under smoke, those that hold fire first; (k,) in stored order."""
    import torch

    _, index = test.frame.unique(return_inverse=True)
    sizes = torch.bincount(index)
    hidden, fire = (torch.bincount(index, flag.double()) for flag in (test.obscured, fires(test)))
    if not len(sizes):
        return torch.zeros(0, dtype=torch.int64)
    whole = (hidden == (sizes if smoky else 0)) & (sizes == sizes.max())
    order = sorted(whole.nonzero()[:, 0].tolist(), key=lambda f: (not fire[f], f))[:count]
    return torch.isin(index, torch.tensor(sorted(order), dtype=torch.int64)).nonzero()[:, 0]


def fires(test: Patches) -> torch.Tensor:
    """What is fire: by the truth where it is known, else by the RGB label, (n,) bool."""
    import torch

    return torch.where(test.truth < 0, test.label, test.truth) == 1


def answers(problem: FlameProblem, part: Patches, solution: Detectors | None, fold: int) -> torch.Tensor:
    """Which patches are called flame, (n,) bool; without a solution those that are."""
    import torch

    from tasks.flame_detection.problem import embeddings, scores

    if solution is None:
        return fires(part)
    detector = solution.folds[fold]
    head = torch.from_numpy(scores(detector.model, part, problem.device)) > 0
    if detector.centres is None:
        return head
    z = torch.from_numpy(embeddings(detector.model, part, problem.device))
    none, flame = ((z - c.detach().cpu()).square().sum(1) for c in detector.centres)
    return torch.where(part.obscured, flame < none, head)


def drawn(problem: FlameProblem, part: Patches, flame: torch.Tensor) -> np.ndarray:
    """Whole frames in raster order, side by side as far as there is room, their patches of `flame` (n,) marked."""
    import torch
    from torch.nn import functional as F

    from tasks.flame_detection.patches import pasted

    (down, across), side = problem.patches.grid, problem.patches.patch
    shown = min(side, SIZE[0] // across, SIZE[1] // down)  # pixels of a patch's side in the picture
    grey = F.interpolate(part.thermal.clamp(0, 1), (shown, shown), mode="area").pow(GAMMA).repeat(1, 3, 1, 1)
    colour = torch.tensor(FLAME).view(1, 3, 1, 1) / 255
    inner = torch.full((shown, shown), TINT)
    inner[[0, -1]] = inner[:, [0, -1]] = 1.0
    grey = grey + flame.view(-1, 1, 1, 1) * inner * (colour - grey)
    wide = max(1, SIZE[0] // (across * shown))
    frames = pasted(grey, down, across).permute(0, 2, 3, 1)
    frames = frames[: max(1, len(frames) // wide) * wide] if len(frames) >= wide else frames
    rows = [torch.cat(list(row), 1) for row in frames.split(min(wide, len(frames)))]
    picture: np.ndarray = (255 * torch.cat(rows)).round().byte().numpy()
    return picture


def agreement(seen: np.ndarray, original: np.ndarray) -> float:
    """Share of the area that is answered as the original marks it, in per cent: the pictures below the marks are the same."""
    return 100 * float((seen == original).all(2).mean())


def _count(problem: FlameProblem) -> int:
    """Frames that there is room for."""
    (down, across), side = problem.patches.grid, problem.patches.patch
    return max(1, SIZE[0] // (across * side)) * max(1, SIZE[1] // (down * side))
