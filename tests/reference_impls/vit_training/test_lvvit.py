"""LV-ViT-S by its layer table (LV-ViT as released in `lvvit/tlt`), and the methods' parts on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.vit_blocks import Flow, TokenBlock, compose, connect, flow_of
from reference_impls.parts.vit_tickets import TicketSelector, ticket_size
from reference_impls.parts.vit_token_labels import box, token_label_loss, unmixed
from reference_impls.parts.vit_training import VitTrainer
from suite.meters import operations
from suite.naming import UserError
from suite.protocol import Spec
from tasks.images.recipes import AdamW
from tasks.images.sources import InMemory
from tasks.vit_training import lvvit
from tasks.vit_training.lvvit import LvVit
from tasks.vit_training.networks import build
from tasks.vit_training.patches import choose
from tasks.vit_training.problem import VitProblem
from tests.helpers import MemoryRun
from tests.tasks.images.helpers import pictures, timm


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers, fewer and narrower."""
    timm("timm")
    for name, value in (("WIDTH", 24), ("DEPTH", 4), ("HEADS", 2)):
        monkeypatch.setattr(lvvit, name, value)


def network(classes: int = 5, size: int = 64, block: type[nn.Module] | None = None) -> Any:
    torch.manual_seed(1)
    model = LvVit(classes, size, block=block)
    for norm in (model.patch_embed.bn1, model.patch_embed.bn2, model.patch_embed.bn3):
        nn.init.normal_(norm.bias, std=0.1)
    return model.eval()


def test_parameters_and_multiply_adds_are_those_of_the_layer_table() -> None:
    timm("timm")
    with torch.device("meta"):
        model, x = LvVit(1000, 224), torch.zeros(1, 3, 224, 224)
    c, hidden = 384, 3 * 384
    block = 3 * c * c + (c * c + c) + (c * hidden + hidden) + (hidden * c + c) + 4 * c  # no bias of queries, keys and values
    stem = 64 * 3 * 49 + 2 * 64 * 64 * 9 + 3 * 2 * 64 + (c * 64 * 64 + c)
    whole = 16 * block + stem + c + 197 * c + 2 * c + 2 * (1000 * c + 1000)
    assert sum(p.numel() for p in model.parameters()) == whole
    assert round(whole / 1e6, 2) == 26.15  # as published
    n = 197
    macs = 16 * (4 * n * c * c + 2 * n * n * c + 2 * n * c * hidden)
    macs += 112 * 112 * (64 * 3 * 49 + 2 * 64 * 64 * 9) + 196 * 64 * 64 * c + 1000 * c * 197
    counted = operations.count(model, (x,))
    assert counted.total("macs") == macs
    assert not counted.warnings


