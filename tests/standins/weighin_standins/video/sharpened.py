"""A convolution that sharpens what is interpolated, sent beside the video."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import nn

from weighin_standins.common import seeded
from weighin_standins.video.task import Stream, Video, VideoProblem


@dataclass(frozen=True)
class Sharpened:
    def solve(self, problem: VideoProblem) -> Stream:
        model = seeded(problem, lambda: nn.Conv2d(3, 3, 3, padding=1))
        out = io.BytesIO()
        torch.jit.save(torch.jit.script(model), out)
        return Stream({**Video().parent(problem).files, "model": out.getvalue()})
