"""The Solution: files that are sent beside the video, and the player that opens them.

A player knows nothing that the files do not say.  It cuts a low-resolution frame into patches, runs each through the
network that the routing names, and pastes the results.  A frame's patches form groups of one size and one network; a group
is one batch in eager torch, and one patch a call in other runtimes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from suite.naming import UserError
from tasks.mobile_vsr import codec, data
from tasks.mobile_vsr.models import build, fold, modulate
from tasks.mobile_vsr.patches import cells

HEADER, MAP = "header.json", "map"
Program = Callable[[torch.Tensor, int], torch.Tensor]  #: patches of one size and the number of their network -> enlarged


@dataclass(frozen=True)
class Sent:
    """A network as it is sent.

    `base` names the network it differs from (-1: it is sent whole).  `form` ``own``: only the modulations differ, and they
    are sent; ``delta``: only convolution weights that changed are sent, with their indices.
    """

    name: str  #: of the backbone, without weight normalisation
    model: nn.Module
    form: Literal["whole", "own", "delta"] = "whole"
    base: int = -1


@dataclass(frozen=True)
class Routing:
    """Which network each patch of each frame goes to.

    ``whole``: bicubic, whole frames.  ``one``: network 0 everywhere.  ``time``: frame t of T goes to network floor(t K / T),
    which a client knows without being told.  ``map``: a network a patch, sent.  ``split``: bits that say which patches are
    cut into four, level by level; the patch's level is its network.
    """

    kind: Literal["whole", "one", "time", "map", "split"]
    rows: int = 1  #: of the coarsest grid
    columns: int = 1
    assign: np.ndarray | None = None  #: (T, cells), for ``map``
    splits: tuple[np.ndarray, ...] = ()  #: (T, cells) bool, then (quadrants that arose,) bool, for ``split``
    networks: tuple[int, ...] = ()  #: network of each chunk (-1: an empty one) or level; empty: its own number


@dataclass(frozen=True)
class Group:
    """Patches of a frame that go through one network: the grid they are cut by, and their places in it."""

    rows: int
    columns: int
    network: int
    row: torch.Tensor
    column: torch.Tensor

    @cached_property
    def whole(self) -> bool:
        """Whether these are all cells of the grid in its order: then views serve, and no index is looked up."""
        place = self.row * self.columns + self.column
        return torch.equal(place, torch.arange(self.rows * self.columns, device=place.device))

    def take(self, frame: torch.Tensor) -> torch.Tensor:
        """The group's patches of a frame (C, H, W), as (n, C, h, w)."""
        grid = cells(frame, self.rows, self.columns)
        return grid.flatten(0, 1) if self.whole else grid[self.row, self.column]

    def put(self, frame: torch.Tensor, patches: torch.Tensor) -> None:
        """Paste what `take` took into a frame, in place."""
        grid = cells(frame, self.rows, self.columns)
        if self.whole:
            grid.copy_(patches.unflatten(0, (self.rows, self.columns)))
        else:
            grid[self.row, self.column] = patches


@dataclass(frozen=True, eq=False)
class Stream:
    """The Solution: what is sent beside the low-resolution video, and the player of it."""

    files: Mapping[str, bytes]
    player: Player
    notes: Mapping[str, Any] = field(default_factory=dict)

    def size(self, part: str) -> int:
        """Bytes of the files of a part: ``model``, ``map`` or ``header``."""
        return sum(len(b) for n, b in self.files.items() if n.partition(".")[0] == part)


def pack(
    scale: int,
    frames: int,
    routing: Routing,
    sent: Sequence[Sent],
    *,
    precision: str = "fp32",
    notes: Mapping[str, Any] | None = None,
) -> Stream:
    """Write the files of a Solution and open them: what is played is what was sent, at the precision it was sent in."""
    files: dict[str, bytes] = {}
    models = [_plain(s.model) for s in sent]
    for i, s in enumerate(sent):
        files[f"model.{i}"] = _model_file(s, models, i, precision)
    maps: list[dict[str, Any]] = []
    for i, (values, kinds) in enumerate(_maps(routing, len(sent))):
        files[f"{MAP}.{i}"], coding = codec.pack_map(values, kinds)
        maps.append({"coding": coding, "shape": list(values.shape), "kinds": kinds})
    header = {
        "scale": scale,
        "frames": frames,
        "routing": routing.kind,
        "grid": [routing.rows, routing.columns],
        "networks": list(routing.networks),
        "precision": precision,
        "models": [[s.name, s.form, s.base] for s in sent],
        "maps": maps,
    }
    files[HEADER] = json.dumps(header, separators=(",", ":")).encode()
    return Stream(files, open_player(files), notes or {})


