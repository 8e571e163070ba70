"""A small part of `make fuzz` in every run of the tests: each kind of dishonesty once or more."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.check import check
from tests.fuzz import campaign
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.submission import opened, written

EACH = 2


def test_the_bases_put_together_again_are_honest(tmp_path: Path) -> None:
    """What is refused is refused for its mutation, not for how it was put together."""
    for path in campaign.bases()[::8]:
        written(opened(path), tmp_path / "s")
        assert [f.line() for f in check([tmp_path / "s" / "results"]) if f.level == "error"] == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_dishonest_submission_is_refused(name: str, tmp_path: Path) -> None:
    at = list(MUTATIONS).index(name)
    found = [campaign.attempt(at + len(MUTATIONS) * (1000 + i), tmp_path / "s") for i in range(EACH)]
    assert {o.said for o in found} <= {"refused", "no number changed", "nothing to change"}, found
    assert any(o.said == "refused" for o in found), found
