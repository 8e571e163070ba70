"""Transformers of timm go through the same problem, counter, recipe and workloads as every other network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference_impls.parts.training import Trainer
from suite.protocol import Spec
from tasks.images.augment import Deit
from tasks.images.problem import ClassificationProblem
from tasks.images.recipes import AdamW
from tasks.images.sources import InMemory
from tasks.images.workloads import Training, inference, training_steps
from tests.helpers import MemoryRun
from tests.tasks.images.helpers import pictures, timm

WIDTH, DEPTH, PATCHES = 24, 2, 16


class VitProblem(ClassificationProblem):
    """What a family of transformers has of its own: how a network is built."""

    def build(self, widths: object = None) -> nn.Module:
        network = timm("timm.models.vision_transformer").VisionTransformer
        return network(img_size=16, patch_size=4, embed_dim=WIDTH, depth=DEPTH, num_heads=2, num_classes=self.classes)  # type: ignore[no-any-return]


def colours() -> VitProblem:
    timm("timm")
    asked = Spec("none", 1, "smoke", "closed", "colours/vit", "", 0)
    recipe, device = AdamW(lr=2e-3, warmup=1, stepwise=True), torch.device("cpu")
    return VitProblem(asked, MemoryRun(asked), InMemory(pictures(), Deit()), "vit", 4, 16, "fp32", device, recipe)


@pytest.mark.slow
def test_a_transformer_is_counted_trained_and_timed() -> None:
    p, n = colours(), PATCHES + 1
    blocks = DEPTH * (12 * n * WIDTH**2 + 2 * n**2 * WIDTH)
    assert p.macs(p.model()) == blocks + PATCHES * 3 * 4 * 4 * WIDTH + WIDTH * p.classes
    model = Trainer(p).fit("train", p.model(), p.recipe, epochs=4)
    losses = [v for name, v in p.run.values if name == "train_loss"]  # type: ignore[attr-defined]
    assert losses[-1] < losses[0]
    free = {id(q) for q in p.recipe.optimizer(model).param_groups[1]["params"]}
    spared = {name for name, q in model.named_parameters() if id(q) in free}
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias"} < spared
    assert "head.weight" not in spared
    before = {k: v.clone() for k, v in model.state_dict().items()}
    training = Training(p.recipe, 4, 4 * p.steps_per_epoch, p.batch)
    steps = training_steps(model, training, (0, 0.5, 1), lambda: list(colours().batches(0)))
    for workload in [*steps, *inference(model, p.input, p.device, (1, 8))]:
        workload.prepare()()
    assert sum(w.count for w in steps) == 4 * p.steps_per_epoch == 16
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
