"""A player's files: whole or not there at all, held to their digests, and played as they were."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from suite.naming import UserError
from tasks.common import engines
from tasks.mobile_vsr import export, runtimes
from tasks.mobile_vsr.runtimes import Branch
from tests.tasks.mobile_vsr.small import COARSE, FINE, images, need, networks

#: of the engines' own code
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
SPLIT = np.array([[[0, 1], [1, 1]], [[0, 0], [1, 0]]], np.uint8)


def branches() -> list[Branch]:
    deep, shallow = networks()
    return [Branch(deep, FINE, (FINE,)), Branch(shallow, COARSE, (COARSE,))]


def write(folder: Path, **changes: object) -> object:
    fields = {"scale": 2, "maps": {"split": SPLIT}, "files": {"video.mp4": b"frames"}, "about": {"clip": "bars", "fps": 25}}
    return export.write(folder, branches(), **{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of file in it."""
    need("executorch", "onnx")
    folder = tmp_path_factory.mktemp("exported") / "player"
    write(folder)
    return folder


@pytest.fixture
def without_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of a few bytes: what is tested is the folder."""
    monkeypatch.setattr(runtimes, "executorch_file", lambda branches: b"program")
    monkeypatch.setattr(runtimes, "planned_bytes", lambda program: {"branch0": 64, "branch1": 128})
    monkeypatch.setattr(runtimes, "arena_bytes", lambda program: 128)
    monkeypatch.setattr(runtimes, "onnx_file", lambda branch: b"network")


@pytest.fixture
def folder(without_engines: None, tmp_path: Path) -> Path:
    write(tmp_path / "player")
    return tmp_path / "player"


def test_what_was_exported_plays_what_was_trained(whole: Path) -> None:
    found = export.read(whole)
    told = found.description
    assert told["missing"] == {}
    methods = engines.Methods((whole / told["executorch"]["file"]).read_bytes(), threads=1)
    for branch, entry in zip(branches(), told["branches"], strict=True):
        session = engines.Session((whole / entry["onnx"]).read_bytes(), threads=1)
        for shape in entry["shapes"]:
            x = images(tuple(shape))
            with torch.inference_mode():
                wanted = branch.model(x)
            assert (methods(entry["method"], x) - wanted).abs().max() <= 1e-4
            assert (session(x) - wanted).abs().max() <= 1e-4
            assert wanted.shape[2] == told["scale"] * shape[2]
    assert told["executorch"]["arena_bytes"] == max(told["executorch"]["planned_bytes"].values())
    np.testing.assert_array_equal(found.maps["split"], SPLIT)
    assert (whole / "video.mp4").read_bytes() == b"frames"
    assert told["about"] == {"clip": "bars", "fps": 25}


def test_maps_come_back_as_they_were(without_engines: None, tmp_path: Path) -> None:
    maps = {
        "chunk": np.arange(24, dtype=">u2").reshape(2, 3, 4).transpose(2, 0, 1),
        "empty": np.zeros((0, 4), np.uint8),
        "score": np.array([1.5, -np.inf], np.float32),
    }
    write(tmp_path / "player", maps=maps)
    found = export.read(tmp_path / "player").maps
    assert set(found) == set(maps)
    for name, values in maps.items():
        np.testing.assert_array_equal(found[name], values)
    assert (tmp_path / "player" / "chunk.bin").read_bytes()[:4] == b"\x00\x00\x04\x00", "little-endian, row by row"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "video.mp4").write_bytes(b"framez"), "video.mp4 is not the file"),
        (lambda f: (f / "player.pte").unlink(), r"does not hold .*player\.pte"),
        (lambda f: (f / "more").write_text("x"), "does not hold .*more"),
        (lambda f: ((f / "video.mp4").unlink(), (f / "video.mp4").symlink_to(f / "split.bin")), "video.mp4 is not the file"),
        (lambda f: (f / "player.json").unlink(), "no exported player"),
        (lambda f: (f / "player.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "player.json").write_text("[]"), "cannot be read"),
        (lambda f: rewrite(f, format=2), "format 2"),
        (lambda f: rewrite(f, maps={"split": {"file": "../x", "type": "uint8", "shape": [2]}}), "map 'split'"),
        (lambda f: rewrite(f, maps={"split": {"file": "split.bin", "type": "object", "shape": [8]}}), "map 'split'"),
        (lambda f: rewrite(f, maps={"split": {"file": "split.bin", "type": "uint8", "shape": [9]}}), "map 'split'"),
    ],
)
def test_a_folder_that_was_changed_is_refused(folder: Path, change: object, said: str) -> None:
    export.read(folder)
    change(folder)  # type: ignore[operator]
    with pytest.raises(UserError, match=said):
        export.read(folder)


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / export.DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_nothing_is_left_of_an_export_that_failed(without_engines: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device; make room"):
        write(tmp_path / "player")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(folder: Path) -> None:
    before = (folder / export.DESCRIPTION).read_bytes()
    with pytest.raises(UserError, match="there already"):
        write(folder)
    assert (folder / export.DESCRIPTION).read_bytes() == before
    shutil.rmtree(folder)
    folder.mkdir()
    write(folder)  # an empty one is taken
    export.read(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"maps": {"split": SPLIT.astype(np.int64)}}, "holds int64"),
        ({"maps": {"../split": SPLIT}}, "is no name"),
        ({"files": {"": b""}}, "is no name"),
        ({"files": {"player.json": b""}}, "is taken"),
        ({"files": {"split.bin": b""}}, "is taken"),
        ({"about": {"fps": float("nan")}}, "is no JSON"),
        ({"about": {"clip": Path("x")}}, "is no JSON"),
    ],
)
def test_what_cannot_be_written_is_named(without_engines: None, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        write(tmp_path / "player", **changes)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="a network at least"):
        export.write(tmp_path / "player", [], scale=2)


def test_an_engine_that_is_absent_is_named_and_the_rest_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    monkeypatch.setattr(runtimes, "onnx_file", lambda branch: b"network")
    write(tmp_path / "player")
    told = export.read(tmp_path / "player").description
    assert told["executorch"] is None
    assert "executorch" in told["missing"]["executorch"]
    assert [b["method"] for b in told["branches"]] == [None, None]
    monkeypatch.undo()
    for package in ("executorch.exir", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"no program can be written: .*executorch.*onnx"):
        write(tmp_path / "other")
