"""Every way a network multiplies is counted, or named as not counted; a silent zero is the failure to avoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from suite.meters import operations


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


W = torch.randn(7, 5)
EYE = torch.eye(6)
ATTEND = functional.scaled_dot_product_attention
CASES: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...], int]] = {
    "grouped convolution": (nn.Conv2d(4, 4, 3, groups=4, padding=1), ((1, 4, 5, 5),), 4 * 9 * 25),
    "transposed convolution": (nn.ConvTranspose2d(3, 4, 3, 2), ((1, 3, 5, 5),), 3 * 4 * 9 * 25),
    "linear on a vector": (nn.Linear(5, 7, bias=False), ((5,),), 35),
    "mv": (Call(lambda x: W @ x), ((5,),), 35),
    "addmv": (Call(lambda x: torch.addmv(torch.zeros(7), W, x)), ((5,),), 35),
    "dot": (Call(lambda x: torch.dot(x, x)), ((5,),), 5),
    "baddbmm": (Call(lambda x: torch.baddbmm(torch.zeros(2, 3, 4), x, torch.ones(2, 5, 4))), ((2, 3, 5),), 120),
    "addbmm": (Call(lambda x: torch.addbmm(torch.zeros(3, 4), x, torch.ones(2, 5, 4))), ((2, 3, 5),), 120),
    "einsum": (Call(lambda x: torch.einsum("bij,bjk->bik", x, torch.ones(2, 5, 4))), ((2, 3, 5),), 120),
    "bilinear": (nn.Bilinear(3, 4, 5), ((1, 3), (1, 4)), 5 * 3 * 4 + 5 * 4),
    "lstm": (nn.LSTM(6, 4, 2, bidirectional=True), ((7, 1, 6),), 7 * 4 * 2 * ((24 + 16) + (32 + 16))),
    "lstm with projection": (nn.LSTM(6, 4, proj_size=2), ((7, 1, 6),), 7 * (4 * 4 * (6 + 2) + 4 * 2)),
    "gru": (nn.GRU(6, 4), ((7, 1, 6),), 7 * 3 * (24 + 16)),
    "gru cell": (nn.GRUCell(6, 4), ((1, 6),), 3 * (24 + 16)),
    "sparse coo": (Call(lambda x: torch.sparse.mm(EYE.to_sparse(), x)), ((6, 3),), 6 * 3),
    "sparse csr": (Call(lambda x: EYE.to_sparse_csr() @ x), ((6, 3),), 6 * 3),
    "sparse csr on a vector": (Call(lambda x: EYE.to_sparse_csr() @ x), ((6,),), 6),
    "linear with sparse weights": (Call(lambda x: functional.linear(x, EYE.to_sparse_csr())), ((3, 6),), 6 * 3),
    "attention": (Call(lambda x: ATTEND(x, x, x)), ((1, 2, 5, 8),), 2 * 2 * 25 * 8),
    "masked attention": (Call(lambda x: ATTEND(x, x, x, EYE[:5, :5].bool())), ((1, 2, 5, 8),), 2 * 2 * 25 * 8),
    "encoder layer": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        ((1, 5, 8),),
        4 * 5 * 64 + 2 * 25 * 8 + 2 * 5 * 8 * 16,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_multiply_adds_are_counted(name: str) -> None:
    model, shapes, macs = CASES[name]
    count = operations.count(model, tuple(torch.ones(shape) for shape in shapes))
    assert count.total("macs") == macs
    assert count.warnings == ()


@pytest.mark.parametrize(
    ("function", "operator"),
    [(torch.fft.rfft, "_fft_r2c"), (lambda x: torch.cdist(x, x), "cdist"), (lambda x: torch.vdot(x[0], x[0]), "vdot")],
)
def test_what_has_no_formula_is_named(function: Callable[[torch.Tensor], torch.Tensor], operator: str) -> None:
    count = operations.count(Call(function), (torch.ones(6, 3),))
    assert count.total("macs") == 0
    assert operator in " ".join(count.warnings)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Softmax(1)])
def test_cheap_layers_cost_nothing_and_raise_no_doubt(layer: nn.Module) -> None:
    count = operations.count(layer, (torch.ones(1, 3, 4, 4),))
    assert count.total("macs") == 0
    assert count.warnings == ()


def test_macs_stand_with_the_layer_that_spends_them() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    layers = {layer["name"]: (layer["kind"], layer["macs"]) for layer in operations.count(model, (torch.ones(1, 3, 4, 4),)).layers}
    assert layers == {"0": ("Conv2d", 27 * 4 * 4), "1": ("BatchNorm2d", 0), "2.1": ("Linear", 32)}


class Block(nn.Module):
    """Has a child that it does not call: what stands around the blocks does."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.inner, self.beside, self.own = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 50), nn.Linear(50, 1)), own

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) @ torch.eye(4) if self.own else self.inner(x)  # type: ignore[no-any-return]


class Around(nn.Module):
    def __init__(self, own: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(own), Block(own))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x * block.beside(x))
        return self.head(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("own", [False, True])
def test_a_child_that_is_called_beside_its_parent_leaves_no_layer_with_less_than_nothing(own: bool) -> None:
    layers = {layer["name"]: layer["macs"] for layer in operations.count(Around(own), (torch.ones(1, 4),)).layers}
    assert min(layers.values()) >= 0
    assert {layers[f"blocks.{i}.beside.0"] for i in range(2)} == {200}
    assert sum(layers.values()) == 2 * (250 + 16 + 16 * own) + 12


def test_a_count_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    model[0].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    operations.count(model, (torch.randn(4, 3),))
    assert (model.training, model[0].training, model[1].training) == (True, False, True)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("on purpose")

    broken = Broken().train()
    with pytest.raises(RuntimeError, match="on purpose"):
        operations.count(broken, (torch.ones(1),))
    assert broken.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_nonzero_is_what_the_layer_computes_with() -> None:
    masked = nn.Conv2d(3, 4, 3)
    prune.l1_unstructured(masked, "weight", amount=0.5)
    count = operations.count(masked, (torch.ones(1, 3, 4, 4),))
    assert (count.total("params"), count.total("nonzero")) == (112, 54 + 4)
    normed = parametrizations.weight_norm(nn.Linear(5, 7))
    assert operations.count(normed, (torch.ones(1, 5),)).total("params") == 42
    tied = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    tied[1].weight = tied[0].weight
    assert operations.count(tied, (torch.ones(1, 5),)).total("params") == 35
    sparse = EYE.to_sparse()
    assert operations.nonzero(sparse) == operations.nonzero(EYE.to_sparse_csr()) == operations.nonzero(EYE) == 6
    assert operations.nonzero(torch.empty(3, 4, device="meta")) == 12


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="no int8 kernels on this processor")
def test_int8_layers_are_neither_free_nor_weightless() -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), {nn.Linear})
    count = operations.count(model, (torch.ones(1, 8),))
    assert (count.total("macs"), count.total("params")) == (40, 46)
    assert count.warnings == ()