def rounded(stream: Stream, precision: str) -> Stream:
    """The same Solution with its weights sent at another precision."""
    player = stream.player
    sent = [Sent(n, m, form, base) for (n, form, base), m in zip(player.sent, player.models, strict=True)]
    return pack(player.scale, player.frames, player.routing, sent, precision=precision, notes=stream.notes)


def open_player(files: Mapping[str, bytes]) -> Player:
    """A player from the files alone; raises UserError where they are not whole."""
    try:
        header = json.loads(files[HEADER])
        models: list[nn.Module] = []
        for i, (name, form, base) in enumerate(header["models"]):
            models.append(_open_model(files[f"model.{i}"], name, form, base, models, header))
        maps = [
            codec.unpack_map(files[f"{MAP}.{i}"], m["coding"], tuple(m["shape"]), m["kinds"]) for i, m in enumerate(header["maps"])
        ]
    except (KeyError, IndexError, ValueError) as e:
        raise UserError(f"the files sent are not whole ({type(e).__name__}: {e}); send them again") from e
    kind = header["routing"]
    routing = Routing(
        kind,
        *header["grid"],
        assign=maps[0] if kind == "map" else None,
        splits=tuple(m.astype(bool) if i == 0 else m.astype(bool).ravel() for i, m in enumerate(maps)) if kind == "split" else (),
        networks=tuple(header["networks"]),
    )
    sent = tuple((str(n), form, int(base)) for n, form, base in header["models"])
    return Player(header["scale"], header["frames"], routing, sent, models)


