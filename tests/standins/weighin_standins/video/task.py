"""A two-frame upscaler: files sent and a player; runtimes versus play/eager, one of them absent; crops to look at."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from suite.protocol import Measure, Operations, Problem, Spec, Unsupported, Workload
from suite.show import Against, Curve, Gallery, Show
from weighin_standins.common import Base, sizes


@dataclass(frozen=True)
class Stream:
    files: Mapping[str, bytes]

    @property
    def model(self) -> nn.Module:
        model: nn.Module = torch.jit.load(io.BytesIO(self.files["model"])) if "model" in self.files else nn.Identity()
        return model


@dataclass
class VideoProblem(Problem):
    frames: torch.Tensor  #: (2, 3, 16, 16), train and test alike: video overfits its clip by design


def corners(problem: VideoProblem, solution: Stream | None) -> dict[str, np.ndarray]:
    """The upper half of the first frame."""
    frame = problem.frames[0] if solution is None else Video().play(problem, solution)[0]
    return {"corner-0": (255 * frame[:, :8]).round().byte().permute(1, 2, 0).contiguous().numpy()}


class Video(Base):
    """A two-frame upscaler: files sent and a player."""

    name, question, ranked, speed, parent_method = "video", "Playable?", "psnr_frame", "play/eager", "bicubic"
    tiers = sizes("clip/x2", "")
    show = Show(
        curve=Curve("likeness", along="row", of=lambda evidence: -10 * np.log10(evidence["squared_error"]), unit="dB"),
        against=(Against("bytes:video", "bytes of what is sent"),),
        gallery=Gallery(corners, "bicubic", {"clip": "drawn by a random number"}, (16, 8), "Cut at the top."),
        pays=False,
    )
    columns = {"row": "int32", "squared_error": "float64", "bytes_video": "int64", "bytes_model": "int64"}

    def problem(self, spec: Spec, run: Any) -> VideoProblem:
        return VideoProblem(spec, run, torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)))

    def parent(self, problem: VideoProblem) -> Stream:
        return Stream({"video": F.avg_pool2d(problem.frames, 2).numpy().tobytes()})

    def play(self, problem: VideoProblem, solution: Stream) -> torch.Tensor:
        small = torch.frombuffer(bytearray(solution.files["video"]), dtype=torch.float32).view(2, 3, 8, 8)
        with torch.no_grad():
            return solution.model(F.interpolate(small, scale_factor=2, mode="bicubic")).clamp(0, 1)

    def examine(self, problem: VideoProblem, solution: Stream) -> dict[str, np.ndarray]:
        error = (self.play(problem, solution) - problem.frames).square().mean((1, 2, 3)).double().numpy()
        sizes = {f"bytes_{k}": np.array([len(solution.files.get(k, b"")), 0], "int64") for k in ("video", "model")}
        return {"row": np.arange(2, dtype="int32"), "squared_error": error, **sizes}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        sizes = [Measure("bytes", float(evidence[f"bytes_{k}"].sum()), "B", "down", k) for k in ("video", "model")]
        return [Measure("psnr_frame", -10 * math.log10(evidence["squared_error"].mean()), "dB", "up"), *sizes]

    def workloads(self, problem: VideoProblem, solution: Stream) -> list[Workload]:
        def absent() -> Any:
            raise Unsupported("this runtime is not installed")

        play = lambda: lambda: self.play(problem, solution)  # noqa: E731
        return [Workload("play/eager", play, 2), Workload("play/other", absent, 2, versus="play/eager")]

    def operations(self, problem: VideoProblem, solution: Stream) -> Operations:
        return Operations((), warnings=("bicubic is not counted",))