def test_names_and_settings_are_those_of_the_released_code(small: None) -> None:
    model = network()
    names = set(model.state_dict())
    expected = {f"patch_embed.{n}.weight" for n in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "proj")}
    parts = ("norm1.weight", "attn.qkv.weight", "attn.proj.bias", "norm2.bias", "mlp.fc1.weight", "mlp.fc2.bias")
    expected |= {f"blocks.3.{n}" for n in parts} | {"cls_token", "pos_embed", "norm.weight", "head.bias", "aux_head.weight"}
    assert expected <= names
    assert not [n for n in names if "qkv.bias" in n or ("conv" in n and "bias" in n)]
    assert {m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    assert [getattr(b.drop_path1, "drop_prob", 0) for b in model.blocks] == pytest.approx([0, 0.1 / 3, 0.2 / 3, 0.1])
    free = {id(p) for p in AdamW().optimizer(model).param_groups[1]["params"]}
    assert {id(model.cls_token), id(model.pos_embed), id(model.head.bias)} <= free
    assert id(model.head.weight) not in free
    with pytest.raises(UserError, match="16 pixels"):
        LvVit(5, 40)


def test_logits_are_a_plain_reading_of_the_layers(small: None) -> None:
    model = network()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x, stem = images, model.patch_embed
        for convolution, norm, (stride, padding) in (
            (stem.conv1, stem.bn1, (2, 3)),
            (stem.conv2, stem.bn2, (1, 1)),
            (stem.conv3, stem.bn3, (1, 1)),
        ):
            x = F.conv2d(x, convolution.weight, None, stride, padding)
            x = F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))
        x = F.conv2d(x, stem.proj.weight, stem.proj.bias, 8)
        assert x.shape[-2:] == (4, 4)
        x = torch.cat([model.cls_token.expand(3, -1, -1), x.flatten(2).transpose(1, 2)], 1) + model.pos_embed
        for b in model.blocks:
            h = F.layer_norm(x, (24,), b.norm1.weight, b.norm1.bias)
            q, k, v = (h @ b.attn.qkv.weight.T).view(3, 17, 3, 2, 12).permute(2, 0, 3, 1, 4)
            h = ((q @ k.transpose(-2, -1) / 12**0.5).softmax(-1) @ v).transpose(1, 2).reshape(3, 17, 24)
            x = x + F.linear(h, b.attn.proj.weight, b.attn.proj.bias) / 2
            h = F.layer_norm(x, (24,), b.norm2.weight, b.norm2.bias)
            h = F.gelu(F.linear(h, b.mlp.fc1.weight, b.mlp.fc1.bias))
            x = x + F.linear(h, b.mlp.fc2.weight, b.mlp.fc2.bias) / 2
        x = F.layer_norm(x, (24,), model.norm.weight, model.norm.bias)
        of_class = F.linear(x[:, 0], model.head.weight, model.head.bias)
        of_patches = F.linear(x[:, 1:], model.aux_head.weight, model.aux_head.bias)
        torch.testing.assert_close(model(images), of_class + 0.5 * of_patches.max(1).values, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(model.both(images), (of_class, of_patches), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_patches_can_be_chosen(small: None) -> None:
    model = network()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense = model(images)
        choose(model, torch.arange(16).flip(0).expand(2, -1))
        torch.testing.assert_close(model(images), dense)  # all of them, in another order
        choose(model, torch.arange(5).expand(2, -1))
        assert [t.shape for t in model.both(images)] == [(2, 5), (2, 5, 5)]
        assert not torch.allclose(model(images), dense)
        choose(model, None)
        assert torch.equal(model(images), dense)


def test_other_blocks_have_the_same_initial_weights_and_select_tickets(small: None) -> None:
    plain, pruning = network(), connect(network(block=TokenBlock), Flow(target=0.7, record=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), pruning.state_dict().values(), strict=True))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    flow = flow_of(pruning)
    with torch.no_grad():
        pruning(images)
        kept, flow.target = flow.kept, 1.0
        torch.testing.assert_close(pruning(images), plain(images))
    ticket = TicketSelector(pruning, 16, 0.7)(images)
    assert torch.equal(ticket, compose(kept))
    assert ticket_size(196, 0.85) == 121 == 11**2  # the one rate of the authors' scripts


def test_mix_token_mixes_patches_behind_the_stem_and_unmixing_gives_them_back(small: None) -> None:
    model = network()
    draw = torch.Generator().manual_seed(4)
    images = torch.randn(4, 3, 64, 64, generator=draw)
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[1:3, 0:3] = True
    seen: list[torch.Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        tokens = model.patch_embed(images)
        of_class, of_patches = model.both(images, inside.flatten())
        mixed = tokens.view(4, 4, 4, 24).clone()
        mixed[:, 1:3, 0:3] = tokens.view(4, 4, 4, 24).flip(0)[:, 1:3, 0:3]
        torch.testing.assert_close(seen[0][:, 1:], mixed.view(4, 16, 24) + model.pos_embed[:, 1:])
        both = unmixed(of_patches, inside.flatten())
    expected = of_patches.view(4, 4, 4, 5).clone()
    expected[:, 1:3, 0:3] = of_patches.view(4, 4, 4, 5).flip(0)[:, 1:3, 0:3]
    assert torch.equal(both, expected.view(4, 16, 5))
    assert of_class.shape == (4, 5)


def test_token_labels_teach_both_heads_on_a_ticket(small: None) -> None:
    model = network().train()
    draw = torch.Generator().manual_seed(0)
    images, index = (
        torch.randn(4, 3, 64, 64, generator=draw),
        torch.stack([torch.randperm(16, generator=draw)[:9] for _ in range(4)]),
    )
    target = torch.softmax(torch.randn(4, 5, 18, generator=draw), 1)
    inside = box(4, torch.Generator().manual_seed(1))
    assert 0 < inside.sum() < 16
    optimizer, losses = AdamW(lr=3e-3).optimizer(model), []
    for _ in range(12):
        choose(model, index)
        of_class, of_patches = model.both(images, inside)
        loss = token_label_loss(of_class, unmixed(of_patches, inside, index), target, index, inside=inside)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert model.head.weight.grad.abs().max() > 0
    assert model.aux_head.weight.grad.abs().max() > 0


@pytest.mark.slow
def test_it_is_a_network_of_the_task_and_trains_as_others_do(small: None) -> None:
    assert isinstance(build("lvvit-s", 3, (3, 32, 32)), LvVit)
    asked = Spec("vit_training", 1, "smoke", "closed", "colours/lvvit-s", "", 0)
    rest = ("lvvit-s", 4, 16, "fp32", torch.device("cpu"), AdamW(lr=1e-3, warmup=1))
    p = VitProblem(asked, MemoryRun(asked), InMemory(pictures(size=32)), *rest)
    assert p.shape is None
    with pytest.raises(UserError, match="no plain ViT"):
        _ = p.vit
    VitTrainer(p).fit("train", p.network())
    losses = [value for name, value in p.run.values if name == "train_loss"]
    assert losses[-1] < losses[0]
