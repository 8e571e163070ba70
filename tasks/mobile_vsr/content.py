"""Which clip, cut how, trained for how long: a case's text, its setting, its frames, and the general model's content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from suite import folders
from suite.naming import UserError

if TYPE_CHECKING:
    import torch

    from suite.protocol import Spec
    from tasks.mobile_vsr.data import Source

GENERAL_SHARE = 480  #: patches of each source that the general model is trained on, fewer where it holds fewer
DIV2K_SHARE = 24  #: of each image of DIV2K
BACKBONES = {"smoke": "wdsr1_n8_w2", "small": "wdsr1_n8_w2", "paper": "wdsr16_n32"}


@dataclass(frozen=True)
class Setting:
    """How a clip is cut and how much training it gets."""

    rows: int  #: of the fine grid, `size_h` of STDO's code
    columns: int
    stride: int = 1  #: every so many frames are played, trained on and scored
    crop: tuple[int, int] | None = None  #: height and width, from the top left
    steps: int = 0  #: optimizer steps of batch 16; 0: `epochs` passes over the patches
    epochs: int = 50
    general_steps: int = 0  #: of the general model; 0: GENERAL_EPOCHS passes


#: grids suit Dy-DCA too, even numbers of rows and columns, but for the paper's own of x4, which has 5 rows
SETTINGS = {
    ("smoke", "bigbuckbunny", 2): Setting(4, 8, 33, (288, 512), steps=40, general_steps=40),
    ("smoke", "bigbuckbunny", 4): Setting(2, 4, 33, (288, 512), steps=20, general_steps=20),
    ("small", "bigbuckbunny", 2): Setting(10, 20, 10, steps=1200, general_steps=3000),
    ("small", "bigbuckbunny", 4): Setting(6, 10, 10, steps=800, general_steps=3000),
    ("small", "bottle", 2): Setting(6, 10, 50, steps=2400, general_steps=2000),
    ("small", "bottle", 4): Setting(2, 4, 50, (352, 640), steps=600, general_steps=2000),
    **{("paper", "", s): Setting(rows, columns) for s, rows, columns in ((2, 10, 20), (3, 6, 10), (4, 5, 10))},
}


@dataclass(frozen=True)
class Case:
    """A case's text, read: ``bottle/x2``, ``vlog_15/x4-espcn``, ``bottle/x2-per_model``."""

    clip: str
    scale: int
    backbone: str
    per_model: bool  #: every network of a Solution gets the steps that awdnn's one network gets


def read_case(spec: Spec) -> Case:
    """A Spec's case in parts; raises UserError on a text that is none."""
    clip, _, rest = spec.case.partition("/")
    first, *more = rest.split("-")
    per_model = more[-1:] == ["per_model"]
    backbone = more[: len(more) - per_model]
    scale = first.removeprefix("x")
    if (
        not clip
        or clip in (".", "..")
        or "/" in rest
        or scale not in ("2", "3", "4")
        or not first.startswith("x")
        or len(backbone) > 1
    ):
        raise UserError(f"case {spec.case!r}: write clip/x2, clip/x2-backbone or clip/x2-per_model; scales are x2, x3, x4")
    if backbone:
        from tasks.mobile_vsr.models import NAME

        if not NAME.fullmatch(backbone[0]):
            raise UserError(f"case {spec.case!r}: no backbone {backbone[0]!r}; for example wdsr16_n32, wdsr16_n16, espcn, edsr16")
    return Case(clip, int(scale), backbone[0] if backbone else BACKBONES[spec.tier], per_model)


def source_of(spec: Spec, case: Case) -> Source:
    """Where a case's frames are; in the speed division the papers' clips are imitated, since only the size of a frame counts."""
    from tasks.mobile_vsr import data

    if spec.division == "speed" and data.imitates(case.clip):
        return data.imitation(case.clip)
    return data.locate(case.clip, spec.data)


def setting_of(spec: Spec, case: Case, source: Source) -> Setting:
    """The setting of a case; that of another's clip is chosen by its size.  Raises UserError where the grid does not fit."""
    from tasks.mobile_vsr import data
    from tasks.mobile_vsr.patches import divides

    setting = SETTINGS.get((spec.tier, case.clip, case.scale))
    height, width = data.pixels(next(source.high())).shape[:2]
    if spec.tier == "paper" and case.clip not in data.EMBEDDED:
        setting = SETTINGS["paper", "", case.scale]
    elif case.clip in data.EMBEDDED and setting is None:
        raise UserError(f"{case.clip} has no x{case.scale} on the {spec.tier} tier; use --tier small with x2 or x4")
    if setting is None:
        setting = own_setting(source, height, width, case.scale, smoke=spec.tier == "smoke")
    height, width = setting.crop or (height, width)
    divides(height, width, setting.rows, setting.columns, case.scale)
    return setting


