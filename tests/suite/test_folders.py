"""Users' files: which count, in what order, by which names they are found, and that they are looked at once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from suite import folders
from suite.naming import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHIN_CACHE", str(tmp_path / "cache"))


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_files_are_counted_as_people_count_and_what_editors_leave_is_passed_over(tmp_path: Path) -> None:
    root = files(tmp_path / "clip", "f10.png", "f2.PNG", "f1.png", "._f1.png", ".cache/f3.png", "more/f0.png", "notes.txt")
    found = [p.relative_to(root).as_posix() for p in folders.visible(root, (".png",))]
    assert found == ["f1.png", "f2.PNG", "f10.png"]
    deep = [p.relative_to(root).as_posix() for p in folders.visible(root, (".png",), deep=True)]
    assert deep == ["f1.png", "f2.PNG", "f10.png", "more/f0.png"]
    assert folders.below(root) == ["more"]
    assert sorted(["a01", "a1", "a001", "10", "9"], key=folders.natural) == ["9", "10", "a001", "a01", "a1"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("IMG 0042 (1)", "IMG_0042_1"),
        ("Übung", "Ubung"),
        ("U\u0308bung", "Ubung"),
        ("v1.2-final+cut", "v1.2-final+cut"),
        (".hidden", "hidden"),
        ("плёнка", "file-"),
        ("long " * 40, "long_long_"),
    ],
)
def test_any_file_has_a_name_that_a_case_can_bear(name: str, slug: str) -> None:
    found = folders.slug(name)
    assert found == slug or (slug[-1] in "-_" and found.startswith(slug) and len(found) <= folders.LONGEST)
    assert folders.slug(found) == found


def test_a_file_is_found_by_its_name_or_by_what_stands_for_it(tmp_path: Path) -> None:
    root = files(
        tmp_path / "data", "IMG_0042.MP4", "IMG 7 (1).mov", "clip.mkv", "clip.mp4", "Fu\u0308r.mp4", "a b.mp4", "a_b/1.png"
    )
    endings = (".mp4", ".mov", ".mkv")

    def name_of(name: str) -> str | None:
        found = folders.named(root, name, endings)
        return found and found.name

    assert name_of("IMG_0042") == "IMG_0042.MP4"
    assert name_of("IMG_7_1") == "IMG 7 (1).mov"
    with pytest.raises(UserError, match=r"'clip' stands for several files: clip\.mkv, clip\.mp4; rename one of them"):
        name_of("clip")
    assert name_of("clip.mp4") == "clip.mp4"
    assert name_of("Fur") == "Fu\u0308r.mp4"
    assert name_of("IMG_7_1_.mov") == "IMG 7 (1).mov"
    assert name_of("clip.mkv") == "clip.mkv"
    assert name_of("img_0042") is None
    assert folders.named(root, "a_b", ("",)) == root / "a_b"
    files(root, "a  b.mp4")
    with pytest.raises(UserError, match=r"stands for several files: a  b\.mp4, a b\.mp4"):
        folders.named(root, "a_b", endings)
    assert folders.named(root, "a_b", ("", *endings)) == root / "a_b", "an exact name before others"
    assert folders.named(files(root, "My Video/1.png", "My_Video.mp4"), "My_Video", ("", *endings)) == root / "My_Video.mp4"
    files(root, "clip.MP4")
    with pytest.raises(UserError, match=r"stands for several files: clip\.MP4, clip\.mkv, clip\.mp4"):
        folders.named(root, "clip", endings)
    assert folders.like(root, "img_0042", endings) == "; there is IMG_0042"
    assert folders.like(root, "nothing of the kind", endings) == ""
    with pytest.raises(UserError, match="has the name of a set that is shipped"):
        folders.not_shadowed(str(root), "My_Video", endings)
    folders.not_shadowed("", "My_Video", endings)
    assert folders.named(tmp_path / "nowhere", "a", endings) is None


def test_what_was_seen_of_many_bytes_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = files(tmp_path / "set", *(f"{i}.bin" for i in range(5)))
    paths = folders.visible(root)
    seen: list[str] = []

    def looker(path: Path) -> str:
        seen.append(path.name)
        if path.read_bytes() == b"broken":
            raise ValueError("is\nbroken")
        return f"{path.stat().st_size} bytes"

    def look(kind: str = "test 1") -> list[folders.Look]:
        seen.clear()
        return folders.look(paths, looker, kind)

    first = look()
    assert look() == first
    assert len(seen) == 5, "few bytes are read again each time"
    monkeypatch.setattr(folders, "MUCH", 1)
    look()
    assert len(look()) == len(seen) == 5, "what was changed a moment ago may change again within the same moment"
    monkeypatch.setattr(folders, "SETTLED", -60)
    assert look() == first
    assert len(seen) == 5
    assert look() == first
    assert seen == []
    before = time.time() - 60
    assert len(look("test 2")) == len(seen) == 5, "another looker looks itself"
    status = paths[2].stat()
    paths[2].write_bytes(b"9.bin")
    os.utime(paths[2], ns=(status.st_atime_ns, status.st_mtime_ns))  # as an archive that is unpacked again may set it
    changed = look()
    assert seen == ["2.bin"]
    assert [a == b for a, b in zip(changed, first, strict=True)] == [True, True, False, True, True]
    assert folders.combined(paths, changed, root) != folders.combined(paths, first, root)
    paths[3].write_bytes(b"broken")
    os.utime(paths[3], (before, before))
    for _ in range(2):
        assert look()[3] == folders.Look("", problem="is broken")
        assert seen == ["3.bin"], "what is broken is looked at again"
    with pytest.raises(UserError, match=r"set: 3\.bin: is broken; get these files again"):
        folders.broken(paths, look(), root)


def test_a_file_that_is_gone_and_a_memory_that_is_none_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = files(tmp_path / "set", "a")
    with pytest.raises(UserError, match="No such file"):
        folders.look([root / "b"])
    monkeypatch.setattr(folders, "MUCH", 1)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "looks.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 40)
    with pytest.raises(UserError, match="delete it, make room, or set WEIGHIN_CACHE"):
        folders.look([root / "a"])


def test_a_folder_that_cannot_be_read_or_leads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = files(tmp_path / "set", "a/1.png", "b/2.png")
    (root / "a" / "back").symlink_to(root)
    assert [p.name for p in folders.visible(root, deep=True)] == ["1.png", "2.png"]
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"cannot read .*/set/b: Permission denied"):
        folders.visible(root, deep=True)


def test_few_bytes_need_no_memory_and_inodes_may_be_huge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [files(tmp_path / "set", "a") / "a"]
    (tmp_path / "cache").write_bytes(b"a file where a folder should be")
    assert folders.look(paths, lambda p: "seen", "test", dear=True)[0].facts == "seen"
    (tmp_path / "cache").unlink()
    monkeypatch.setattr(folders, "SETTLED", -60)
    status = paths[0].stat()
    huge = SimpleNamespace(**{n: getattr(status, n) for n in dir(status) if n.startswith("st_")} | {"st_ino": 2**64 - 3})
    monkeypatch.setattr(Path, "stat", lambda self, stat=Path.stat, **_: huge if self in paths else stat(self))
    for told in ("seen", "remembered"):
        assert folders.look(paths, lambda p, told=told: told, "test", dear=True)[0].facts == "seen"  # type: ignore[misc]


def test_looking_is_resumed_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MUCH", 1)
    monkeypatch.setattr(folders, "AT_ONCE", 2)
    monkeypatch.setattr(folders, "SETTLED", -60)
    paths = folders.visible(files(tmp_path / "set", *map(str, range(8))))
    stop, seen = True, set()

    def looker(path: Path) -> str:
        if stop and path.name == "5":
            raise KeyboardInterrupt
        seen.add(path.name)
        return ""

    with pytest.raises(KeyboardInterrupt):
        folders.look(paths, looker, "test")
    stop = False
    seen.clear()
    folders.look(paths, looker, "test")
    assert seen == set("4567")
