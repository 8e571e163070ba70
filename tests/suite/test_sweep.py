"""A call that names several runs: which ones, in which order, and how a cluster gets them."""

from __future__ import annotations

import contextlib
import signal
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite import bundle, registry, sweep
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

    def __init__(self, folder: str, cluster: str, **how: object) -> None:
        self.folder, self.cluster, self.how, self.parameters, self.batched = folder, cluster, how, {}, 0
        self.made.append(self)

    def update_parameters(self, **parameters: object) -> None:
        self.parameters = parameters

    def batch(self) -> Executor:
        return self

    def __enter__(self) -> None:
        self.batched += 1

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, function: Callable[[], str]) -> types.SimpleNamespace:
        given.append(function)
        return types.SimpleNamespace(job_id=f"{2**30 + len(given)}")  # no process has such an id


given: list[Callable[[], str]] = []


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    Executor.made.clear()
    given.clear()
    monkeypatch.setitem(sys.modules, "submitit", types.SimpleNamespace(AutoExecutor=Executor))


def written(folder: Path, text: str) -> Path:
    file = folder / "cluster.toml"
    file.write_text(text)
    return file


@pytest.mark.slow
def test_a_cluster_gets_one_job_a_run_and_a_job_is_a_run(tmp_path: Path, submitit: None) -> None:
    text = 'executor = "local"\nfolder = "logs"\nsolve_only = true\n[parameters]\nslurm_partition = "gpu"\ntimeout_min = 60\n'
    plan = sweep.read_plan(written(tmp_path, text))
    todo = sweep.orders("image_pruning", methods=["dense"], seeds=[0, 1], tier="smoke", division="closed")
    done = sweep.submit(todo, settings(tmp_path), plan)
    (executor,) = Executor.made
    assert (executor.cluster, executor.folder, executor.batched) == ("local", "logs", 1)
    assert executor.parameters == {"slurm_partition": "gpu", "timeout_min": 60}
    assert [bool(d.job) for d in done] == [True, True]
    with ignored_sigterm_undone():
        status, _, path = given[0]().partition(" ")
    assert status == "solved"
    assert (Path(path) / bundle.EVIDENCE).exists()
    assert Path(path).name == todo[0].key({"solve": CARD.hash, "weigh": CARD.hash})[:24]
    again = sweep.submit(todo, settings(tmp_path), plan)
    assert [d.before and d.before.state for d in again] == ["solved", "missing"]
    assert [bool(d.job) for d in again] == [False, True], "its job is no process any more, and left nothing"


@contextlib.contextmanager
def ignored_sigterm_undone() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("executor = ", r"cluster\.toml: .*write executor, folder and a table parameters"),
        ('executer = "slurm"', "no key 'executer'.*do you mean executor"),
        ('slurm_partition = "gpu"', r"no key 'slurm_partition'.*goes into the table \[parameters\]"),
        ("folder = 3", "folder = 3: write text"),
        ("restarts = true", "restarts = True: write a whole number"),
        ("restarts = -1", "from 0 on"),
        ('executor = "pbs"', 'write "slurm", or "local"'),
        ('executor = "slurm"', "write timeout_min"),
    ],
)
def test_a_cluster_file_that_is_none_is_told(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        sweep.read_plan(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_what_a_cluster_needs_and_is_not_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = sweep.read_plan(written(tmp_path, "[parameters]\ntimeout_min = 60\n"))
    monkeypatch.setitem(sys.modules, "submitit", types.SimpleNamespace(AutoExecutor=Executor))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs sbatch, which is not here"):
        sweep.submit([], settings(tmp_path), plan)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="pip install"):
        sweep.submit([], settings(tmp_path), plan)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("slurm_partitio = 'gpu'", "slurm_partitio.*do you mean slurm_partition"),
        ("timeout_minutes = 5", "timeout_minutes.*do you mean timeout_min"),
        ("mem_gb = '8'", "mem_gb.*expected type"),
    ],
)
def test_a_parameter_that_submitit_does_not_know_is_told_in_a_line(parameters: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    text = f'executor = "local"\nfolder = "{tmp_path}/logs"\n[parameters]\ntimeout_min = 5\n{parameters}\n'
    plan = sweep.read_plan(written(tmp_path, text))
    with pytest.raises(UserError, match=said) as caught:
        sweep.submit([], settings(tmp_path), plan)
    assert "\n" not in str(caught.value)


def test_the_cluster_file_that_the_documentation_shows_is_read_and_its_parameters_are_submitits(tmp_path: Path) -> None:
    shown = (registry.HOUSE / "site/docs/own-machine.md").read_text().partition("```toml\n")[2].partition("```")[0]
    plan = sweep.read_plan(written(tmp_path, shown))
    assert (plan.executor, plan.folder, plan.restarts, plan.solve_only) == ("slurm", "build/cluster", 3, True)
    known = pytest.importorskip("submitit").SlurmExecutor._valid_parameters()
    assert {name.removeprefix("slurm_") for name in plan.parameters if name.startswith("slurm_")} <= known
    assert {name for name in plan.parameters if not name.startswith("slurm_")} <= set(sweep.GENERIC)
