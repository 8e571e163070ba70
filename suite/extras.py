"""Packages that only some methods, tasks or options need: which extra installs them, and one line where they are missing.

Import such a package by `need`, where it is used or, at the latest, before any training starts.  Extras stand in pyproject.toml.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from importlib import metadata
from typing import Any

from suite.naming import UserError

TOGETHER = ("all", "dev")  #: extras that gather others


def need(module: str, what: str) -> Any:
    """Import a module of a package that an extra installs.

    Args:
        module: its dotted name.
        what: what needs it, as the user knows it: the first words of the message.

    Raises:
        UserError: it cannot be imported; says why, and how to install it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as e:
        why = " ".join(str(e).split())
        raise UserError(f"{what} needs the package {package}, which cannot be imported ({why}); {install(package)}") from e


def install(package: str) -> str:
    """The command that installs a package of an extra, by its import name."""
    return f"pip install 'weighin[{extras().get(canonical(package), TOGETHER[0])}]'"


@cache
def extras() -> dict[str, str]:
    """Distributions that an extra names, and that extra, as the installed weighin says; empty where none is installed."""
    try:
        wanted = metadata.requires("weighin") or []
    except metadata.PackageNotFoundError:  # run from its folder alone
        return {}
    pairs = ((re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)) for line in wanted)
    return {canonical(name[0]): extra[1] for name, extra in pairs if name and extra and extra[1] not in TOGETHER}


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it; import names differ from it by an underscore at most."""
    return re.sub(r"[-_.]+", "-", name).lower()
