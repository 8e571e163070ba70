"""Runtimes that play super-resolution networks, from a program made anew for each shape to one planned ahead.

A player calls one network after another on patches of several sizes.  How a runtime copes with that is the question of
Dy-DCA's compiler (Li et al., ECCV 2024), which was not released; the rungs below ask it of public tools, under their own
names.  All of them play the same weights and give what eager PyTorch gives within 1e-4.

=====================  ====  ==================================================================================
name                   rung  what is prepared, and when memory is planned
=====================  ====  ==================================================================================
``onnx_reinit``        R1    ONNX Runtime, a static program made anew whenever shape or network changes
``executorch_reinit``  R1    the same in ExecuTorch
``onnx_padded``        R2    ONNX Runtime, one shape: smaller patches are padded, and masked so that nothing leaks
``executorch_padded``  R2    the same in ExecuTorch
``eager``              R3    PyTorch, operator by operator: no plan; a call takes all patches of a size
``eager_patch``        R3    the same, one patch a call as all others: what planned execution is held against
``export``             R4    ``torch.export`` with symbolic height and width, its graph run by PyTorch
``aoti``               R4    AOTInductor: that graph compiled to machine code by a C++ compiler
``onnx``               R4    ONNX Runtime with symbolic height and width
``openvino``           R4    OpenVINO with symbolic height and width
``onnx_static``        R5    ONNX Runtime, a program for each network and shape, all of them in one arena
``executorch_static``  R5    ExecuTorch with XNNPACK: the same, each planned ahead of time, in one arena
``executorch``         R6    ExecuTorch with XNNPACK: symbolic programs in an arena planned for the largest input
=====================  ====  ==================================================================================

R0, K separate networks that are switched, is any rung with K branches.  The claim is read off `REPLANNED`, a planned
rung against the one of the same engine that plans again, and against ``eager_patch``, which never plans.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.naming import UserError
from suite.protocol import Unsupported
from tasks.common.engines import (
    MASK,
    ONNX,
    PATCH,
    Methods,
    Session,
    Shape,
    deployed,
    export,
    lower,
    onnx_bytes,
    openvino,
    package,
    refusals,
    torch_threads,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.mobile_vsr.player import Player

Program = Callable[["torch.Tensor", int], "torch.Tensor"]  #: images of one size and the index of their branch -> images
Take = Callable[[Callable[[], bytes]], bytes]  #: gives a program file, made now or earlier
Key = tuple[int, Shape]


@dataclass(frozen=True)
class Branch:
    """A network of a player, and the inputs that it meets.

    Attributes:
        model: from ``(n, c, h, w)`` to ``(n, c', s h, s w)``, float32; networks of padded rungs pad with zeros only.
        largest: upper bound of each dimension; planned and padded rungs reserve memory for it.
        shapes: the shapes that will come, where they are known: static rungs prepare these off the clock.
    """

    model: nn.Module = field(compare=False)
    largest: Shape
    shapes: tuple[Shape, ...] = ()

    def __post_init__(self) -> None:
        for shape in (self.largest, *self.shapes):
            if len(shape) != 4 or min(shape[2:], default=0) < 2 or min(shape[:2]) < 1:
                raise UserError(f"shape {shape}: write images, channels, height, width, with two pixels or more each way")
        for shape in self.shapes:
            _check_fits(shape, self.largest, bounded=True)


@dataclass(frozen=True)
class Rung:
    """One runtime of the ladder."""

    name: str
    rung: str  #: ``R1`` to ``R6``
    engine: str
    make: Callable[[Sequence[Branch], int, Take], Program] = field(compare=False)
    needs: tuple[str, ...] = ()  #: packages beside torch that play; those that only make a program are asked for there
    bounded: bool = False  #: whether an input larger than a branch's `largest` is refused
    fixes_threads: bool = False  #: whether a program is made for a number of threads


class Shelf:
    """A folder of program files in the order they are asked for: one process makes them, another only loads them.

    A player on a phone never holds what exports and lowers networks; nor must the process that stands in for it.
    """

    def __init__(self, folder: Path, *, make: bool) -> None:
        self.folder, self.make, self._taken = folder, make, 0

    def __call__(self, make: Callable[[], bytes]) -> bytes:
        path = self.folder / f"{self._taken}.program"
        self._taken += 1
        if self.make:
            path.write_bytes(make())
        return path.read_bytes()

    @property
    def files(self) -> list[bytes]:
        """All program files."""
        return [p.read_bytes() for p in sorted(self.folder.glob("*.program"))]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(map(len, self.files))


def at_once(make: Callable[[], bytes]) -> bytes:
    """Where one process makes and plays."""
    return make()


def build(name: str, model: nn.Module, example: torch.Tensor, *, threads: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """One network in the runtime `name`, ready to be called on images of any height and width.

    Args:
        name: one of `NAMES`.
        model: see `Branch`.
        example: the largest input ``(n, c, h, w)`` that will come.  Rungs that plan ahead refuse larger ones.
            With one image in it, programs take one image a call.
        threads: CPU threads.  PyTorch's and ExecuTorch's pools are the process's own, so this sets them for it.

    Returns:
        A call from ``(n, c, h, w)`` to ``(n, c', s h, s w)``, float32.

    Raises:
        Unsupported: the package or a compiler is absent, or the engine cannot take this network; says why.
        UserError: no such name, or an input that the program was not built for.
    """
    shape: Shape = tuple(example.shape)  # type: ignore[assignment]
    program = load(name, [Branch(model, shape, (shape,))], threads=threads)
    return lambda x: program(x, 0)


def load(name: str, branches: Sequence[Branch], *, threads: int, take: Take = at_once) -> Program:
    """All networks of a player in the runtime `name`; see `build`.  The call takes images and the index of their branch."""
    import torch

    rung = start(name)
    if threads < 1 or not branches:
        raise UserError("a player needs one thread and one network at least")
    played = [Branch(deployed(b.model), b.largest, b.shapes) for b in branches]
    program = rung.make(played, threads, take)
    bounds = [b.largest for b in played]

    def call(x: torch.Tensor, branch: int = 0) -> torch.Tensor:
        if x.dtype is not torch.float32 or x.device.type != "cpu":
            raise UserError(f"input of type {x.dtype} on {x.device}: runtimes take float32 images on the CPU")
        _check_fits(tuple(x.shape), bounds[branch], bounded=rung.bounded)
        return program(x.detach().contiguous(), branch)

    return call


def runtime_program(player: Player, runtime: str, height: int, width: int, threads: int, take: Take | None = None) -> Program:
    """The networks of a player in a runtime, for low-resolution frames of this size; raises Unsupported with the reason.

    `take` gives program files that were made earlier (`Shelf`).
    """
    if not player.models:
        raise Unsupported("bicubic interpolation has no network to deploy")
    return load(runtime, branches_of(player, height, width), threads=threads, take=take or at_once)


def branches_of(player: Player, height: int, width: int) -> list[Any]:
    """The networks of a player as branches of a runtime, with the patch sizes that each meets."""
    sizes = player.sizes(height, width)
    found = []
    for i, model in enumerate(player.models):
        shapes = tuple((1, 3, h, w) for k, h, w in sizes if k == i) or ((1, 3, height, width),)
        found.append(Branch(model, max(shapes), shapes))
    return found


def start(name: str) -> Rung:
    """Import the engine of a runtime; raises UserError where there is no such name, Unsupported where a package is absent."""
    if name not in RUNGS:
        raise UserError(f"no runtime {name!r}; there are: {', '.join(RUNGS)}")
    rung = RUNGS[name]
    for needed in rung.needs:
        package(needed, rung.engine)
    return rung


@contextlib.contextmanager
def beside(name: str, threads: int) -> Iterator[None]:
    """While the runtime `name` plays with so many threads, torch has as many where it computes, and one where another engine does.

    Torch cuts and pastes the patches; its idle workers would spin, and hold the cores of an engine with a pool of its own.
    """
    with torch_threads(threads if RUNGS[name].engine in TORCH else 1):
        yield


def calls(
    name: str, models: Sequence[nn.Module], sizes: Iterable[tuple[int, int, int]], *, threads: int
) -> dict[tuple[int, int, int], Callable[[torch.Tensor], torch.Tensor]]:
    """The calls of a player that takes one patch at a time: all networks and sizes in one `load`.

    Args:
        models: the player's networks, RGB.
        sizes: ``(network, height, width)`` of every kind of patch that will come.  Networks that none names are left out.

    Returns:
        For each of `sizes` a call from ``(1, 3, height, width)`` to ``(1, 3, s height, s width)``.
    """
    asked = sorted(set(sizes))
    shapes: dict[int, tuple[Shape, ...]] = {}
    for k, height, width in asked:
        shapes[k] = (*shapes.get(k, ()), (1, 3, height, width))
    branches = [Branch(models[k], _cover(seen), seen) for k, seen in shapes.items()]
    program = load(name, branches, threads=threads)
    place = {k: i for i, k in enumerate(shapes)}
    return {key: partial(program, branch=place[key[0]]) for key in asked}


def onnx_file(branch: Branch) -> bytes:
    """A network as an ONNX file with symbolic height and width (and images, where `largest` has several), in fp32.

    Raises Unsupported where `onnx` or `onnxscript` is absent or the network cannot be written.
    """
    return _onnx(deployed(branch.model), branch.largest)


def executorch_file(branches: Sequence[Branch], *, static: bool = False, delegate: bool = True) -> bytes:
    """Networks as one ExecuTorch program (.pte): a method for each, planned for its `largest` input, in fp32.

    Args:
        branches: method ``branch<i>`` is the i-th.
        static: instead, a method for each of a branch's `shapes`, named ``branch<i>_<n>x<c>x<h>x<w>``.
        delegate: let XNNPACK run what it can.  Without it the portable operators run, which is slow, but then the
            plan holds every intermediate tensor: `planned_bytes` of such a program compares plans.

    Raises Unsupported where the package is absent or the network cannot be lowered.
    """
    methods = {}
    with refusals("ExecuTorch"):
        for i, b in enumerate(branches):
            model = deployed(b.model)
            if static:
                methods |= {_method(i, s): export(model, [s], symbolic=False) for s in b.shapes}
            else:
                methods[_method(i)] = export(model, [b.largest], bounded=True)
    return lower(methods, delegate)


def planned_bytes(program: bytes) -> dict[str, int]:
    """Bytes of the arenas that each method of an ExecuTorch program (.pte) plans for activations, inputs and outputs.

    What a delegate such as XNNPACK allocates for itself is not in the plan.
    """
    return {name: sum(sizes) for name, sizes in _arenas(program).items()}


def arena_bytes(program: bytes) -> int:
    """Bytes that a player reserves for an ExecuTorch program whose methods share their arenas: the largest of each."""
    arenas = list(_arenas(program).values())
    count = max(map(len, arenas))
    return sum(max(a[i] for a in arenas if i < len(a)) for i in range(count))


def portable_arena(name: str, branches: Sequence[Branch]) -> int:
    """What `arena_bytes` would be of a rung of ExecuTorch that delegates nothing: then the plan holds every intermediate tensor.

    It needs no clock, and so compares plans on any machine.  Where programs follow each other, the largest
    one's is reserved.
    """
    program = executorch_file(branches, static=name != "executorch", delegate=False)
    return max(planned_bytes(program).values()) if name in REPLANNED.values() else arena_bytes(program)


# -- the rungs ------------------------------------------------------------------------------------------------------


def _eager(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    return _torch_program([b.model for b in branches], threads)


def _exported(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    import torch

    def saved(b: Branch) -> bytes:
        stream = io.BytesIO()
        with refusals("torch.export"):
            torch.export.save(export(b.model, [b.largest]), stream)
        return stream.getvalue()

    files = [take(partial(saved, b)) for b in branches]
    return _torch_program([torch.export.load(io.BytesIO(f)).module() for f in files], threads)


def _aoti(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    import torch
    from torch._inductor import aoti_load_package

    torch.set_num_threads(threads)  # the compiled loops are written for it
    loaded = []
    with tempfile.TemporaryDirectory() as scratch:
        for i, b in enumerate(branches):
            path = Path(scratch) / f"branch{i}.pt2"
            path.write_bytes(take(partial(_compiled, b)))
            loaded.append(aoti_load_package(str(path)))
    return _torch_program(loaded, threads)


def _compiled(b: Branch) -> bytes:
    """A network as AOTInductor's package, for as many threads as torch has now."""
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as e:
        raise Unsupported("AOTInductor needs a C++ compiler; install g++ or clang++, or name one in CXX") from e
    with refusals("AOTInductor"), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "made.pt2"
        # constants may be laid out anew for the processor only where they are frozen
        aoti_compile_and_package(export(b.model, [b.largest]), package_path=str(path), inductor_configs={"freezing": True})
        return path.read_bytes()


def _onnx_symbolic(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    sessions = [Session(take(partial(onnx_file, b)), threads) for b in branches]
    return lambda x, k: sessions[k](x)


def _onnx_reinit(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    files = [take(partial(onnx_file, b)) for b in branches]
    return _one_at_a_time(lambda k, shape: Session(files[k], threads, shape))


def _onnx_padded(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    largest = _cover(b.largest for b in branches)
    sessions = [Session(take(partial(_onnx, b.model, largest, masked=True)), threads) for b in branches]
    return _padded(largest, lambda x, mask, k: sessions[k](x, mask))


def _onnx_static(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    _shared_arena()
    files = [take(partial(onnx_file, b)) for b in branches]

    @cache
    def session(k: int, shape: Shape) -> Session:
        return Session(files[k], threads, shape, shared=True)

    for k, shape in _known(branches):
        session(k, shape)
    return lambda x, k: session(k, tuple(x.shape))(x)  # type: ignore[arg-type]


def _openvino(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    package("openvino", "OpenVINO")  # before files are made
    files = [take(partial(onnx_file, b)) for b in branches]
    played = [openvino(f, threads) for f in files]
    return lambda x, k: played[k](x)


def _executorch_symbolic(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    methods = Methods(take(partial(executorch_file, branches)), threads)
    return lambda x, k: methods(_method(k), x)


def _executorch_reinit(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    @cache
    def file(k: int, shape: Shape) -> bytes:
        return take(partial(executorch_file, [Branch(branches[k].model, shape, (shape,))], static=True))

    for k, shape in _known(branches):
        file(k, shape)

    def make(k: int, shape: Shape) -> Callable[[torch.Tensor], torch.Tensor]:
        methods = Methods(file(k, shape), threads)
        return lambda x: methods(_method(0, shape), x)

    return _one_at_a_time(make)


def _executorch_padded(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    largest = _cover(b.largest for b in branches)

    def file() -> bytes:
        with refusals("ExecuTorch"):
            exported = {
                _method(k): export(_masked(b.model), [largest, _mask_shape(largest)], symbolic=False)
                for k, b in enumerate(branches)
            }
        return lower(exported)

    methods = Methods(take(file), threads)
    return _padded(largest, lambda x, mask, k: methods(_method(k), x, mask))


def _executorch_static(branches: Sequence[Branch], threads: int, take: Take) -> Program:
    known = dict.fromkeys(_known(branches))
    state: dict[str, Methods] = {}

    def prepare() -> None:
        state.clear()
        listed = []
        for k, b in enumerate(branches):
            shapes = tuple(shape for index, shape in known if index == k)
            listed.append(Branch(b.model, _cover(shapes), shapes))
        state["methods"] = Methods(take(partial(executorch_file, listed, static=True)), threads)

    def run(x: torch.Tensor, k: int) -> torch.Tensor:
        key: Key = (k, tuple(x.shape))  # type: ignore[assignment]
        if key not in known:  # methods share an arena only within one program, so all are made anew
            known[key] = None
            prepare()
        return state["methods"](_method(*key), x)

    prepare()
    return run


TORCH = ("PyTorch", "AOTInductor")  #: engines that compute in torch's threads
LADDER = (
    Rung("onnx_reinit", "R1", "ONNX Runtime", _onnx_reinit, ("onnxruntime",)),
    Rung("executorch_reinit", "R1", "ExecuTorch", _executorch_reinit, ("executorch.runtime",)),
    Rung("onnx_padded", "R2", "ONNX Runtime", _onnx_padded, ("onnxruntime",), bounded=True),
    Rung("executorch_padded", "R2", "ExecuTorch", _executorch_padded, ("executorch.runtime",), bounded=True),
    Rung("eager", "R3", "PyTorch", _eager),
    Rung("eager_patch", "R3", "PyTorch", _eager),
    Rung("export", "R4", "PyTorch", _exported),
    Rung("aoti", "R4", "AOTInductor", _aoti, fixes_threads=True),
    Rung("onnx", "R4", "ONNX Runtime", _onnx_symbolic, ("onnxruntime",)),
    Rung("openvino", "R4", "OpenVINO", _openvino, ("openvino",)),
    Rung("onnx_static", "R5", "ONNX Runtime", _onnx_static, ("onnxruntime",)),
    Rung("executorch_static", "R5", "ExecuTorch", _executorch_static, ("executorch.runtime",)),
    Rung("executorch", "R6", "ExecuTorch", _executorch_symbolic, ("executorch.runtime",), bounded=True),
)
RUNGS: Mapping[str, Rung] = {r.name: r for r in LADDER}
NAMES: tuple[str, ...] = tuple(RUNGS)  #: in the order of the ladder
#: planned execution -> the re-planned execution by the same engine that it is held against
REPLANNED: Mapping[str, str] = {
    "onnx_static": "onnx_reinit",
    "executorch_static": "executorch_reinit",
    "executorch": "executorch_reinit",
}
PLAIN = ("eager", "eager_patch")  #: these play the networks themselves: no program is made
JUDGED = frozenset((*REPLANNED, *REPLANNED.values(), "eager_patch"))  #: what claims on planned execution are read off


# -- engines --------------------------------------------------------------------------------------------------------


def _torch_program(models: Sequence[Callable[[torch.Tensor], torch.Tensor]], threads: int) -> Program:
    import torch

    def run(x: torch.Tensor, k: int) -> torch.Tensor:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return models[k](x)

    return run


_written: dict[tuple[bytes, Shape, bool], bytes] = {}  #: ONNX files of this process: five rungs play the same ones


def _onnx(model: nn.Module, largest: Shape, *, masked: bool = False) -> bytes:
    """An ONNX file: of a patch of any size, or, masked, of a patch padded to `largest` and its mask."""
    for needed in ONNX:
        package(needed, "An ONNX file")
    identity = _identity(model)
    known = _written.get((identity, largest, masked)) if identity else None
    if known is not None:
        return known
    with refusals("ONNX"):
        if masked:
            names, exported = [PATCH, MASK], export(_masked(model), [largest, _mask_shape(largest)], symbolic=False)
        else:
            names, exported = [PATCH], export(model, [largest])
    file = onnx_bytes(exported, names)
    if identity:
        _written[identity, largest, masked] = file
    return file


def _identity(model: nn.Module) -> bytes | None:
    """Digest of what a network is, weights and attributes; None where it cannot be pickled (a class made in a function)."""
    import torch

    class Pickler(pickle.Pickler):
        def persistent_id(self, found: object) -> object:
            if not isinstance(found, torch.Tensor):
                return None
            return tuple(found.shape), str(found.dtype), hashlib.sha256(found.detach().contiguous().numpy().tobytes()).digest()

    stream = io.BytesIO()
    try:
        Pickler(stream).dump(model)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return hashlib.sha256(stream.getvalue()).digest()


def _arenas(program: bytes) -> dict[str, list[int]]:
    package("executorch.exir", "ExecuTorch")
    from executorch.exir._serialize._program import deserialize_pte_binary

    plans = deserialize_pte_binary(program).program.execution_plan
    return {p.name: [int(size) for size in p.non_const_buffer_sizes] for p in plans}


@cache
def _shared_arena() -> None:
    """One arena of the process for all ONNX Runtime sessions that ask for it."""
    import onnxruntime as ort

    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, None)


# -- shapes ---------------------------------------------------------------------------------------------------------


def _one_at_a_time(make: Callable[[int, Shape], Callable[[torch.Tensor], torch.Tensor]]) -> Program:
    """A program that holds what was made for the last network and shape, and makes it anew when either changes."""
    live: dict[Key, Callable[[torch.Tensor], torch.Tensor]] = {}

    def run(x: torch.Tensor, k: int) -> torch.Tensor:
        key: Key = (k, tuple(x.shape))  # type: ignore[assignment]
        if key not in live:
            live.clear()  # before the next is made: a phone has no room for both
            live[key] = make(*key)
        return live[key](x)

    return run


def _masked(model: nn.Module) -> nn.Module:
    """The network as a program of patch and mask: a padded patch gives inside the mask what it gives alone.

    A convolution sees zeros beyond a patch.  Biases would fill the padded area and leak back, so the input of each
    convolution is multiplied by the mask; a mask ``(1, 1, h, w)`` is enlarged where a convolution runs at a finer size.
    """
    from torch import nn

    mask: list[torch.Tensor] = []

    def erase(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x, inside = inputs[0], mask[0]
        if x.shape[-1] != inside.shape[-1]:
            inside = nn.functional.interpolate(inside, size=x.shape[-2:], mode="nearest")
        return x * inside

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = deployed(model)
            for module in self.model.modules():
                if isinstance(module, nn.Conv2d):
                    if module.padding_mode != "zeros":
                        raise Unsupported(f"a padded program needs convolutions that pad with zeros, not {module.padding_mode}")
                    module.register_forward_pre_hook(erase)

        def forward(self, patch: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
            mask[:] = [inside]
            image: torch.Tensor = self.model(patch)
            return image

    return Masked().eval()


def _padded(largest: Shape, run: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]) -> Program:
    import torch
    from torch.nn import functional as F

    @cache
    def mask(height: int, width: int) -> torch.Tensor:
        inside = torch.zeros(_mask_shape(largest))
        inside[..., :height, :width] = 1
        return inside

    def call(x: torch.Tensor, k: int) -> torch.Tensor:
        n, _, h, w = x.shape
        # edges are repeated, so that interpolating layers see what they see at a patch's own edge
        full = F.pad(x, (0, largest[3] - w, 0, largest[2] - h), mode="replicate")
        if n < largest[0]:
            full = F.pad(full, (0, 0, 0, 0, 0, 0, 0, largest[0] - n))
        image = run(full, mask(h, w), k)
        scale = image.shape[-1] // largest[3]
        return image[:n, :, : scale * h, : scale * w]

    return call


def _cover(shapes: Iterable[Shape]) -> Shape:
    """The smallest shape that all of these fit into."""
    n, c, h, w = (max(sizes) for sizes in zip(*shapes, strict=True))
    return n, c, h, w


def _mask_shape(largest: Shape) -> Shape:
    return 1, 1, largest[2], largest[3]


def _known(branches: Sequence[Branch]) -> Iterator[Key]:
    for k, b in enumerate(branches):
        for shape in b.shapes or (b.largest,):
            yield k, shape


def _method(branch: int, shape: Shape | None = None) -> str:
    return f"branch{branch}" + ("_" + "x".join(map(str, shape)) if shape else "")


def _check_fits(shape: tuple[int, ...], largest: Shape, *, bounded: bool) -> None:
    free = len(shape) == 4 and shape[1] == largest[1] and shape[0] >= 1 and (largest[0] > 1 or shape[0] == 1)
    if not free or (bounded and any(s > most for s, most in zip(shape, largest, strict=True))):
        raise UserError(f"input of shape {shape}: this program was built for {largest} at most; build it for a larger example")
