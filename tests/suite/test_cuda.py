"""What a GPU must get right: skipped, and said so, where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.parts.blocks import Block, BlockConv2d, mask_of
from suite import bundle, registry, runner, system
from suite.naming import UserError
from suite.order import Order
from suite.protocol import Spec
from tasks.image_pruning.task import Network
from tasks.images.channels import compact, mask_
from tests.helpers import MemoryRun, problem, spec
from tests.suite.conftest import settings, silent

pytestmark = [pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"), pytest.mark.usefixtures("prepared")]
#: a case of each family's smoke tier, and targets of which every method takes one
SMOKE = {
    "image_pruning": ("fashion/resnet20", ("macs=0.5", "nonzero=0.2")),
    "graph_tickets": ("cora/gcn", ("edges=0.5,weights=0.5", "edges=0.5", "weights=0.5", "edges=1")),
    "mobile_vsr": ("bigbuckbunny/x2", ("",)),
}


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double().cpu() - wanted.double().cpu()).norm() / wanted.double().norm())


@pytest.mark.parametrize(("task", "name"), [(t, m) for t in SMOKE for m in registry.methods(t) if m != "transfer"])
def test_every_method_solves_on_a_gpu_and_is_weighed_on_the_processor(tmp_path: Path, task: str, name: str) -> None:
    """The smoke tier of all methods; off its target a bundle is marked, not refused."""
    case, targets = SMOKE[task]
    card = system.card("cuda")
    refused = []
    for target in targets:
        asked = Spec(task, registry.task(task).version, "smoke", "closed", case, target, 0, "cuda", "")
        try:
            solved = runner.run(runner.make_order(asked, name, []), settings(tmp_path, solve_only=True), card, silent)
        except UserError as e:
            refused.append(str(e))
        else:
            break
    assert len(refused) < len(targets), refused
    assert solved.status == "solved", solved.reason
    assert Order.read(solved.path).spec.device == "cuda"
    if name != registry.task(task).parent_method:
        return
    outcome = runner.weigh(solved.path, settings(tmp_path), silent, "cpu")
    assert outcome.status == "ok", outcome.reason
    record = bundle.read(outcome.path)
    assert record.spec.device == "cpu"
    assert record.systems["solve"] == card.hash != record.systems["weigh"]


def test_the_compact_network_equals_the_masked_one() -> None:
    p = problem(device="cuda")
    model = p.model().eval()
    keep = {g.name: torch.arange(g.width, device="cuda") % 3 != 0 for g in p.groups(model)}
    small = compact(model, keep)
    mask_(model, keep)
    x = torch.randn(64, *p.input, device="cuda").to(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert relative(small(x), model(x)) < 1e-4


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_blocks_equal_the_masked_convolution(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 48, 3, padding=1).cuda().to(memory_format=torch.channels_last)
    blocks = [
        Block(torch.arange(0, 20), torch.arange(0, 90)),  # whole channels
        Block(torch.arange(20, 40), torch.randperm(288)[:100]),
    ]
    fast = BlockConv2d(conv, blocks).cuda().to(kind)
    mask = mask_of(blocks, conv.weight.shape).cuda()
    x = torch.randn(8, 32, 16, 16, device="cuda").to(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = nn.functional.conv2d(x, conv.weight * mask, conv.bias, padding=1)
        assert relative(fast(x.to(kind)), wanted) < (1e-5 if kind is torch.float32 else 2e-2)


def test_the_speed_division_computes_in_the_precision_that_it_names() -> None:
    asked = spec(tier="paper", division="speed", case="cifar10/vgg16", device="cuda")
    p = problem(MemoryRun(asked), tier="paper", division="speed", case="cifar10/vgg16", device="cuda")
    task = registry.task("image_pruning")
    model = p.model().eval()
    calls = {w.name: w.prepare() for w in task.workloads(p, Network(model))}
    assert len(calls) == 9
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, *p.input, generator=generator).double().cuda()
    with torch.inference_mode():
        wanted = model.double()(x)
    found = {n: relative(calls[f"infer@64{n}"](), wanted) for n in ("", "/tf32", "/bf16")}
    assert found[""] < 1e-5 < found["/tf32"] < found["/bf16"] < 0.1
    again = relative(calls["infer@64"](), wanted)  # the precision of one call does not leak into another
    assert np.isclose(again, found[""], rtol=0.5)
