"""Files and folders where none belong, links, pipes, names of other systems."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from suite import bundle
from tests.suite.checks.forger import (
    House,
    errors,
    honest,
    link_away,
    refused,
    results,
)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", [bundle.RUN, bundle.EVIDENCE, bundle.TIMING])
@pytest.mark.parametrize("spoil", [link_away, folder_instead, pipe_instead, Path.unlink])
def test_only_plain_files_stand_in_a_bundle(house: House, name: str, spoil: Callable[[Path], None]) -> None:
    with results() as root:
        path = honest(root)
        honest(root, seed=1)
        spoil(path / name)
        assert errors(house, path)
        assert any(str(path) in f.bundle for f in errors(house, root))


@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "RUN.JSON", "run.json ", "еvidence.parquet", "a\x1b[2Jb", "<b>", "\udcff", "c\nd"]
)
def test_unexpected_files_are_refused(house: House, name: str) -> None:
    with results() as root:
        path = honest(root)
        (path / name).write_bytes(b"")
        refused(house, path, "file")


def test_links_in_place_of_folders_are_refused(house: House) -> None:
    with results() as root:
        path = honest(root)
        link_away(path)
        refused(house, path, "folder")
        assert errors(house, root)
    with results() as root:
        path = honest(root)
        (root / "elsewhere").symlink_to(path.parent)
        assert [f.file for f in errors(house, root)] == ["elsewhere"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "run.json", "evidence.parquet/../x"])
def test_a_record_cannot_name_other_files(house: House, name: str) -> None:
    entry = {"sha256": "0" * 64, "bytes": 0, "rows": 1}
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(files={name: entry})), "files")


def test_a_path_that_is_no_bundle_is_said(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path / "nothing", tmp_path / "file", tmp_path):
        refused(house, path)


def test_the_folder_says_what_the_record_says(house: House) -> None:
    with results() as root:
        path = honest(root)
        alone = root.parent / path.name
        shutil.copytree(path, alone)
        shutil.copytree(root / "systems", alone.parent / "systems")
        assert errors(house, alone) == []
        for moved in (
            root / "dots/small/net_slim" / path.name,
            root / "dots/smoke/plain" / path.name,
            path.with_name(path.name[::-1]),
        ):
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.rename(moved)
            refused(house, moved, "folder")
            assert any(f.field == "folder" for f in errors(house, root))
            moved.rename(path)
        assert errors(house, root) == []


def test_strays_among_bundles_are_named(house: House) -> None:
    with results() as root:
        path = honest(root)
        honest(root, seed=1)
        (path.parent / "notes.html").write_text("<script>")
        (path.parent / ".part-0123456789abcdef-x").mkdir()  # work in progress
        assert [f.file for f in errors(house, root)] == ["notes.html"]
        (path / bundle.RUN).unlink()
        assert (str(path), bundle.RUN) in {(f.bundle, f.file) for f in errors(house, root)}
