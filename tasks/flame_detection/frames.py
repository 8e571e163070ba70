"""One thermal frame end to end: decoded, scaled, cut into patches, answered, drawn as a map.

A call takes the file as a camera delivers it, and all its patches go through the network in one batch.  The patches of a frame of
the test are put together again and written as a colour JPEG, as thermal cameras do with what they map to colours; rules that read
temperatures get a TIFF of floats.  Synthetic frames are a dozen patches: as many as fill 640x512 are laid side by side.

Runtimes beside eager torch (`tasks.common.engines`) are given programs of the one shape that a frame has.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from suite.protocol import Unsupported
from tasks.common import engines
from tasks.common.engines import Shape
from tasks.flame_detection import patches as cutting
from tasks.flame_detection.problem import FULL, Detector, Patches, PatchSet, columns
from tasks.flame_detection.recipes import split

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT, WIDTH = 512, 640  #: of a thermal camera's frame
QUALITY = 90  #: of the JPEG
LAID = ("synthetic",)  #: sets whose frames are no pictures of their own
#: runtimes beside eager torch: the package that plays, and what it is called
RUNTIMES = {
    "onnx": ("onnxruntime", "ONNX Runtime"),
    "openvino": ("openvino", "OpenVINO"),
    "executorch": ("executorch.runtime", "ExecuTorch"),
    "onnx_int8": ("onnxruntime", "ONNX Runtime"),
}
LOSS = 1.0  #: points of balanced accuracy that int8 may cost
CALIBRATION = 8  #: batches that int8 is calibrated on
WARM, TIMED, SECONDS = 50, 300, 20.0  #: frames before and while the clock runs, and how long it may take

Program = Callable[[torch.Tensor], torch.Tensor]  #: patches (n, C, P, P) to answers (n, 1 or 2), positive: flame


@dataclass(frozen=True)
class Frame:
    """A frame as it is delivered."""

    thermal: bytes  #: JPEG, or TIFF of float32 degrees
    rgb: bytes | None  #: JPEG; None: the detector reads none
    patch: int  #: side of the patches
    degrees: bool = False  #: whether `thermal` is a TIFF
    absolute: bool = False  #: whether the detector sees its degrees divided by 600


@dataclass(frozen=True)
class Seen:
    """What a frame is found to show."""

    fire: bool  #: whether any patch is flame
    flame: torch.Tensor  #: (n,) bool
    map: torch.Tensor  #: (H, W) float32, how sure the head is of flame, 0 to 1, on the pixels that patches cover


class Deployed(nn.Module):
    """A detector as it is deployed: patches (n, 1 or 4, P, P) to (n, 1) logits, and with centres to (n, 2).

    The second column is how much nearer the centre of flame is, by squares: positive is flame as well.  Where the head reads what
    is embedded, both are of one pass.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.model = detector.model
        self.centred = detector.centres is not None
        self.reads = isinstance(getattr(self.model, "head", None), nn.Linear)
        if detector.centres is not None:
            none, flame = detector.centres.detach().float()
            # |z - c0|^2 - |z - c1|^2 is linear in z
            self.margin = nn.Linear(len(none), 1)
            with torch.no_grad():
                self.margin.weight.copy_(2 * (flame - none)[None])
                self.margin.bias.copy_(none.square().sum()[None] - flame.square().sum()[None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = split(x)
        if not self.centred:
            logits: torch.Tensor = self.model(*given)
            return logits[:, None]
        z = self.model.embed(*given)
        logit = self.model.head(z) if self.reads else self.model(*given)[:, None]
        return torch.cat([logit, self.margin(z)], 1)


def frame_of(patches: PatchSet, model: nn.Module) -> Frame:
    """A frame of the test as it is delivered to this detector; of the speed division, which has no patches, noise.

    Raises Unsupported where the detector reads what the set does not have.
    """
    test, (down, across) = _rows(patches)
    absolute = bool(getattr(model, "absolute", False))
    degrees = absolute or bool(getattr(model, "degrees", False))
    if degrees and test.degrees is None:
        raise Unsupported("no temperatures are known of this set, and this detector reads them")
    if model.colour and test.rgb is None:
        raise Unsupported("this set has no RGB pictures, and this detector reads them")
    thermal = _picture(test.degrees if degrees and test.degrees is not None else test.thermal, down, across)
    colour = _picture(test.rgb, down, across) if model.colour and test.rgb is not None else None
    first = _tiff(thermal[..., 0]) if degrees else _jpeg(_whole(thermal.repeat(3, 2)))
    return Frame(first, None if colour is None else _jpeg(colour), patches.patch, degrees, absolute)


def layout(patches: PatchSet) -> tuple[int, int]:
    """Patches of a timed frame, down and across."""
    laid = patches.name in LAID or not all(patches.grid)
    return (HEIGHT // patches.patch, WIDTH // patches.patch) if laid else patches.grid


def batch_of(frame: Frame) -> torch.Tensor:
    """Decoded, scaled, cut: (n, 1 or 4, P, P) float32."""
    picture = decoded(frame.thermal, "" if frame.degrees else "L")
    thermal = (torch.from_numpy(picture) if frame.degrees else scaled(picture))[None, None]
    if frame.absolute:
        thermal = thermal / FULL
    if frame.rgb is None:
        return cutting.cut(thermal, frame.patch)
    colour = torch.from_numpy(decoded(frame.rgb, "RGB")).permute(2, 0, 1)[None].float() / 255
    return cutting.cut(torch.cat([thermal, colour], 1), frame.patch)


def decoded(file: bytes, mode: str = "L") -> np.ndarray:
    """The pixels of a picture, (H, W) or (H, W, 3); of no mode as they are stored."""
    from PIL import Image

    with Image.open(io.BytesIO(file)) as picture:
        if mode == "L":
            picture.draft("L", None)  # the stored brightness plane, as sets are read
        return np.array(picture.convert(mode) if mode else picture)


def scaled(picture: np.ndarray) -> torch.Tensor:
    """Grey levels (H, W) uint8 by their least and largest to 0..1: to the bit what `patches.scale` gives, three times as fast."""
    low, high = int(picture.min()), int(picture.max())
    return torch.from_numpy(picture).float().sub_(low).div_(max(high - low, 1))


def see(frame: Frame, program: Program, grid: tuple[int, int]) -> Seen:
    """One frame end to end."""
    answers = program(batch_of(frame))
    flame = answers[:, -1] > 0  # whether smoke hides a patch no camera tells: where there are centres they answer
    return Seen(bool(flame.any()), flame, spread(answers[:, 0].sigmoid().view(grid), frame.patch))


def spread(values: torch.Tensor, side: int) -> torch.Tensor:
    """A value a patch (down, across) on all of its pixels, (down * side, across * side)."""
    down, across = values.shape
    return values[:, None, :, None].expand(-1, side, -1, side).reshape(down * side, across * side)


def eager(detector: Detector, frame: Frame, device: torch.device) -> Program:
    """The detector in PyTorch, batch norms folded, on its device; answers come back to the processor."""
    from tasks.images.workloads import fold_batch_norms

    x = batch_of(frame).to(device)
    network = Deployed(detector).to(device).eval()
    plain = network if is_rule(detector) else fold_batch_norms(network, x)

    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            answers: torch.Tensor = plain(x.to(device))
        return answers.cpu()

    return program


def is_rule(detector: Detector) -> bool:
    """Whether a detector is a rule: nothing of it is a layer that could be folded, or that a runtime could take."""
    return bool(getattr(detector.model, "whole_frames", False)) or not any(True for _ in detector.model.parameters())


# -- runtimes


def load(name: str, detector: Detector, frame: Frame, calibration: Patches, threads: int) -> Program:
    """The detector in a runtime, for frames of this size.

    Args:
        calibration: what int8 is calibrated on, and judged by: never test patches.

    Raises Unsupported with the reason: a package is absent, the runtime cannot take this network, int8 costs too much.
    """
    if is_rule(detector):
        raise Unsupported("a rule has no network to deploy")
    from tasks.images.workloads import fold_batch_norms

    engines.package(*RUNTIMES[name])  # before anything is prepared: says what to install
    x = batch_of(frame)
    network = fold_batch_norms(Deployed(detector).cpu().eval(), x)
    shape: Shape = tuple(x.shape)  # type: ignore[assignment]
    if name == "executorch":
        with engines.refusals("ExecuTorch"):
            exported = engines.export(engines.deployed(network), [shape], symbolic=False)
        methods = engines.Methods(engines.lower({"forward": exported}), threads)
        return lambda batch: methods("forward", batch.contiguous())
    file = onnx_file(network, shape)
    if name == "openvino":
        return engines.openvino(file, threads)
    if name == "onnx":
        return engines.Session(file, threads)
    return _int8(file, network, shape, calibration, frame.absolute, threads)


def onnx_file(network: nn.Module, shape: Shape) -> bytes:
    """A network as an ONNX file of one shape, in fp32; raises Unsupported where it cannot be written."""
    with engines.refusals("ONNX"):
        exported = engines.export(engines.deployed(network), [shape], symbolic=False)
    return engines.onnx_bytes(exported, [engines.PATCH])


def _int8(file: bytes, network: nn.Module, shape: Shape, calibration: Patches, absolute: bool, threads: int) -> Program:
    """By ONNX Runtime's static quantisation, of weights and activations; refused where it costs more than a point."""
    batches, label = whole_batches(calibration, shape, absolute)
    if not batches:
        raise Unsupported("int8 needs patches to be calibrated on, and the speed division has none")
    session = engines.Session(quantised(file, [x.numpy() for x in batches[:CALIBRATION]]), threads)
    with torch.inference_mode():
        plain, small = (torch.cat([call(x) for x in batches]).numpy()[:, -1] > 0 for call in (network, session))
    lost = 100 * (_balanced(plain, label) - _balanced(small, label))
    if lost > LOSS:
        raise Unsupported(f"int8 costs {lost:.1f} points of balanced accuracy where {LOSS:g} may be lost (patches of no test)")
    return session


def quantised(file: bytes, batches: Sequence[NDArray[np.float32]]) -> bytes:
    """An ONNX file in int8: weights by channel, activations by the range that these batches have."""
    quantisation = engines.package("onnxruntime.quantization", "int8")
    left = iter(batches)

    class Reader(quantisation.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            x = next(left, None)
            return None if x is None else {engines.PATCH: x}

    with engines.refusals("ONNX Runtime's quantisation"), tempfile.TemporaryDirectory(prefix="weighin-int8-") as scratch:
        whole, small = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        whole.write_bytes(file)
        quantisation.quantize_static(whole, small, Reader(), per_channel=True)
        return small.read_bytes()


def whole_batches(patches: Patches, shape: Shape, absolute: bool = False) -> tuple[list[torch.Tensor], np.ndarray]:
    """Batches of that very shape, as a program takes no other, and the labels of all of them; few patches are repeated.

    Args:
        absolute: whether the detector sees degrees.
    """
    if not len(patches):
        return [], np.zeros(0, bool)
    rows = torch.arange(max(shape[0], len(patches) // shape[0] * shape[0])) % len(patches)
    x = [torch.cat(columns(patches, r, colour=shape[1] > 1, absolute=absolute), 1) for r in rows.split(shape[0])]
    return x, patches.label[rows].numpy() == 1


def _balanced(answer: np.ndarray, true: np.ndarray) -> float:
    """Mean over the classes that occur of the share that is answered rightly."""
    return float(np.mean([(answer == true)[true == k].mean() for k in np.unique(true)]))


# -- latency


def latencies(call: Callable[[], Any], seconds: float = SECONDS) -> np.ndarray:
    """Seconds of single calls, after those that warm up: 50 and 300, fewer where that would take too long, three at least."""

    def spent(most: int, limit: float, least: int) -> list[float]:
        found: list[float] = []
        began = time.perf_counter()
        while len(found) < most and (len(found) < least or time.perf_counter() - began < limit):
            at = time.perf_counter()
            call()
            found.append(time.perf_counter() - at)
        return found

    spent(WARM, seconds / 6, 1)
    return np.array(spent(TIMED, seconds, 3))


# -- pictures


def _rows(patches: PatchSet) -> tuple[Patches, tuple[int, int]]:
    """The patches that a timed frame is put together from, in raster order, and how they lie."""
    grid = layout(patches)
    count = grid[0] * grid[1]
    test = patches.folds[0].test
    if not len(test):
        return _noise(count, patches.patch), grid
    return test.take(torch.arange(count) % len(test)), grid


def _noise(count: int, patch: int) -> Patches:
    """Patches that nobody took."""
    generator = torch.Generator().manual_seed(0)
    thermal = torch.rand(count, 1, patch, patch, generator=generator)
    rgb = torch.randint(256, (count, 3, patch, patch), generator=generator, dtype=torch.uint8)
    none = torch.zeros(count, dtype=torch.int64)
    flags, celsius = none > 0, 100 * thermal.amax((1, 2, 3))
    return Patches(thermal, rgb, none, none, none, flags, celsius, none, none, flags, none - 1, 100 * thermal)


def _picture(x: torch.Tensor, down: int, across: int) -> np.ndarray:
    """Patches (down * across, C, P, P) in raster order as one picture (H, W, C)."""
    return cutting.pasted(x, down, across)[0].permute(1, 2, 0).contiguous().numpy()


def _whole(picture: np.ndarray) -> np.ndarray:
    """In 8 bits, 0..1 to 0..255."""
    return (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)


def _jpeg(picture: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _tiff(degrees: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(degrees.astype(np.float32))).save(out, "TIFF")
    return out.getvalue()
