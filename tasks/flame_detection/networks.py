"""FlameFinder's network, reconstructed with our layers: local features, attention gate, head, and what only training needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from suite.naming import UserError

Attention = Literal["none", "shared", "each"]
CHANNELS = (16, 32, 64, 128)
METRIC = ("cl", "tcl", "tccl")  #: terms of the loss that read gated features and centres


def layout(patch: int) -> tuple[tuple[int, ...], int]:
    """Channels of the convolutions, each of which halves the side, and D, for patches of so many pixels a side.

    Three convolutions and D = 32 under 32 pixels, else four and D = 64.  Raises UserError for a side that cannot be halved so
    often without a rest, since the decoder has to come back to it.
    """
    channels, features = (CHANNELS[:3], 32) if patch < 32 else (CHANNELS, 64)
    if patch < 1 or patch % 2 ** len(channels):
        raise UserError(f"patches of {patch} pixels: the network halves them {len(channels)} times; use 24, 32 or 64")
    return channels, features


class Gate(nn.Module):
    """a * z with a = 2 sigmoid(W2 relu(W1 z)); at the start W2 is 0, so a is 1 exactly."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(features, features // 4), nn.Linear(features // 4, features)
        nn.init.zeros_(self.w2.weight)
        nn.init.zeros_(self.w2.bias)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.weights(z) * z

    def weights(self, z: torch.Tensor) -> torch.Tensor:
        """a, (n, D) in 0..2."""
        return 2 * torch.sigmoid(self.w2(torch.relu(self.w1(z))))


class NoGate(nn.Module):
    """z as it is, by a name of its own: gradients of the terms that read it are added up before they meet the reconstruction's.

    A gate that stays 1 adds them in that order, and so both train to the same bits.
    """

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z.view_as(z)


class Lfe(nn.Module):
    """What is deployed: thermal patches to features z (D), gated where there is attention, to one logit."""

    colour = absolute = False

    def __init__(self, patch: int, gate: nn.Module | None = None) -> None:
        super().__init__()
        channels, features = layout(patch)
        layers: list[nn.Module] = []
        for c_in, c_out in zip((1, *channels), channels, strict=False):
            layers += [nn.Conv2d(c_in, c_out, 3, 2, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        side = patch >> len(channels)
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, features))
        self.head = nn.Linear(features, 1)
        self.gate = gate or NoGate()

    def code(self, thermal: torch.Tensor) -> torch.Tensor:
        """z (n, D), before the gate."""
        z: torch.Tensor = self.encoder(thermal)
        return z

    def embed(self, thermal: torch.Tensor) -> torch.Tensor:
        """z (n, D) as the head reads it and centres are near it: gated."""
        gated: torch.Tensor = self.gate(self.code(thermal))
        return gated

    def forward(self, thermal: torch.Tensor) -> torch.Tensor:
        """(n, 1, P, P) in 0..1 to logits (n,)."""
        logits: torch.Tensor = self.head(self.embed(thermal))
        return logits.squeeze(-1)


class Decoder(nn.Module):
    """z (n, D), before the gate, back to the patch (n, 1, P, P); its output is linear."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        channels, features = layout(patch)
        side = patch >> len(channels)
        self.start = nn.Sequential(
            nn.Linear(features, channels[-1] * side * side), nn.ReLU(), nn.Unflatten(1, (channels[-1], side, side))
        )
        layers: list[nn.Module] = []
        for c_in, c_out in zip(channels[::-1], (*channels[-2::-1], 1), strict=True):
            last = c_out == 1
            layers += [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=last)]
            layers += [] if last else [nn.BatchNorm2d(c_out), nn.ReLU()]
        self.up = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.up(self.start(z))
        return image


@dataclass(frozen=True)
class Reading:
    """What the terms of the loss are taken of, for a batch."""

    z: torch.Tensor  #: (n, D), before any gate
    gated: Mapping[str, torch.Tensor]  #: by term (bce, cl, tcl, tccl) what it reads, (n, D)
    logits: torch.Tensor  #: (n,)
    image: torch.Tensor | None  #: (n, 1, P, P), reconstructed; None: there is no decoder


class Learner(nn.Module):
    """The deployed network with what only training needs: the decoder, and gates of other losses than its own."""

    colour = absolute = False

    def __init__(self, lfe: Lfe, decoder: Decoder | None, gates: Mapping[str, Gate]) -> None:
        super().__init__()
        self.lfe, self.decoder = lfe, decoder
        self.gates = nn.ModuleDict(gates)  #: by term, where each has one; the deployed network's gate is that of tcl

    def forward(self, thermal: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.lfe(thermal)
        return logits

    def embed(self, thermal: torch.Tensor) -> torch.Tensor:
        return self.lfe.embed(thermal)

    def read(self, thermal: torch.Tensor) -> Reading:
        """One pass for all terms."""
        z = self.lfe.code(thermal)
        own = self.lfe.gate(z)
        gated = {"bce": own} | {term: self.gates[term](z) if term in self.gates else own for term in METRIC}
        return Reading(z, gated, self.lfe.head(own).squeeze(-1), self.decoder(z) if self.decoder is not None else None)


def learner(patch: int, attention: Attention, seed: Callable[[str], int], *, decoder: bool = True) -> Learner:
    """A network with fresh weights.

    Encoder and head, decoder and gates are drawn from seeds of their own, so that whatever two rows of an ablation share starts
    with the same weights in both.

    Args:
        attention: no gate, one for all losses, or one for each of CL, TCL and TCCL, where the head, inference and clustering use
            that of TCL.
        seed: of a purpose.
    """
    features = layout(patch)[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed("init"))
        lfe = Lfe(patch)
        torch.manual_seed(seed("init gates"))
        gates = {term: Gate(features) for term in ("tcl", "cl", "tccl")}
        if attention != "none":
            lfe.gate = gates["tcl"]
        torch.manual_seed(seed("init decoder"))
        own = Decoder(patch) if decoder else None
    return Learner(lfe, own, {t: gates[t] for t in ("cl", "tccl")} if attention == "each" else {})