class Player:
    """Plays frame after frame.  `frames` are the clip's frames that are played, numbered from 0."""

    def __init__(
        self, scale: int, frames: int, routing: Routing, sent: tuple[tuple[str, Any, int], ...], models: Sequence[nn.Module]
    ) -> None:
        self.scale, self.frames, self.routing, self.sent = scale, frames, routing, sent
        self.models = nn.ModuleList(models).eval()
        self._sequences: dict[int, list[tuple[int, int, int, int, int]]] = {}
        self._plan = [groups(routing, t, frames, len(models)) for t in range(frames)]

    def groups(self, t: int) -> list[Group]:
        """The groups of frame t; none for bicubic."""
        return self._plan[t]

    def play(self, t: int, low: torch.Tensor, program: Program | None = None) -> torch.Tensor:
        """Frame t: (3, h, w) uint8 to (3, scale h, scale w) uint8.

        Args:
            program: runs the networks instead of eager torch, one patch a call, in the order of the video.
        """
        if self.routing.kind == "whole":
            image = low.permute(1, 2, 0).cpu().numpy()
            big = data.bicubic(image, image.shape[0] * self.scale, image.shape[1] * self.scale)
            return torch.from_numpy(np.ascontiguousarray(big.transpose(2, 0, 1))).to(low.device)
        x = low.float().div_(255)
        out = torch.empty((3, low.shape[1] * self.scale, low.shape[2] * self.scale), dtype=torch.uint8, device=low.device)
        with torch.inference_mode():
            if program is None:
                for g in self.groups(t):
                    g.put(out, _eight_bits(self.models[g.network](g.take(x))))
            else:
                for rows, columns, network, row, column in self.sequence(t):
                    patch = cells(x, rows, columns)[row, column][None]
                    cells(out, rows, columns)[row, column] = _eight_bits(program(patch, network)[0])
        return out

    def sequence(self, t: int) -> list[tuple[int, int, int, int, int]]:
        """Frame t patch by patch: grid's rows and columns, network, row, column; quadrants stand in place of what was cut."""
        if t not in self._sequences:
            found = []
            for g in self.groups(t):
                row, column = g.row.clone(), g.column.clone()
                place = torch.zeros_like(row)
                depth = (g.rows // self.routing.rows).bit_length() - 1
                for level in range(depth):
                    place += (2 * (row & 1) + (column & 1)) << (2 * (_DEEPEST - depth + level))
                    row, column = row >> 1, column >> 1
                place += (row * self.routing.columns + column) << (2 * _DEEPEST)
                found += [
                    (p, (g.rows, g.columns, g.network, r, c))
                    for p, r, c in zip(place.tolist(), g.row.tolist(), g.column.tolist(), strict=True)
                ]
            self._sequences[t] = [patch for _, patch in sorted(found)]
        return self._sequences[t]

    def sizes(self, height: int, width: int) -> dict[tuple[int, int, int], int]:
        """Patches by network and low-resolution size, over all frames: what a runtime has to be prepared for."""
        found: dict[tuple[int, int, int], int] = {}
        for plan in self._plan:
            for g in plan:
                key = (g.network, height // g.rows, width // g.columns)
                found[key] = found.get(key, 0) + len(g.row)
        return found


_DEEPEST = 8  #: levels of quadrants, at most


def _eight_bits(sr: torch.Tensor) -> torch.Tensor:
    """What a screen shows of a network's output, which is overwritten: fresh memory for each step would cost more than they do."""
    return sr.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def groups(routing: Routing, t: int, frames: int, networks: int) -> list[Group]:
    """How frame t of `frames` is cut and dispatched."""
    rows, columns = routing.rows, routing.columns
    if routing.kind == "whole":
        return []
    if routing.kind == "split":
        return _split_groups(routing, t)
    count = rows * columns
    if routing.assign is not None:
        chosen = torch.from_numpy(routing.assign[t])
    else:
        chosen = torch.full((count,), t * networks // frames if routing.kind == "time" else 0)
    out = []
    for k in chosen.unique().tolist():
        cell = (chosen == k).nonzero().flatten()
        network = routing.networks[k] if routing.networks else int(k)
        out.append(Group(rows, columns, network, cell // columns, cell % columns))
    return out


def _split_groups(routing: Routing, t: int) -> list[Group]:
    rows, columns = routing.rows, routing.columns
    levels = len(routing.splits)
    networks = routing.networks or tuple(range(levels + 1))
    cut = torch.from_numpy(routing.splits[0][t])
    row = torch.arange(rows * columns) // columns
    column = torch.arange(rows * columns) % columns
    #: where this frame's quadrants stand among all that arose
    before = 4 * int(routing.splits[0][:t].sum())
    out = []
    for level in range(levels + 1):
        whole = ~cut
        if whole.any():
            out.append(Group(rows << level, columns << level, networks[level], row[whole], column[whole]))
        # top left, top right, bottom left, bottom right
        row = (2 * row[cut][:, None] + torch.tensor([0, 0, 1, 1])).flatten()
        column = (2 * column[cut][:, None] + torch.tensor([0, 1, 0, 1])).flatten()
        if level + 1 < levels:
            flags = torch.from_numpy(routing.splits[level + 1])
            cut, before = flags[before : before + len(row)], 4 * int(flags[:before].sum())
        else:
            cut = torch.zeros(len(row), dtype=torch.bool)
    return out


# -- files


def _plain(model: nn.Module) -> nn.Module:
    return fold(model).cpu().float()


def _maps(routing: Routing, networks: int) -> list[tuple[np.ndarray, int]]:
    if routing.kind == "map" and routing.assign is not None:
        return [(routing.assign, len(routing.networks) or networks)]
    if routing.kind == "split":
        # quadrants have no cell of the same name in the frame before: one line of bits
        return [(m.astype(np.int64).reshape(len(m) if i == 0 else 1, -1), 2) for i, m in enumerate(routing.splits)]
    return []


def _own(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of the backbone, and of its modulations."""
    named = list(model.named_parameters())
    return [p for n, p in named if ".fms." not in n], [p for n, p in named if ".fms." in n]


def flat_conv_weights(model: nn.Module) -> torch.Tensor:
    """All convolution weights in module order, biases left out, (P,)."""
    return torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, nn.Conv2d)])


def _model_file(s: Sent, models: Sequence[nn.Module], i: int, precision: str) -> bytes:
    if s.form == "delta":
        before, after = flat_conv_weights(models[s.base]), flat_conv_weights(models[i])
        index = (before != after).nonzero().flatten()
        return codec.pack_delta(index, after[index], len(after), precision)
    shared, own = _own(models[i])
    return codec.pack_weights(own if s.form == "own" else [*shared, *own], precision)


@torch.no_grad()
def _open_model(
    content: bytes, name: str, form: str, base: int, models: Sequence[nn.Module], header: Mapping[str, Any]
) -> nn.Module:
    backbone, _, chunked = name.partition("+")
    precision = header["precision"]
    with torch.random.fork_rng():
        model = build(backbone, header["scale"], normed=False)
        if chunked:
            modulate(model, backbone, 1)
    shared, own = _own(model)
    if form != "whole":
        for mine, theirs in zip(shared, _own(models[base])[0], strict=True):
            mine.copy_(theirs)
    if form == "delta":
        flat = flat_conv_weights(model)
        index, values = codec.unpack_delta(content, len(flat), precision)
        flat[index] = values
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        for conv, weight in zip(convs, flat.split([m.weight.numel() for m in convs]), strict=True):
            conv.weight.copy_(weight.view(conv.weight.shape))
        return model
    target = own if form == "own" else [*shared, *own]
    for mine, theirs in zip(target, codec.unpack_weights(content, target, precision), strict=True):
        mine.copy_(theirs)
    return model
