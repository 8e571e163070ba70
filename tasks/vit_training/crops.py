"""Pictures to look at: which patches of a few test images a method keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from tasks.vit_training.problem import Trained, VitProblem

SIDE = 128  #: of one image on the sheet, in pixels, as far as its own are repeated to that
SHEET = 2  #: images across and down
SIZE = (SHEET * SIDE, SHEET * SIDE)  #: columns and rows
NAME = "four-test-images"
FADED = 0.85  #: of a patch that is not kept, how far it goes towards white
RULE = "The first test image of four classes, evenly spread; what is faded is what the network does not get to its end."
CREDITS = {
    "clothing10": "Photographs of the clothing dataset of Alexey Grigorev and contributors, CC0 1.0; reduced to 64×64",
    "digits": "Optical digits (Alpaydin, Kaynak 1998, CC BY 4.0), as scikit-learn (BSD-3) holds them; placed on noise here",
}


def pictures(problem: VitProblem, solution: Trained | None) -> dict[str, np.ndarray]:
    """One sheet, uint8 (256, 256, 3): the originals, or what a network keeps of them; none of a network that keeps all."""
    import torch

    keeps = None if solution is None else solution.selector if solution.tested == "tickets" else solution.keeps
    if solution is not None and keeps is None:
        return {}
    x = torch.cat([b for b, _ in problem.source.evaluate("test", 500)])[rows(problem)]
    shown = seen(problem, x)
    if keeps is not None:
        patch = problem.vit.patch
        with torch.inference_mode():
            index = keeps.to(problem.device).eval()(x.to(problem.device)).cpu()
        # a number below 0 is no patch of the image (fused ones): it marks a column that is cut off
        mask = torch.zeros(len(x), problem.vit.patches + 1).scatter_(1, index % (problem.vit.patches + 1), 1.0)[:, :-1]
        side = x.shape[-1] // patch
        kept = mask.view(-1, 1, side, side).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        shown = shown + (1 - shown) * FADED * (1 - kept)
    scale = max(1, SIDE // x.shape[-1])
    large = shown.repeat_interleave(scale, 2).repeat_interleave(scale, 3)[:, :, :SIDE, :SIDE]
    # a white line along the edge: where images touch, one would seem to go on in the next
    large[:, :, :1], large[:, :, -1:], large[..., :1], large[..., -1:] = 1.0, 1.0, 1.0, 1.0
    sheet = torch.cat([torch.cat(list(row), 2) for row in large.view(SHEET, SHEET, *large.shape[1:])], 1)
    return {NAME: (255 * sheet.clamp(0, 1)).round().byte().permute(1, 2, 0).contiguous().numpy()}


def rows(problem: VitProblem) -> list[int]:
    """The first test image of each of four classes, evenly spread over those that occur."""
    label = np.concatenate([y.numpy() for _, y in problem.source.evaluate("test", 500)])
    there = np.unique(label)
    chosen = there[np.linspace(0, len(there) - 1, SHEET**2).round().astype(int)]
    return [int(np.flatnonzero(label == k)[0]) for k in chosen]


def seen(problem: VitProblem, x: torch.Tensor) -> torch.Tensor:
    """Images (n, 3, h, w) as they look, 0 to 1: the set's normalisation undone, or where it has none its own range."""
    examples = getattr(problem.source, "examples", None)
    if examples is not None and examples.mean is not None:
        return (x * examples.std.view(3, 1, 1) + examples.mean.view(3, 1, 1)).clamp(0, 1)
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low)
