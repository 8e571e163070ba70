"""Settings of methods, read from their sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from suite import registry
from suite.fields import Setting, settings

OWN = '''"""Somebody's own.

Departs: a stand-in (chex.md 2.3).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.mobile_vsr.nas_anytime import BLOCKS
from reference_impls.mobile_vsr.stdo import Stdo

Kind = Literal["a", "b"]


@dataclass(frozen=True)
class Base(Stdo):
    kind: Kind = "a"  #: as a name
    bare: float

    def solve(self, problem):
        return None


@dataclass(frozen=True)
class _Hidden(Base):
    hidden: int = 1


@dataclass(frozen=True)
class Mine(Base):
    fixed: ClassVar[int] = 3
    #: of two lines,
    #: above (chex.md 2.3)
    blocks: int = BLOCKS
    chunks: int = 7  #: declared again
    pair: tuple[float, ...] = ()  # not a meaning


__all__ = ["Mine"]
'''


@pytest.fixture
def own(tmp_path: Path) -> registry.MethodRef:
    (tmp_path / "mine.py").write_text(OWN)
    return registry.method("mobile_vsr", str(tmp_path / "mine.py"))


def test_fields_of_bases_come_first_and_names_are_followed(own: registry.MethodRef) -> None:
    assert settings(own) == (
        Setting("chunks", "int", "7", "declared again"),
        Setting("kind", "a, b", "a", "as a name"),
        Setting("bare", "float", "", ""),
        Setting("blocks", "int", "8", "of two lines, above"),
        Setting("pair", "tuple[float, ...]", "()", ""),
    )


def test_references_to_sheets_are_not_shown(own: registry.MethodRef) -> None:
    assert own.departs == "a stand-in."


def test_a_file_without_a_method_has_no_settings(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text('"""Nothing."""\n')
    assert settings(registry.method("image_pruning", str(tmp_path / "empty.py"))) == ()


@pytest.mark.parametrize("task", list(registry.tasks()))
def test_reference_methods_have_the_settings_of_their_dataclass_and_say_what_they_mean(task: str) -> None:
    for ref in registry.methods(task).values():
        found = settings(ref)
        assert [s.name for s in found] == [f.name for f in dataclasses.fields(registry.load(ref))]  # type: ignore[arg-type]
        assert all(s.meaning and s.default for s in found), ref.name
        # what is shown as default is what `--set` takes for it
        defaults = registry.configure(registry.load(ref), [f"{s.name}={s.default}" for s in found if _plain(s)])
        assert defaults == registry.load(ref)()


def _plain(setting: Setting) -> bool:
    """Whether the default is a number, a word or None: expressions and tuples are shown as they are written."""
    return not set(setting.default) & set("()/")
