"""Networks of flame detection: FlameFinder's as the sheet has it, the others as their authors', and what small patches change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from suite.compat import import_torchvision
from suite.naming import UserError, address
from tasks.flame_detection import backbones
from tasks.flame_detection.backbones import Backbone, build
from tasks.flame_detection.networks import METRIC, Decoder, Gate, Learner, Lfe, layout, learner
from tests.helpers import golden_tensors

X = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(1))
RGB = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(2))


def seed(purpose: str) -> int:
    return address(purpose, 0)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("patch", "channels", "features"), [(24, [16, 32, 64], 32), (32, [16, 32, 64, 128], 64), (64, [16, 32, 64, 128], 64)]
)
def test_local_features_are_those_of_the_sheet(patch: int, channels: list[int], features: int) -> None:
    net = learner(patch, "shared", seed)
    x = torch.rand(2, 1, patch, patch)
    convs = [m for m in net.lfe.encoder if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride, c.padding) for c in convs] == [(c, (3, 3), (2, 2), (1, 1)) for c in channels]
    assert net.lfe.embed(x).shape == (2, features)
    assert net.lfe(x).shape == (2,)
    image = net.read(x).image
    assert image is not None
    assert image.shape == x.shape
    assert net.decoder is not None
    ups = [m for m in net.decoder.up if isinstance(m, nn.ConvTranspose2d)]
    assert [c.in_channels for c in ups] == channels[::-1]
    assert isinstance(net.decoder.up[-1], nn.ConvTranspose2d), "its output is linear"
    assert image.min() < 0


@pytest.mark.parametrize("patch", [20, 36, 40, 0])
def test_a_side_that_a_decoder_cannot_come_back_to_is_refused(patch: int) -> None:
    with pytest.raises(UserError, match="use 24, 32 or 64"):
        layout(patch)


@pytest.mark.parametrize("attention", ["shared", "each"])
def test_attention_is_one_at_the_start_to_the_bit(attention: Any) -> None:
    net, plain = (learner(24, a, seed).eval() for a in (attention, "none"))
    z = net.lfe.code(X)
    gates = [m for m in net.modules() if isinstance(m, Gate)]
    assert len(gates) == {"shared": 1, "each": 3}[attention]
    for gate in gates:
        assert torch.equal(gate.weights(z), torch.ones_like(z))
    assert torch.equal(net(X), plain(X))
    read = net.read(X)
    assert all(torch.equal(read.gated[term], z) for term in ("bce", *METRIC))


def test_rows_of_an_ablation_start_with_the_same_weights_in_what_they_share() -> None:
    one, other = learner(24, "none", seed, decoder=False), learner(24, "each", seed)
    theirs = other.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in one.state_dict().items())
    again = learner(24, "none", seed).decoder
    assert isinstance(again, Decoder)
    assert all(torch.equal(v, theirs[f"decoder.{k}"]) for k, v in again.state_dict().items())


def test_with_a_gate_a_loss_the_head_and_the_embedding_have_that_of_tcl() -> None:
    net = learner(24, "each", seed).eval()
    for i, gate in enumerate((net.lfe.gate, net.gates["cl"], net.gates["tccl"])):
        assert isinstance(gate, Gate)
        gate.w2.bias.data.fill_(i + 1.0)
    read, z = net.read(X), net.lfe.code(X)
    assert torch.equal(read.gated["tcl"], net.embed(X))
    assert torch.equal(read.gated["bce"], net.embed(X))
    for i, term in enumerate(("tcl", "cl", "tccl")):
        expected = 2 * torch.sigmoid(torch.tensor(i + 1.0)) * z  # W2 is still 0
        torch.testing.assert_close(read.gated[term], expected)
    assert torch.equal(read.logits, net(X))


def test_what_is_deployed_has_neither_decoder_nor_other_losses_gates() -> None:
    net = learner(24, "each", seed)
    assert isinstance(net, Learner)
    assert isinstance(net.lfe, Lfe)
    # three convolutions with batch norm, the linear layer, the head and one gate
    encoder = 9 * (16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + (576 + 1) * 32
    assert count(net.lfe) == encoder + 33 + (32 + 1) * 8 + (8 + 1) * 32
    assert count(learner(24, "none", seed, decoder=False)) == encoder + 33


# -- backbones


def authors(z: dict[str, Any], name: str, streams: list[str]) -> dict[str, torch.Tensor]:
    """Their weights by our names."""
    ours = {
        "residual": "side",
        "block2.0.depthwise": "last.0.0",
        "block2.0.pointwise": "last.0.1",
        "block2.1": "last.1",
        **{f"block.{i}.{part}": f"main.{i}.{j}" for i in (0, 3) for j, part in enumerate(("depthwise", "pointwise"))},
        **{f"block.{i}": f"main.{i}" for i in (1, 4)},
    }
    ours |= {f"IN_both.{i}" if name.startswith("Flame_one_stream_both") else f"IN.{i}": f"stem.{i}" for i in (0, 1)}
    found = {}
    for key, value in z.items():
        if not key.startswith(f"{name}_sd_"):
            continue
        layer, _, what = key.removeprefix(f"{name}_sd_").rpartition(".")
        for i, stream in enumerate(streams):
            inner = layer.removeprefix(stream)
            if layer.startswith(stream) and inner in ours:
                found[f"trunks.{i}.{ours[inner]}.{what}"] = value
        if layer == "out.0":
            found[f"out.1.{what}"] = value
    return found


@pytest.mark.parametrize(
    ("name", "mode", "streams"),
    [
        ("Flame_one_stream_ir", "thermal", [""]),
        ("Flame_one_stream_both", "early", [""]),
        ("Flame_two_stream_both", "late", ["stream1.", "stream2."]),
    ],
)
def test_flame_gives_its_authors_logits(name: str, mode: backbones.Mode, streams: list[str]) -> None:
    z = golden_tensors("flame_baselines_flame2_backbone")
    net = build("flame", 16, mode, classes=3).eval()
    missing = net.load_state_dict(authors(z, name, streams), strict=False)
    assert not missing.unexpected_keys
    assert all(k.endswith("num_batches_tracked") for k in missing.missing_keys)
    torch.testing.assert_close(net(z[f"{name}_ir"], z[f"{name}_rgb"]), z[f"{name}_out"], atol=1e-5, rtol=0)
    # as coded every stream also holds the stem of the mode that it is not in
    unused = len(streams) * count(backbones.FlameTrunk.stem_for(3 if mode == "early" else 6))
    assert count(net) + unused == z[f"{name}_nparams"] == (2499 if mode == "late" else 1251)


def test_thermal_of_one_channel_is_that_of_three_equal_ones() -> None:
    net = build("flame", 24).eval()
    assert torch.equal(net(X), net(X.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("name", "features"),
    [("flame", 8), ("lenet5", 84), ("firenet", 128), ("mobilenetv2", 1280), ("resnet18", 512), ("vgg19", 4096), ("logistic", 1728)],
)
def test_every_network_reads_patches_of_24_pixels(name: backbones.Name, features: int) -> None:
    net = build(name, 24).eval()
    assert not net.colour
    with torch.inference_mode():
        logits, embedding = net(X), net.embed(X)
        assert logits.shape == (3,)
        assert embedding.shape == (3, features)
        torch.testing.assert_close(net.out(embedding)[:, 0], logits, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", ["rgb", "early", "late"])
@pytest.mark.parametrize("name", ["flame", "lenet5", "logistic", "resnet18"])
def test_colour_is_read_and_missed(name: backbones.Name, mode: backbones.Mode) -> None:
    net = build(name, 24, mode).eval()
    assert net.colour
    with torch.inference_mode():
        assert not torch.equal(net(X, RGB), net(X, RGB.flip(0)))
        assert torch.equal(net(X, RGB), net(X.flip(0), RGB)) == (mode == "rgb")
    with pytest.raises(UserError, match="mode=thermal"):
        net(X)


def test_late_fusion_has_a_trunk_each_as_wide_as_the_authors() -> None:
    features = {"flame": 16, "resnet18": 512, "mobilenetv2": 2560}
    with torch.device("meta"):
        for name, wide in features.items():
            out = build(name, 24, "late").out[1]  # type: ignore[arg-type]
            assert isinstance(out, nn.Linear)
            assert out.in_features == wide, name


def test_lenet5_is_as_wide_as_the_authors_on_their_frames_and_firenet_as_large_as_published() -> None:
    with torch.device("meta"):
        lenet = build("lenet5", 254, classes=3)
        dense = [m for m in lenet.modules() if isinstance(m, nn.Linear)]
        assert (dense[0].in_features, dense[0].out_features) == (376_320, 84)
        assert count(build("firenet", 64, classes=2)) == 646_818
        assert count(build("logistic", 254, classes=3)) == (254 * 254 * 3 + 1) * 3
        assert count(build("vgg16", 224, classes=3)) == 134_272_835
        assert count(build("vgg19", 300, classes=2)) == 139_578_434
        assert count(build("vgg19", 24)) == 20_024_384 + (512 + 1 + 4096 + 1) * 4096 + 4097


def test_patches_are_enlarged_where_a_network_halves_them_too_often_and_torchvisions_never_above_224() -> None:
    with torch.device("meta"):
        sides = {name: build(name, 24).side for name in ("flame", "lenet5", "firenet", "resnet18")}  # type: ignore[arg-type]
        assert sides == {"flame": None, "lenet5": 32, "firenet": 64, "resnet18": 32}
        assert build("resnet18", 64).side == 64
        assert build("resnet18", 254).side == 224
        vgg = import_torchvision().models.vgg
        with pytest.raises(RuntimeError):  # torchvision's own on 24 pixels: the fifth pooling has nothing left
            vgg.make_layers(vgg.cfgs["E"])(torch.zeros(1, 3, 24, 24))


@pytest.mark.parametrize("places", [1, 2, 3, 7])
def test_a_dense_layer_for_fewer_places_answers_as_pooling_to_seven_does(places: int) -> None:
    generator = torch.Generator().manual_seed(places)
    weight, x = (torch.randn(5, 4 * n, generator=generator) for n in (49, places**2))
    pooled = F.adaptive_avg_pool2d(x.view(5, 4, places, places), 7).flatten(1)
    expected = pooled @ weight.T
    torch.testing.assert_close(x @ backbones.fold_places(weight, places).T, expected, atol=1e-4, rtol=1e-5)


def test_imagenet_weights_come_from_the_users_file_and_from_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data"):
        backbones.weights_file("mobilenetv2", "")
    (tmp_path / "weights").mkdir()
    with pytest.raises(UserError, match=r"mobilenet_v2-\*\.pth"):
        backbones.weights_file("mobilenetv2", str(tmp_path))
    with pytest.raises(UserError, match="no ImageNet weights"):
        backbones.weights_file("flame", str(tmp_path))
    file = tmp_path / "weights" / "mobilenet_v2-00000000.pth"
    theirs = import_torchvision().models.mobilenet_v2(weights=None).eval()
    torch.save(theirs.state_dict(), file)
    net = build("mobilenetv2", 24, weights=backbones.weights_file("mobilenetv2", str(tmp_path))).eval()
    x = F.interpolate(X.expand(-1, 3, -1, -1), (32, 32), mode="bilinear")
    mean, std = (torch.tensor(v)[:, None, None] for v in backbones.IMAGENET)
    expected = theirs.features((x - mean) / std).mean((2, 3))
    torch.testing.assert_close(net.embed(X), expected)
    with pytest.raises(UserError, match="another network's"):
        build("resnet18", 24, weights=file)
    with pytest.raises(UserError, match="mode=early"):
        build("mobilenetv2", 24, "early", weights=file)
    file.write_bytes(b"no weights")
    with pytest.raises(UserError, match="not a file of weights"):
        build("mobilenetv2", 24, weights=file)


def test_names_and_modes_that_are_none_are_told_with_those_there_are() -> None:
    with pytest.raises(UserError, match="vgg19"):
        build("vgg11", 24)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="late"):
        build("flame", 24, "middle")  # type: ignore[arg-type]
    assert set(backbones.PRETRAINED) < set(get_args(backbones.Name))
    assert isinstance(build("flame", 24), Backbone)
