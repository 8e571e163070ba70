"""Two processes share each batch: what is counted, the checkpoint and the result are those of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from suite import bundle, parallel, registry, runner, sweep
from suite.forkserver import ForkServer
from suite.naming import UserError
from suite.order import SOLUTION
from suite.protocol import Spec
from suite.runner import read_json
from tests.helpers import method_file, problem, spec
from tests.suite.conftest import CARD, settings, silent


def test_shares_of_a_batch_are_disjoint_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem()
    whole = [x for x, _ in p.source.train(1, 2, 128)]
    halves = [[x for x, _ in p.source.train(1, 2, 128, mine=slice(r, None, 2))] for r in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(batch[0::2], first)
        assert torch.equal(batch[1::2], second)
    monkeypatch.setattr(parallel, "world", lambda: 3)
    with pytest.raises(UserError, match="cannot be shared by 3 processes"):
        parallel.share(128)


def test_one_process_is_as_it_was() -> None:
    model = problem().model()
    assert parallel.distribute(model) is model
    assert (parallel.rank(), parallel.world(), parallel.own_device("cuda")) == (0, 1, "cuda")


@pytest.mark.parametrize("task", ["graph_tickets", "mobile_vsr"])
def test_a_task_that_shares_no_batches_takes_one_process(task: str) -> None:
    case = registry.task(task).tiers["smoke"].cases[0]
    asked = Spec(task, registry.task(task).version, "smoke", "closed", case, "", 0)
    method = registry.task(task).parent_method
    with pytest.raises(UserError, match=f"^{task} does not share its batches: 2 processes would each train a copy"):
        runner.make_order(asked, method, [], processes=2)
    assert runner.make_order(asked, method, []).processes == 1
    with pytest.raises(UserError, match="does not share its batches"):
        sweep.orders(task, methods=[method], seeds=[0], tier="smoke", division="closed", processes=2)


def test_images_share_their_batches() -> None:
    assert runner.make_order(spec(), "chex", [], processes=2).processes == 2


def test_more_processes_than_cores_are_refused_before_any_starts() -> None:
    with pytest.raises(UserError, match="1000000 processes need as many cores"):
        parallel.launch(1_000_000, "cpu")


@pytest.mark.slow
def test_chex_in_two_processes(server: ForkServer, tmp_path: Path) -> None:
    def launch(arguments: list[str], log: Path) -> runner.Child:
        """The solve of two processes as it is: it starts its command anew.  What looks at what it found is forked."""
        return (runner.launch if arguments[0] == "solve" else server.launch)(arguments, log)

    order = runner.make_order(spec(), "chex", [], processes=2)
    outcome = runner.run(order, settings(tmp_path, launch=launch, solve_only=True), CARD, silent)
    assert outcome.status == "solved", (outcome.reason, (outcome.path / "log.txt").read_text()[-2000:])
    solved = read_json(outcome.path / "solve.json")
    assert solved["examples"] == problem().budget, "books count a batch once, not once a process"
    assert any(point["name"] == "val_top1" for point in solved["curve"])
    evidence = bundle.read_table(outcome.path / bundle.EVIDENCE)
    alone = runner.make_order(spec(), "chex", [])
    assert alone.key({}) != order.key({})
    other = runner.run(alone, settings(tmp_path, launch=server.launch, solve_only=True), CARD, silent)
    assert other.status == "solved", other.reason
    agree = (evidence["prediction"] == bundle.read_table(other.path / bundle.EVIDENCE)["prediction"]).mean()
    assert agree > 0.3, "same data, same decisions: only batch norms and rounding differ"


@pytest.mark.slow
def test_the_paper_tier_from_folders_in_two_processes(tmp_path: Path) -> None:
    """ImageNet's folder format, generated; from the loader to the solution by the path that a cluster takes."""
    from PIL import Image

    draw = np.random.Generator(np.random.Philox(3))
    for split, count in (("train", 6), ("val", 2)):
        for name in ("n01440764", "n01443537"):
            (tmp_path / "data" / "imagenet" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (240, 260, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / "imagenet" / split / name / f"{i}.JPEG")
    once = method_file(tmp_path, "return Network(Trainer(problem).fit('train', problem.model(), Sgd(), epochs=1))")
    task = registry.task("image_pruning")
    asked = Spec(task.name, task.version, "paper", "closed", "imagenet/resnet18", "macs=0.5", 0, "cpu", str(tmp_path / "data"))
    outcome = runner.run(runner.make_order(asked, once, [], processes=2), settings(tmp_path, solve_only=True), CARD, silent)
    assert outcome.status == "solved", (outcome.reason, (outcome.path / "log.txt").read_text()[-2000:])
    assert (outcome.path / SOLUTION).exists()
    assert len(bundle.read_table(outcome.path / bundle.EVIDENCE)["row"]) == 4
    assert read_json(outcome.path / "solve.json")["examples"] == 6


#: what SLURM tells a job of one task that was given several cores
ONE_TASK = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "weighin",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NNODES": "1",
    "SLURM_NODELIST": "node1",
    "SLURM_JOB_NODELIST": "node1",
    "SLURM_CPUS_PER_TASK": "2",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
}


@pytest.mark.slow
def test_two_processes_are_two_within_a_schedulers_job_of_one_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ONE_TASK.items():
        monkeypatch.setenv(name, value)
    body = "problem.run.progress(1, 1, world=float(__import__('suite.parallel').parallel.world()))\nreturn Network(problem.model())"
    order = runner.make_order(spec(), method_file(tmp_path, body), [], processes=2)
    outcome = runner.run(order, settings(tmp_path, solve_only=True), CARD, silent)
    assert outcome.status == "solved", (outcome.reason, (outcome.path / "log.txt").read_text()[-2000:])
    solved = read_json(outcome.path / "solve.json")
    assert solved["processes"] == 2
    assert [point["value"] for point in solved["curve"]] == [2.0]


def test_fewer_processes_than_were_ordered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_fabric

    class Alone:
        def __init__(self, **_: object) -> None: ...

        def launch(self) -> None: ...

    monkeypatch.setattr(lightning_fabric, "Fabric", Alone)
    monkeypatch.setattr("suite.processors.cores", lambda: 2)
    with pytest.raises(UserError, match="2 processes were ordered, and 1 came together"):
        parallel.launch(2, "cpu")
