"""Small folders of classes that real users have: `make(KIND, DIR)` writes DIR/imagenet, whose every class is one colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

COLOURS = {"n01": (220, 30, 30), "n02": (30, 200, 30), "n03": (40, 40, 220)}  # red, green, blue


def picture(colour, seed, size=(72, 64)):
    noise = np.random.Generator(np.random.Philox(seed)).integers(-8, 9, (size[1], size[0], 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


def make(kind, root):
    for split, count in (("train", 8), ("val", 4)):
        for c, (name, colour) in enumerate(COLOURS.items()):
            if kind == "val_lacks_class" and split == "val" and name == "n01":
                continue
            folder = root / "imagenet" / split / ("n04" if kind == "val_other_class" and split == "val" and name == "n01" else name)
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                picture(colour, 100 * c + i + (1000 if split == "val" else 0)).save(folder / f"{i}.JPEG", quality=95)
    base = root / "imagenet"
    if kind.startswith("hidden_in_"):
        hidden = base / kind.removeprefix("hidden_in_") / ".ipynb_checkpoints"
        hidden.mkdir()
        picture(COLOURS["n01"], 7).save(hidden / "0-checkpoint.jpg")
    if kind.startswith("empty_class_"):
        (base / kind.removeprefix("empty_class_") / "n00").mkdir()
    if kind == "flat_val":
        for i, file in enumerate(sorted((base / "val").rglob("*.JPEG"))):
            file.rename(base / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
        for folder in (base / "val").iterdir():
            if folder.is_dir():
                folder.rmdir()
    if kind == "truncated":
        file = base / "val" / "n02" / "1.JPEG"
        file.write_bytes(file.read_bytes()[:-300])
    if kind == "cmyk":
        for file in sorted((base / "val" / "n02").glob("*.JPEG")):
            Image.open(file).convert("CMYK").save(file, quality=95)
    if kind == "alpha":
        image = picture(COLOURS["n02"], 3).convert("RGBA")
        image.putalpha(0)
        image.save(base / "val" / "n02" / "9.png")
    if kind == "dotfile":
        (base / "val" / "n02" / "._0.JPEG").write_bytes(b"\0\5\x16\7" + bytes(120))
    if kind == "grey16":
        ramp = np.linspace(0, 65535, 64 * 72).reshape(64, 72).astype(np.uint16)
        Image.fromarray(ramp).save(base / "val" / "n02" / "9.png")
