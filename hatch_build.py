"""What a wheel holds beside the packages: the site's sources, which a clone has at its root (suite/place.py finds either)."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "suite/board/sources"


class SiteSources(BuildHookInterface):
    """Puts them into a wheel; an editable install reads the clone's own."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"] |= {name: f"{INSIDE}/{name}" for name in ("mkdocs.yml", "site/docs", "CHANGELOG.md")}