def own_setting(source: Source, height: int, width: int, scale: int, *, smoke: bool = False) -> Setting:
    """A clip of one's own: fine patches near 32x32, even numbers of them, the frame cropped to fit, about 24 frames."""
    rows, columns = (max(2, 2 * round(n / scale / 64)) for n in (height, width))
    crop = (height // (scale * rows) * scale * rows, width // (scale * columns) * scale * columns)
    least = 2 * (scale + 6) + 11  # what is left of a patch once its border is cut, and a window of SSIM
    if min(crop[0] // rows, crop[1] // columns) < least:
        raise UserError(f"{source.path}: frames of {width}x{height} are too small for x{scale}; {2 * least}x{2 * least} at least")
    stride = max(1, source.count // (4 if smoke else 24))
    if smoke:
        return Setting(rows, columns, stride, crop, steps=20, general_steps=20)
    return Setting(rows, columns, stride, crop, steps=1200 if scale == 2 else 800, general_steps=2000)


def read_frames(source: Source, setting: Setting, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every `stride`-th frame of a clip, low and high, uint8 (T, 3, h, w)."""
    import torch

    from tasks.mobile_vsr import data

    lows, highs = [], []
    for t, frame in enumerate(source.high()):
        if t % setting.stride:
            continue
        image = data.pixels(frame)
        image = data.crop(image, setting.crop or (highs[0] if highs else image).shape[:2], source.name)
        lows.append(data.low_resolution(source, t, image, scale))
        highs.append(image)
    if not highs:
        raise UserError(f"{source.path}: no frames; give a clip with at least one")
    low, high = (torch.from_numpy(np.stack(x).transpose(0, 3, 1, 2).copy()) for x in (lows, highs))
    return low, high


def general_content(spec: Spec, case: Case, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of other content, low (n, 3, height, width) and high, uint8: as many of every source, or all that it holds.

    DIV2K's images hold enough for equal shares.  On the small tier a photograph and its three mirrored copies hold fewer than
    GENERAL_SHARE, and at x4 of bigbuckbunny so does the other clip; the tier's text has the numbers.
    """
    import torch

    from tasks.mobile_vsr import data

    images: list[tuple[list[np.ndarray], int]] = []
    if spec.tier == "paper" and spec.division != "speed":  # there nothing is trained
        folder = data.Path(spec.data or ".") / "DIV2K_train_HR"
        files = folders.visible(folder, (".png",)) if folder.is_dir() else []
        if not files:
            raise UserError(
                f"no {folder}/0001.png ...: the general model needs DIV2K's 800 training images there, from"
                " data.vision.ee.ethz.ch/cvl/DIV2K (academic research only)"
            )
        images = [([data.photograph(f)], DIV2K_SHARE) for f in files]
    else:
        for name in data.EMBEDDED if spec.tier == "small" else ():  # to decode a clip takes longer than a smoke run's training
            if name == case.clip:
                continue
            source = data.locate(name, "")
            stride = max(1, source.count // 14)
            frames = [data.pixels(f) for t, f in enumerate(source.high()) if t % stride == 0]
            images.append((frames, GENERAL_SHARE))
        for path in data.PHOTOGRAPHS.values():
            photo = data.photograph(path)
            images.append(([photo, photo[:, ::-1], photo[::-1], photo[::-1, ::-1]], GENERAL_SHARE))
    pairs = [shares(frames, height, width, case.scale, count) for frames, count in images]
    low, high = (torch.cat(x) for x in zip(*pairs, strict=True))
    return low, high


def shares(images: Sequence[np.ndarray], height: int, width: int, scale: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """At most `count` patches of some images, evenly spread over all that there are."""
    import torch

    from tasks.mobile_vsr import data
    from tasks.mobile_vsr.patches import paired

    lows, highs = [], []
    for image in images:
        rows, columns = image.shape[0] // (scale * height), image.shape[1] // (scale * width)
        if not rows or not columns:
            continue
        part = np.ascontiguousarray(image[: rows * scale * height, : columns * scale * width])
        small = data.bicubic(part, rows * height, columns * width)
        x, y = (torch.from_numpy(i.transpose(2, 0, 1).copy())[None] for i in (small, part))
        x, y = paired(x, y, rows, columns, scale)
        lows.append(x)
        highs.append(y)
    if not lows:
        raise UserError(f"the general model's images hold no patch of {scale * width}x{scale * height}; use a finer grid")
    low, high = torch.cat(lows), torch.cat(highs)
    chosen = torch.linspace(0, len(low) - 1, min(count, len(low))).round().long()
    return low[chosen], high[chosen]
