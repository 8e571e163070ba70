"""Send a small video and networks that enlarge it: how good does it look, how many bytes, how fast?"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.naming import UserError
from suite.protocol import Measure, Operations, Run, Spec, Table, Task, Tier, Unsupported, Workload
from suite.show import Against, Curve, Gallery, Likeness, Show
from tasks.common.intervals import Z95
from tasks.common.libraries import LIBRARIES
from tasks.common.truth import entry
from tasks.mobile_vsr import crops, reference
from tasks.mobile_vsr.content import read_case, setting_of, source_of
from tasks.mobile_vsr.problem import BATCH, VideoProblem
from tasks.mobile_vsr.quality import LEAST_ERROR, decibels, psnr_frames

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from tasks.mobile_vsr.player import Stream

__all__ = ["BATCH", "MobileVSR", "VideoProblem"]  # what methods import

PLAYED = 3  #: frames, spread over the clip, that one timed call plays


class MobileVSR(Task[VideoProblem, "Stream"]):
    """Overfitted video super-resolution: quality of every frame, bytes sent, speed of the player."""

    name = "mobile_vsr"
    version = 1
    question = "Send a small video and networks that enlarge it: how good does it look, how many bytes, how fast?"
    parent_method = "awdnn"
    ranked = "psnr_frame"
    beside = ("psnr_worst_5", "psnr_worst_frame", "ssim", "psnr_patch_shave", "bytes:total", "bits_per_pixel")
    speed = "play/eager"
    promised = ""
    columns = {
        "row": "int32",
        "frame": "int32",
        "covers": "int32",
        "pixels": "int32",
        "pixels_hash": "int64",
        "error_frame": "float64",
        "error_patch_shave": "float64",
        "patches": "int32",
        "error_cafm": "float64",
        "error_fp16": "float64",
        "error_played_h264": "float64",
        "error_played_h265": "float64",
        "ssim": "float64",
        "bytes_video_h264": "int64",
        "bytes_video_h265": "int64",
        "bytes_model": "int64",
        "bytes_model_fp16": "int64",
        "bytes_map": "int64",
        "bytes_header": "int64",
    }
    truth = ("row", "frame", "covers")
    amounts = ("frames_per_second",)
    libraries = LIBRARIES
    show = Show(
        curve=Curve("PSNR", along="frame", of=lambda evidence: psnr_frames(evidence["error_frame"]), unit="dB"),
        against=(
            Against("bytes:total", "bytes sent, KB: H.264 video, networks, maps", 1e-3),
            Against("throughput:play/eager", "frames a second of the player, eager", up=True),
        ),
        gallery=Gallery(
            crops.pictures,
            reference="bicubic",
            credits=crops.CREDITS,
            size=(crops.SIZE[1], crops.SIZE[0]),
            rule="Cut where the original has most detail: no method’s output decides where.",
            likeness=Likeness("PSNR", "dB", crops.psnr),
        ),
        pays=False,
    )
    tiers = {
        "smoke": Tier(
            ("bigbuckbunny/x2", "bigbuckbunny/x4"),
            ("",),
            300,
            {"data": "4 frames, cropped to 512x288", "steps": "40 at x2, 20 at x4"},
        ),
        "small": Tier(
            (
                "bigbuckbunny/x2",
                "bottle/x2",
                "bigbuckbunny/x4",
                "bottle/x4",
                *(f"{c}/x{s}-per_model" for s in (2, 4) for c in ("bigbuckbunny", "bottle")),
            ),
            ("",),
            3600,
            {
                "data": "bigbuckbunny (1280x720) every 10th frame, 14 frames; bottle (640x360) every 50th, 24 frames;"
                " fine patches 36x32 and 30x32 at x2, 30x32 and 44x40 at x4 (there bottle is cropped to 640x352)",
                "lr_source": "png: bicubic low-resolution frames (Pillow), not decoded ones; psnr_played is of decoded ones",
                "start": "every network starts from the general model (f0), trained by the same seed on the other clip and two"
                " photographs with mirrored copies: 480 patches of each, or all that it holds (bigbuckbunny x2: 480 of the clip and"
                " 200 of each photograph, x4: 225 and 60; bottle x2: 480 and 280, x4: 480 and 32)",
                "budget": "steps of batch 16, in all networks together: 1,200 and 2,400 at x2, 800 and 600 at x4; -per_model: for"
                " each network; f0 3,000 and 2,000, granted beside to each network",
                "recipe": "L1, Adam 1e-3, cosine by step to 4e-8, whole patches, no augmentation; the last weights are sent",
                "backbone": "wdsr1_n8_w2: 1 block, 8 units, width 2 (4,340 weights at x2)",
                "video": "the whole clip at 1/s by libx264 and libx265, preset medium, CRF 23, yuv420p, one thread",
                "precision": "fp32 everywhere; psnr_fp16 with weights rounded to what is sent",
                "runtimes": "those that are installed are timed beside eager torch with seed 0: seeds change weights, not shapes;"
                " alone in a process also, with every seed, those that plan ahead, the same engines planning again, and eager"
                " torch a patch a call",
                "time": "a solve takes 2 to 4 minutes on two cores, the general model included",
            },
        ),
        "paper": Tier(
            (
                *(f"{t}_{n}/x{s}" for t in ("game", "inter", "vlog") for n in (15, 45) for s in (2, 3, 4)),
                *(f"bosphorus/x{s}" for s in (2, 4)),
            ),
            ("",),
            14 * 86_400,
            {
                "data": "VSD4K, the first 30 frames a second, its own low-resolution frames; UVG, bicubic",
                "start": "from scratch; the general model, which only scores, from DIV2K, 30 epochs; it is the case's backbone",
                "budget": "50 epochs in all networks together; -per_model: each",
                "recipe": "L1, Adam 1e-3, cosine by epoch to 4e-8, batch 16; the epoch of the lowest training loss is sent",
                "backbone": "wdsr16_n32; others by name: x2-wdsr16_n16, x2-espcn, x2-edsr16",
                "speed": "untrained networks play six frames of Big Buck Bunny, enlarged to 1920x1080; runtimes as on small,"
                " and with every seed those that plan ahead and those that they are held against",
            },
        ),
    }

    def digest(self, spec: Spec) -> str:
        from tasks.mobile_vsr import data

        case = read_case(spec)
        source = source_of(spec, case)
        setting_of(spec, case, source)
        return data.digest(source)

    def problem(self, spec: Spec, run: Run) -> VideoProblem:
        import torch

        case = read_case(spec)
        source = source_of(spec, case)
        return VideoProblem(spec, run, source, setting_of(spec, case, source), case, torch.device(spec.device))

    def parent(self, problem: VideoProblem) -> Stream:
        from tasks.mobile_vsr.player import Routing, Sent, pack

        sent = [Sent(problem.case.backbone, problem.network())]
        return pack(problem.scale, len(problem.numbers), Routing("one", *problem.grid), sent)

    def examine(self, problem: VideoProblem, solution: Stream) -> Table:
        """Play every frame three times: from the frames themselves and from both decoded videos; and once more in fp16."""
        import torch

        from tasks.mobile_vsr import quality
        from tasks.mobile_vsr.player import rounded

        low, high = (x.to(problem.device) for x in problem.frames)
        half = rounded(solution, "fp16")
        for stream in (solution, half):
            stream.player.models.to(problem.device)
        videos, decoded = played_videos(problem)
        frames, scale = len(low), problem.scale
        columns: dict[str, list[Any]] = {name: [] for name in self.columns}
        for t in range(frames):
            hr = high[t : t + 1].float() / 255
            sr = solution.player.play(t, low[t])[None].float() / 255
            shaved, patches = patch_errors(solution, t, sr, hr, problem.grid)
            row = {
                "row": t,
                "frame": problem.numbers[t],
                "pixels": hr.shape[2] * hr.shape[3],
                "pixels_hash": int.from_bytes(hashlib.sha256(high[t].cpu().numpy().tobytes()).digest()[:8], "big", signed=True),
                "error_frame": quality.mse(sr, hr).item(),
                "error_patch_shave": shaved,
                "patches": patches,
                "error_cafm": quality.mse(sr, hr, scale + 6).item(),
                "error_fp16": quality.mse(half.player.play(t, low[t])[None].float() / 255, hr).item(),
                "ssim": quality.ssim(sr, hr).item(),
            }
            for codec, images in decoded.items():
                played = solution.player.play(t, torch.from_numpy(images[t]).to(problem.device))
                row[f"error_played_{codec}"] = quality.mse(played[None].float() / 255, hr).item()
            for name, value in row.items():
                columns[name].append(value)
        ends = [*problem.numbers[1:], problem.source.count]
        columns["covers"] = list(np.array(ends) - problem.numbers)
        for codec, video in videos.items():
            columns[f"bytes_video_{codec}"] = [int(video.sizes[a:b].sum()) for a, b in zip(problem.numbers, ends, strict=True)]
        # what is sent once is sent before the first frame
        for name, size in (
            ("bytes_model", solution.size("model")),
            ("bytes_model_fp16", half.size("model")),
            ("bytes_map", solution.size("map")),
            ("bytes_header", solution.size("header")),
        ):
            columns[name] = [size] + [0] * (frames - 1)
        return {k: np.array(columns[k]).astype(kind) for k, kind in self.columns.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """PSNR by each protocol, SSIM, the worst frames, and bytes by part.

        psnr_frame averages the squared error over all pixels of all frames before the logarithm; its interval is that of a
        mean over frames.  psnr_plain_video is what the clip itself, encoded to the same bytes, would have (`reference.py`).
        Raises UserError where the evidence cannot be what it says.
        """
        errors = [k for k in self.columns if k.startswith("error_")]
        amounts = [k for k in self.columns if k.startswith(("bytes_", "covers", "pixels", "patches")) and k != "pixels_hash"]
        if not len(evidence["row"]) or any(
            not np.isfinite(evidence[k]).all() or evidence[k].min() < 0 or evidence[k].max() > 1 for k in errors
        ):
            raise UserError("evidence: there must be frames, and squared errors lie in 0..1; run the method again")
        if any(evidence[k].min() < 0 for k in amounts) or min(evidence["covers"].min(), evidence["pixels"].min()) < 1:
            raise UserError("evidence: bytes, pixels and frames are counted from 0 and 1; run the method again")
        if np.abs(evidence["ssim"]).max() > 1 or not np.isfinite(evidence["ssim"]).all():
            raise UserError("evidence: ssim lies in -1..1; run the method again")
        error = evidence["error_frame"]
        worst = np.sort(error)[::-1]
        share = max(1, math.ceil(0.05 * len(error)))
        shaved = evidence["error_patch_shave"]
        patches = evidence["patches"].astype(np.float64)
        measures = [
            Measure("psnr_frame", decibels(error.mean()), "dB", "up", interval=_interval(error)),
            Measure("psnr_worst_5", decibels(worst[:share].mean()), "dB", "up"),
            Measure("psnr_worst_frame", decibels(worst[0]), "dB", "up"),
            Measure("psnr_best_frame", decibels(worst[-1]), "dB", "up"),
            Measure("psnr_patch_shave", decibels((shaved * patches).sum() / patches.sum()), "dB", "up"),
            Measure("psnr_cafm", float(psnr_frames(evidence["error_cafm"]).mean()), "dB", "up"),
            Measure("psnr_fp16", decibels(evidence["error_fp16"].mean()), "dB", "up"),
            *(Measure("psnr_played", decibels(evidence[f"error_played_{c}"].mean()), "dB", "up", c) for c in ("h264", "h265")),
            Measure("ssim", float(evidence["ssim"].mean()), "", "up"),
            Measure("ssim_worst_frame", float(evidence["ssim"].min()), "", "up"),
        ]
        sums = {k.removeprefix("bytes_"): float(evidence[k].sum()) for k in self.columns if k.startswith("bytes_")}
        beside = sums["model"] + sums["map"] + sums["header"]
        totals = {"total": sums["video_h264"] + beside, "total_h265": sums["video_h265"] + beside}
        measures += [Measure("bytes", value, "B", "down", part) for part, value in (sums | totals).items()]
        shown = float((evidence["covers"].astype(np.float64) * evidence["pixels"]).sum())
        measures += [
            Measure("bits_per_pixel", 8 * totals[total] / shown, "bit", "down", part)
            for part, total in (("", "total"), ("h265", "total_h265"))
        ]
        for codec, total in (("h264", "total"), ("h265", "total_h265")):
            curve = reference.curve_of(read_case(spec).clip, int(evidence["pixels"][0]), codec)
            plain = curve.at(totals[total]) if curve else None
            if plain is not None:
                measures.append(Measure("psnr_plain_video", plain, "dB", "up", codec))
        return measures

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a clip: which frames are played, and how many each stands for."""
        case = read_case(spec)
        source = source_of(spec, case)
        numbers = np.arange(0, source.count, setting_of(spec, case, source).stride)
        covers = np.diff(np.append(numbers, source.count))
        columns = {"row": np.arange(len(numbers)), "frame": numbers, "covers": covers}
        return entry(self, spec, case.clip, columns)

    def workloads(self, problem: VideoProblem, solution: Stream) -> list[Workload]:
        """Playing some frames of the clip, patch cut, dispatch and paste included, by runtime.

        Other runtimes than eager torch are timed with seed 0 alone, since seeds change weights and not shapes, but in the speed
        division those that planned execution is judged by with every seed, since claims take seeds; on the smoke tier none is.
        """
        import torch

        from tasks.mobile_vsr import runtimes

        low = problem.frames[0]
        chosen = np.unique(np.linspace(0, len(low) - 1, PLAYED).round().astype(int)).tolist()

        def prepare(runtime: str) -> Callable[[], Any]:
            player = solution.player
            player.models.to(problem.device)
            frames = [(t, low[t].to(problem.device)) for t in chosen]
            program, threads = None, torch.get_num_threads()
            if runtime != "eager":
                program = runtimes.runtime_program(player, runtime, low.shape[2], low.shape[3], threads)

            def call() -> list[Any]:
                with runtimes.beside(runtime, threads):
                    return [player.play(t, x, program) for t, x in frames]

            return call

        return [
            Workload(f"play/{r}", lambda r=r: prepare(r), len(chosen), versus="" if r == "eager" else "play/eager")  # type: ignore[misc]
            for r in played_runtimes(problem.spec, runtimes.JUDGED if problem.spec.division == "speed" else ())
        ]

    def export(self, problem: VideoProblem, solution: Stream, folder: Path) -> None:
        """Write what a phone needs: both videos, networks as programs, maps, and a description of them."""
        from tasks.mobile_vsr import codec, export, runtimes

        routing = solution.player.routing
        maps = {} if routing.assign is None else {"chunk": routing.assign.astype(np.uint8)}
        maps |= {f"split{i}": flags.astype(np.uint8) for i, flags in enumerate(routing.splits)}
        videos = codec.low_streams(problem.source, problem.scale, problem.size)
        low = problem.frames[0]
        about = {
            "clip": problem.case.clip,
            "rate": problem.source.rate,
            "frames": problem.numbers.tolist(),
            "routing": routing.kind,
            "grid": [routing.rows, routing.columns],
            "networks": list(routing.networks),
        }
        export.write(
            folder,
            runtimes.branches_of(solution.player, low.shape[2], low.shape[3]),
            scale=problem.scale,
            maps=maps,
            files={f"video.{name}": v.stream for name, v in videos.items()},
            about=about,
        )

    def operations(self, problem: VideoProblem, solution: Stream) -> Operations:
        """Multiply-adds of a frame, the mean over the clip's frames, by network and layer."""
        import torch

        from suite.meters import operations

        player = solution.player
        height, width = (n // problem.scale for n in problem.size)
        sizes = player.sizes(height, width)
        layers: list[dict[str, Any]] = []
        warnings: list[str] = []
        for i, model in enumerate(player.models):
            lines: dict[str, dict[str, Any]] = {}
            for h, w in {k[1:] for k in sizes if k[0] == i} or {(height, width)}:
                count = operations.count(model, (torch.zeros(1, 3, h, w, device=next(model.parameters()).device),))
                warnings += [x for x in count.warnings if x not in warnings]
                often = sizes.get((i, h, w), 0) / player.frames
                for layer in count.layers:
                    line = lines.setdefault(layer["name"], {**layer, "name": f"network {i}: {layer['name']}", "macs": 0.0})
                    line["macs"] += layer["macs"] * often
            layers += lines.values()
        if not player.models:
            warnings.append("bicubic interpolation is not counted")
        return Operations(tuple(layers), tuple(warnings))

    def weigh(self, problem: VideoProblem, solution: Stream) -> list[Measure]:
        """Multiply-adds a frame, parameters on the player, and the player alone in a process, with one thread and with all.

        Beside eager torch every runtime plays so with seed 0, and with every seed those that planned execution is judged
        by (`runtimes.JUDGED`), since claims take seeds; on the smoke tier none.
        """
        import torch

        from tasks.mobile_vsr import phone, runtimes

        count = self.operations(problem, solution)
        measures = [Measure(n, count.total(n), "", "down", source="meter") for n in ("macs", "params", "nonzero")]
        if problem.device.type != "cpu" or problem.spec.division == "speed":
            return measures
        for runtime in played_runtimes(problem.spec, runtimes.JUDGED):
            with contextlib.suppress(Unsupported):  # the workloads of seed 0 tell why
                measures += phone.measure(solution, problem.frames[0], runtime, sorted({1, torch.get_num_threads()}))
        return measures


def played_videos(problem: VideoProblem) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Both encoded videos of the clip, and of each the decoded frames that are played, (3, h, w) uint8."""
    from tasks.mobile_vsr import codec

    videos = codec.low_streams(problem.source, problem.scale, problem.size)
    wanted = set(problem.numbers.tolist())
    decoded = {
        name: [np.ascontiguousarray(f.transpose(2, 0, 1)) for f in codec.decode(v.stream, name, wanted)]
        for name, v in videos.items()
    }
    return videos, decoded


def patch_errors(solution: Stream, t: int, sr: torch.Tensor, hr: torch.Tensor, grid: tuple[int, int]) -> tuple[float, int]:
    """Mean over the player's own patches of the error without scale + 4 pixels of border, and how many there are.

    Where whole frames are played the patches are the fine grid's.
    """
    import torch

    from tasks.mobile_vsr import quality
    from tasks.mobile_vsr.patches import cells, cut

    shave = solution.player.scale + 4
    found = solution.player.groups(t)
    if not found:
        errors = [quality.mse(cut(sr, *grid), cut(hr, *grid), shave)]
    else:
        errors = [quality.mse(*(cells(x[0], g.rows, g.columns)[g.row, g.column] for x in (sr, hr)), shave=shave) for g in found]
    every = torch.cat(errors)
    return float(every.mean()), len(every)


def _interval(error: np.ndarray) -> tuple[float, float]:
    """95 % interval of the PSNR of a mean over frames, by the delta method on the logarithm."""
    mean = max(float(error.mean()), LEAST_ERROR)
    if len(error) < 2:
        return decibels(mean), decibels(mean)
    half = Z95 * float(error.std(ddof=1)) / math.sqrt(len(error)) / mean * 10 / math.log(10)
    return decibels(mean) - half, decibels(mean) + half


# -- runtimes beside eager torch


def played_runtimes(spec: Spec, with_every_seed: Collection[str] = ()) -> list[str]:
    """Eager torch and what plays beside it: all runtimes with seed 0, the named ones with others, none on the smoke tier."""
    from tasks.mobile_vsr import runtimes

    asked = () if spec.tier == "smoke" else with_every_seed if spec.seed else runtimes.NAMES
    return ["eager", *(n for n in runtimes.NAMES if n in asked and n != "eager")]
