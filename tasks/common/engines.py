"""Engines that run a network on the processor beside eager PyTorch: ONNX Runtime, OpenVINO, ExecuTorch, and the files they read.

What is absent, or cannot take a network, is `Unsupported` and says why.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite.extras import need
from suite.naming import UserError
from suite.protocol import Unsupported

if TYPE_CHECKING:
    import torch
    from torch import nn

Shape = tuple[int, int, int, int]  #: images, channels, height, width

PATCH, MASK, IMAGE = "patch", "mask", "image"  #: names of a program's inputs and output
ONNX = ("onnx", "onnxscript")  #: what writes an ONNX file


def package(name: str, what: str) -> Any:
    try:
        return need(name, what)
    except UserError as e:
        raise Unsupported(str(e)) from e


@contextlib.contextmanager
def refusals(engine: str) -> Iterator[None]:
    """An engine that cannot take a network is unsupported, and says why; want of memory is not its fault."""
    try:
        yield
    except (Unsupported, UserError, MemoryError):
        raise
    except Exception as e:
        words = " ".join(str(e).split())
        if "out of memory" in words.lower():
            raise
        raise Unsupported(f"{engine} cannot prepare this network: {type(e).__name__}: {words[:300]}") from e


def deployed(model: nn.Module) -> nn.Module:
    """A copy as it is deployed: on the CPU, in eval mode, parametrizations such as weight normalisation folded."""
    import copy

    from torch.nn.utils import parametrize

    model = copy.deepcopy(model).cpu().eval().requires_grad_(True)  # folding makes parameters only of what takes gradients
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            # a copy shares the class that holds the parametrized property: folding it would strip the original
            shared = type(module)
            module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
            for tensor in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)
    return model.requires_grad_(False)


def export(model: nn.Module, shapes: Sequence[Shape], *, symbolic: bool = True, bounded: bool = False) -> Any:
    """``torch.export`` of a model on inputs of these shapes; symbolic: of any height and width, bounded: up to the shape."""
    import torch

    dynamic = None
    if symbolic:
        ((n, channels, height, width),) = shapes
        if not bounded:  # a dimension of its least size would be taken for a constant
            height, width = max(4, height), max(4, width)
            shapes = [(n, channels, height, width)]
        dims = {}
        for d, name, low, high in ((0, "n", 1, n), (2, "h", 2, height), (3, "w", 2, width)):
            if high > low:
                dims[d] = torch.export.Dim(name, min=low, max=high if bounded else None)
        dynamic = (dims,)
    with torch.no_grad():
        return torch.export.export(model, tuple(torch.zeros(s) for s in shapes), dynamic_shapes=dynamic)


def onnx_bytes(exported: Any, names: Sequence[str]) -> bytes:
    """An exported program as an ONNX file whose inputs have these names and whose output is `IMAGE`, in fp32."""
    import torch

    for needed in ONNX:
        package(needed, "An ONNX file")
    with refusals("ONNX"), torch.no_grad():
        program = torch.onnx.export(exported, dynamo=True, input_names=names, output_names=[IMAGE], verbose=False)
        file: bytes = program.model_proto.SerializeToString()  # type: ignore[union-attr]
    return file


class Session:
    """An ONNX Runtime session; static where a shape is given."""

    def __init__(self, program: bytes, threads: int, shape: Shape | None = None, *, shared: bool = False) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # the defaults, said: they move memory as much as a plan does
        options.enable_cpu_mem_arena = options.enable_mem_pattern = True
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as in every measured process
        if shared:
            options.add_session_config_entry("session.use_env_allocators", "1")
        for name, size in zip("nhw", (shape[0], *shape[2:]), strict=True) if shape else ():
            options.add_free_dimension_override_by_name(name, size)
        with refusals("ONNX Runtime"):
            self._session = ort.InferenceSession(program, options, providers=["CPUExecutionProvider"])

    def __call__(self, patch: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        import torch

        given = {PATCH: patch.numpy()} | ({} if mask is None else {MASK: mask.numpy()})
        return torch.from_numpy(self._session.run(None, given)[0])


def openvino(file: bytes, threads: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """An ONNX file in OpenVINO, for latency, in fp32."""
    import torch

    core = package("openvino", "OpenVINO").Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else processors with bf16 round to it
    }
    with refusals("OpenVINO"):
        request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
    return lambda x: torch.from_numpy(request.infer([x.numpy()])[0])


def lower(methods: Mapping[str, Any], delegate: bool = True) -> bytes:
    """Exported programs as one ExecuTorch program."""
    exir = package("executorch.exir", "ExecuTorch")
    with refusals("ExecuTorch"):
        partitioners = {}
        if delegate:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

            partitioners = {name: [XnnpackPartitioner()] for name in methods}
        lowered = exir.to_edge_transform_and_lower(dict(methods), partitioner=partitioners)
        return bytes(lowered.to_executorch().buffer)


class Methods:
    """A loaded ExecuTorch program.  Its methods lie in one set of arenas, as large as the largest method's."""

    _alive: weakref.WeakSet[Methods] = weakref.WeakSet()

    def __init__(self, program: bytes, threads: int) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        if portable_lib._threadpool_get_thread_count() != threads:
            if self._alive:  # they hold the pool that a reset would destroy
                raise UserError("ExecuTorch has one thread pool a process: let go of programs with another number of threads")
            portable_lib._unsafe_reset_threadpool(threads)
        with refusals("ExecuTorch"):
            self._program = Runtime.get().load_program(program)
            self._methods = {name: self._program.load_method(name) for name in sorted(self._program.method_names)}
        self._alive.add(self)

    def __call__(self, method: str, *inputs: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self._methods[method].execute(inputs)[0]
        return image


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch within."""
    import torch

    had = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(had)
