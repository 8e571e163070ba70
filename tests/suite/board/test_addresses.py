"""Where rankings stand: a page a case, the tier's own where there is one case, and the rungs of a long ladder apart."""

from __future__ import annotations

from suite.board import addresses
from suite.board.tables import Ranking


def ranking(target: str, case: str = "fashion/resnet20", division: str = "closed") -> Ranking:
    return Ranking("image_pruning", 1, "small", division, case, target)


def test_a_tier_of_one_case_has_one_page() -> None:
    found = addresses.pages([ranking("macs=0.5"), ranking("macs=0.25"), ranking("macs=0.5", division="open")])
    assert set(found.values()) == {"tasks/image_pruning-small"}


def test_each_of_several_cases_has_its_page() -> None:
    found = addresses.pages([ranking("macs=0.5"), ranking("macs=0.5", "clothing10/vgg")])
    assert list(found.values()) == ["tasks/image_pruning-small-fashion-resnet20", "tasks/image_pruning-small-clothing10-vgg"]


def test_of_many_rankings_those_between_the_named_targets_stand_apart() -> None:
    rungs = [ranking(f"macs=0.{i}") for i in range(30, 45)]
    found = addresses.pages([ranking("macs=0.5"), *rungs])
    assert found[ranking("macs=0.5")] == "tasks/image_pruning-small-fashion-resnet20"
    assert {found[r] for r in rungs} == {"tasks/image_pruning-small-fashion-resnet20-between"}
    assert set(addresses.pages(rungs).values()) == {"tasks/image_pruning-small"}  # between nothing


def test_cases_that_are_written_alike_have_pages_of_their_own() -> None:
    found = addresses.pages([ranking("macs=0.5", "a/b"), ranking("macs=0.5", "a-b"), ranking("macs=0.5", "c")])
    assert len(set(found.values())) == 3
    assert found[ranking("macs=0.5", "c")] == "tasks/image_pruning-small-c"
    twin = next(r for r in found if r.case == "a/b")
    assert addresses.twin(found[twin], "a/b") == found[twin].removeprefix("tasks/image_pruning-small-a-b")
    assert addresses.twin("tasks/image_pruning-small-c", "c") == ""


def test_the_rungs_of_one_case_never_share_a_page_with_another_case() -> None:
    rungs = [ranking(f"macs=0.{i}", "a") for i in range(30, 45)]
    found = addresses.pages([ranking("macs=0.5", "a"), *rungs, ranking("macs=0.5", "a-between")])
    assert found[rungs[0]] != found[ranking("macs=0.5", "a-between")]
