"""A call that names several runs: which ones, in which order, and how a cluster gets them."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from suite import bundle, runner, sweep
from suite.naming import UserError
from tests.suite.conftest import CARD, settings

ASKED = {"tier": "small", "division": "closed"}


def test_every_method_has_its_first_seed_early_and_a_parent_one_row_for_all_targets() -> None:
    todo = sweep.orders("image_pruning", methods=["dense", "chex"], seeds=[0, 1], targets=["macs=0.5", "macs=.25"], **ASKED)
    named = [(o.method, o.spec.seed, o.spec.target) for o in todo]
    assert named == [
        ("dense", 0, ""), ("chex", 0, "macs=0.5"), ("chex", 0, "macs=0.25"),
        ("dense", 1, ""), ("chex", 1, "macs=0.5"), ("chex", 1, "macs=0.25"),
    ]  # fmt: skip


def test_settings_name_the_variant() -> None:
    (order,) = sweep.orders("image_pruning", methods=["chex"], seeds=[0], settings=["delta0=0", "score=css"], **ASKED)
    assert order.variant == "delta0=0.0"
    assert order.configuration["delta0"] == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tier": "huge"}, "there are: smoke, small, paper"),
        ({"division": "ajar"}, "closed"),
        ({"seeds": [-1]}, "whole number"),
    ],
)
def test_mistakes(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        sweep.orders("image_pruning", **{"methods": ["dense"], "seeds": [0], **ASKED, **changes})  # type: ignore[arg-type]


class Executor:
    """submitit's AutoExecutor, as far as it is used: jobs run when their result is asked for."""

    made: list[Executor] = []

    def __init__(self, folder: str, cluster: str) -> None:
        self.folder, self.cluster, self.parameters, self.batched = folder, cluster, {}, 0
        self.made.append(self)

    def update_parameters(self, **parameters: object) -> None:
        self.parameters = parameters

    def batch(self) -> Executor:
        return self

    def __enter__(self) -> None:
        self.batched += 1

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, function: object, *arguments: object) -> types.SimpleNamespace:
        return types.SimpleNamespace(job_id="1", result=lambda: function(*arguments))  # type: ignore[operator]


@pytest.mark.slow
def test_a_cluster_gets_one_job_a_run_and_a_job_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Executor.made.clear()
    monkeypatch.setitem(sys.modules, "submitit", types.SimpleNamespace(AutoExecutor=Executor))
    plan = tmp_path / "cluster.toml"
    plan.write_text('executor = "slurm"\nfolder = "logs"\n[parameters]\nslurm_partition = "gpu"\ntimeout_min = 60\n')
    todo = sweep.orders("image_pruning", methods=["dense"], seeds=[0, 1], tier="smoke", division="closed")
    jobs = sweep.submit(todo, settings(tmp_path, solve_only=True), plan)
    (executor,) = Executor.made
    assert (executor.cluster, executor.folder, executor.batched) == ("slurm", "logs", 1)
    assert executor.parameters == {"slurm_partition": "gpu", "timeout_min": 60}
    assert len(jobs) == 2
    status, _, path = jobs[0].result().partition(" ")
    assert status == "solved"
    assert (Path(path) / bundle.EVIDENCE).exists()
    assert Path(path).name == todo[0].key({"solve": CARD.hash, "weigh": CARD.hash})[:24]


def test_a_cluster_file_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", types.SimpleNamespace(AutoExecutor=Executor))
    (tmp_path / "bad.toml").write_text("executor = ")
    with pytest.raises(UserError, match=r"bad\.toml"):
        sweep.submit([], runner.Settings(tmp_path, tmp_path), tmp_path / "bad.toml")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="pip install"):
        sweep.submit([], runner.Settings(tmp_path, tmp_path), tmp_path / "bad.toml")
