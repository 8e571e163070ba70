"""Either builder is started on the same folder, and what cannot be built harms nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from suite.board import building
from suite.naming import UserError


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The least that both builders read."""
    docs = tmp_path / "sources" / "site" / "docs"
    docs.mkdir(parents=True)
    (docs / "index.md").write_text("# Here\n", encoding="utf-8")
    words = "site_name: here\ndocs_dir: site/docs\nsite_dir: build/site\ntheme: {name: material, font: false}\n"
    (tmp_path / "sources" / "mkdocs.yml").write_text(words, encoding="utf-8")
    return tmp_path / "sources"


def old_site(out: Path) -> Path:
    (out / "search").mkdir(parents=True)
    (out / ".git").mkdir()
    for name in ("index.html", "gone.html", "search/search_index.json", ".git/HEAD"):
        (out / name).write_text("old", encoding="utf-8")
    return out


@pytest.mark.slow
@pytest.mark.parametrize("builder", building.BUILDERS)
def test_a_new_site_takes_the_old_ones_place_and_leaves_the_sources_as_they_were(
    builder: str, sources: Path, tmp_path: Path
) -> None:
    if builder != "mkdocs":
        pytest.importorskip(builder, reason=f"{builder} is not installed: pip install 'weighin[{builder}]'")
    out = old_site(tmp_path / "out")
    building.check(out, builder, None)
    building.build(builder, sources, out)
    assert "Here" in (out / "index.html").read_text(encoding="utf-8")
    assert not (out / "gone.html").exists()
    assert (out / ".git" / "HEAD").read_text(encoding="utf-8") == "old"  # a checkout of published pages stays one
    assert sorted(p.relative_to(sources).as_posix() for p in sources.rglob("*") if p.is_file()) == [
        "mkdocs.yml",
        "site/docs/index.md",
    ]
    building.check(out, builder, None)  # what either made is a site


def test_an_old_site_stays_where_building_fails(sources: Path, tmp_path: Path) -> None:
    out = old_site(tmp_path / "out")
    (sources / "mkdocs.yml").write_text("site_name: here\ntheme: nowhere\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mkdocs could not build the site: .*nowhere"):
        building.build("mkdocs", sources, out)
    assert (out / "gone.html").is_file()


def test_what_cannot_be_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, full = tmp_path / "out", tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "zensical", None)
    for asked, said in {
        (out, "hugo", None): "no builder hugo; there are mkdocs and zensical",
        (out, "zensical", None): "--builder zensical needs the package zensical",
        (out, "mkdocs", full): "full is no empty folder",
        (full, "mkdocs", None): "full holds something else than a site",
        (full / "mine.txt", "mkdocs", None): "mine.txt is a file",
        (out, "mkdocs", out / "src"): "lie in each other",
        (out / "build" / "site", "mkdocs", out): "lie in each other",
    }.items():
        with pytest.raises(UserError, match=said):
            building.check(*asked)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]
