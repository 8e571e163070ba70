"""Makes the shipped scenes from the origin's files: ``python -m tasks.flame_detection.make_data FOLDER [--out DIR]``.

FOLDER: `data` of github.com/mnmarinaccio/FLAME3_ThresholdingUtils, commit 2f7fed54ec5617ce2155c735c97964d663955712 (CC BY-NC 4.0,
Michael Marinaccio and Fatemeh Afghah), with `Images_Sycan` and `Images_Wilamette`, or with these named `Sycan` and `Wilamette`; and
that repository's LICENSE beside or in it.  What is read is checked by its SHA-256.

JPEGs lose their EXIF (positions, previews), the picture's own data stay as they are to the byte.  TIFFs keep their float32 values
and are deflated; they are the same to the bit wherever Pillow brings the same libtiff and zlib.  Of five frames of one scene
(Wilamette) the first one is taken.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from suite.naming import UserError
from tasks.flame_detection import reading, temperatures
from tasks.flame_detection.data import SCENES

SHA256 = {
    "Sycan/RGB/00006.JPG": "e7c4a6a092c7a9f13dea5c2dd8d0f22514866e56de12595de5442dae720343f2",
    "Sycan/RGB/00007.JPG": "86188abab4f423256c535f0643de7ef414322a84c5aa220d635a1b6d47e966ee",
    "Sycan/RGB/00008.JPG": "d7de0e2b0caa9a9f5290bac4f3772f3e76f172ff16ab79864fef554d3e058114",
    "Sycan/TIFF/00006.TIFF": "fdc4e1055495651c350fd94e7fa3ceecfccc4a33452ff6afa1b0ec0166755a60",
    "Sycan/TIFF/00007.TIFF": "e6ed0692e9aac034f9d013aae00be2ba663625aaf8adff10a65bb6bb0bc555c3",
    "Sycan/TIFF/00008.TIFF": "05f407af808b32db39d1ac4e3ec649be92549c1eb93381cfdbe031a38c602589",
    "Sycan/Thermal/00006.JPG": "e8f54b5831ffbcad6c3c2a81bc550efbe6f0587c23290786c4a004e34bb75d84",
    "Sycan/Thermal/00007.JPG": "74c6688bfe44a18ef974cb4464ef72117b7b1981f2bd00b372475980bce84fe6",
    "Sycan/Thermal/00008.JPG": "290a000d7805f73fe3b5750a30b6b2f6af795e1e64e1655d11e730787240540b",
    "Wilamette/RGB/00001.JPG": "883c0a39ebbeea1f37981375aa065278b57a2a42c31e22950d71f584c0df1dfd",
    "Wilamette/TIFF/00001.TIFF": "94fc968e2a51ecb9c350d2bed9f82afcf8471ac3c1eb048f723ec2c99cee8f16",
    "Wilamette/Thermal/00001.JPG": "1b68d1b13c4f82068256caa584c85491e460787b3766b6c9309985b5647012f7",
}
LICENSE = "LICENSE.cc-by-nc-4.0"
LICENSE_SHA256 = "41003d4a74749c0220e33dd415042164b5a1093ed401f36277234f772d22d3d0"


def main(arguments: Sequence[str] | None = None) -> None:
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=SCENES)
    options = parser.parse_args(arguments)
    for name, digest in SHA256.items():
        origin = _there(options.folder, name, f"Images_{name}")
        content = _checked(origin, digest)
        out = options.out / name
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".TIFF":
            Image.fromarray(temperatures.read(origin)).save(out, "TIFF", compression="tiff_adobe_deflate")
        else:
            out.write_bytes(reading.stripped(content))
    license_ = _there(options.folder, LICENSE, "LICENSE", "../LICENSE", f"../{LICENSE}")
    (options.out / LICENSE).write_bytes(_checked(license_, LICENSE_SHA256))


def _there(folder: Path, *names: str) -> Path:
    found = next((folder / n for n in names if (folder / n).is_file()), None)
    if found is None:
        raise UserError(f"no {folder / names[0]}: name the folder `data` of the repository")
    return found


def _checked(path: Path, digest: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: another version than the one that this project ships")
    return content


if __name__ == "__main__":
    main()
