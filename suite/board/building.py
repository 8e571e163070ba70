"""From the sources of the site to its pages: by MkDocs or by Zensical, which read the same ``mkdocs.yml``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from suite import extras, place
from suite.naming import UserError

#: by name, the words after ``python -m`` that build quietly
BUILDERS: Mapping[str, tuple[str, ...]] = {
    "mkdocs": ("mkdocs", "build", "--quiet", "--clean"),
    "zensical": ("zensical", "build", "--clean"),
}
INDEXES = ("search/search_index.json", "search.json")  #: the search of a site, by either


def check(out: Path, builder: str, sources: Path | None) -> None:
    """Raises UserError where a site cannot go to `out`, the builder is missing, or `sources` would mix with other files."""
    if builder not in BUILDERS:
        raise UserError(f"no builder {builder}; there are {' and '.join(BUILDERS)}")
    if builder != "mkdocs":
        extras.need(builder, f"--builder {builder}")
    if sources is not None and sources.exists() and (not sources.is_dir() or any(sources.iterdir())):
        raise UserError(f"{sources} is no empty folder; name a new one for the sources")
    if sources is not None and (out.resolve().is_relative_to(sources.resolve()) or sources.resolve().is_relative_to(out.resolve())):
        raise UserError(f"{sources} and {out} lie in each other; name another folder for the sources")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the site")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in INDEXES):
        raise UserError(f"{out} holds something else than a site, which building would delete; name a new folder")
    for folder in filter(None, (out, sources)):
        place.check_writable(folder)


def build(builder: str, sources: Path, out: Path) -> None:
    """Build a folder of sources and put the pages in place of those in `out`.

    They are built within `sources` (Zensical builds nowhere else), so that an old site stays where building fails.

    Args:
        builder: of `BUILDERS`.
        sources: with ``mkdocs.yml`` and ``site/docs``; holds nothing else afterwards.
        out: a folder that `check` has passed; what begins with a dot stays there, such as the ``.git`` of published pages.

    Raises:
        UserError: the builder failed, and its own words.
    """
    done = subprocess.run(
        [sys.executable, "-m", *BUILDERS[builder], "--config-file", str(sources / "mkdocs.yml")],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    if done.returncode:
        raise UserError(f"{builder} could not build the site: {(done.stderr or done.stdout).strip()[-600:]}")
    for old in out.glob("[!.]*"):
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    shutil.copytree(sources / "build" / "site", out, dirs_exist_ok=True)
    for made in (sources / "build", sources / ".cache"):
        if made.is_dir():
            shutil.rmtree(made)
