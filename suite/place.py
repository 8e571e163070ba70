"""Where the project's own files lie: in a clone beside the packages, in an installed wheel within them."""

from __future__ import annotations

from pathlib import Path

from suite.registry import HOUSE

#: What the wheel brings of the clone's root; pyproject.toml puts it there, and no clone has it.
PACKAGED = HOUSE / "suite" / "board" / "sources"


def clone() -> Path | None:
    """The root of the clone that these packages are imported from; None where they were installed from a wheel.

    A wheel's environment may lie inside of a repository, which is then somebody else's.
    """
    return None if PACKAGED.is_dir() else HOUSE


def site_sources() -> Path:
    """The folder with the site's sources: ``mkdocs.yml`` and ``site/docs``."""
    return clone() or PACKAGED
