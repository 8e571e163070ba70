"""Runs what a proof asks in the tree under test, and says what each run came to, as digests.

``python -P suite/fingerprint.py`` with that tree on PYTHONPATH, whatever its commit, reads a trial a line and prints a result a
line.  Of the tree it needs `suite.sweep.orders`, `Order.write` and `suite.child.main`, whose stages it runs as the runner does,
each in a process of its own; they are forked off this one, which has imported torch and computes nothing, since a hundred
imports would take longer than the runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

#: what a method wrote down of its own Solution, and how long the solve took: no part of what is deployed, and not twice the same
NOT_DEPLOYED = frozenset({"notes", "seconds"})


def fingerprint(work: Path) -> dict[str, dict[str, str]]:
    """Digests by part of ``evidence`` (a column), ``network`` (a tensor, a layer's shape, a file) and ``operations`` (a layer)."""
    examined = json.loads((work / "examine.json").read_text(encoding="utf-8"))
    evidence = work / "evidence.parquet"
    columns = _columns(evidence) if evidence.is_file() else {}
    solution = torch.load(work / "solution.pt", map_location="cpu", weights_only=False)
    layers = {f"{i} {layer['name']}": _sha(json.dumps(layer, sort_keys=True)) for i, layer in enumerate(examined["operations"])}
    return {"evidence": columns, "network": dict(parts(solution)), "operations": layers}


def parts(value: Any, where: str = "solution") -> Iterator[tuple[str, str]]:
    """The leaves of a Solution by their place, each with a digest of its bits.

    Names of classes and modules of this project do not count, so that code may be moved; private attributes neither.  Of a
    network count its tensors, buffers that are not stored included, and torch's own layers with what their `extra_repr` says.
    """
    yield from _parts(value, where, set())


def _parts(value: Any, where: str, above: set[int]) -> Iterator[tuple[str, str]]:
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype | torch.device):
        yield where, _sha(repr(value))
    elif isinstance(value, bytes):
        yield where, _sha(b"bytes " + value)
    elif isinstance(value, torch.Tensor):
        yield where, tensor(value)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        yield where, _sha(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes())
    elif id(value) in above:
        yield where, "itself"
    else:
        inner = _inner(value)
        if not inner:
            yield where, _sha(f"empty {isinstance(value, Mapping)}")
        for name, item in inner:
            yield from _parts(item, f"{where}.{name}", above | {id(value)})


def _inner(value: Any) -> list[tuple[str, Any]]:
    """What a value holds, by name, in an order of its own that does not depend on the run."""
    if isinstance(value, nn.Module):
        return list(_network(value))
    if isinstance(value, Mapping):
        return sorted(((str(k), v) for k, v in value.items()), key=lambda pair: pair[0])
    if isinstance(value, list | tuple):
        return [(str(i), v) for i, v in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [(str(i), v) for i, v in enumerate(sorted(value, key=repr))]
    if isinstance(value, Path):
        return [("path", str(value))]
    if callable(value) and hasattr(value, "__name__"):
        return [("function", value.__name__)]
    if dataclasses.is_dataclass(value):
        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    else:
        fields = sorted(getattr(value, "__dict__", {}).items()) or [("text", str(value))]
    return [(n, v) for n, v in fields if not n.startswith("_") and n not in NOT_DEPLOYED]


def _network(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if type(module).__module__.startswith("torch."):
            yield f"{name}()", f"{type(module).__name__}({module.extra_repr()})"
    yield from model.named_parameters()
    yield from model.named_buffers()


def tensor(value: torch.Tensor) -> str:
    """Digest of a tensor's type, shape and bits, whatever its layout in memory; of a sparse one, of its indices and values."""
    value = value.detach().cpu()
    if value.layout != torch.strided:
        sparse = value.to_sparse_coo().coalesce()
        return _sha(f"sparse {tuple(value.shape)} {tensor(sparse.indices())} {tensor(sparse.values())}")
    if value.is_quantized:
        return _sha(f"quantized {value.dtype} {value.q_scale()} {value.q_zero_point()} {tensor(value.int_repr())}")
    flat = value.contiguous().reshape(-1).clone()
    bits = b"" if not flat.numel() else flat.view(torch.uint8).numpy().tobytes()
    return _sha(f"{value.dtype} {tuple(value.shape)} ".encode() + bits)


def _columns(path: Path) -> dict[str, str]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    return {n: dict(_parts(table.column(n).to_numpy(zero_copy_only=False), n, set()))[n] for n in table.column_names}


def _sha(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:32]


SOLVED, REFUSED = "solved", "user"


def attempt(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Solve and examine at the first target that is taken; status, target, reason and `fingerprint`."""
    last: dict[str, Any] = {"status": REFUSED, "target": "", "reason": "no target is known", "found": {}}
    for target in trial["targets"] or [""]:
        with tempfile.TemporaryDirectory(prefix="weighin-proof-") as scratch:
            last = {"target": target, "reason": "", "found": {}} | _run(trial, target, Path(scratch))
        if last["status"] not in (REFUSED, "over_budget"):  # the smoke tier's budget may be too small for a far target
            break
    return last


def definition(trial: Mapping[str, Any], work: Path) -> dict[str, dict[str, str]]:
    """What a task asks, scores, counts and times in a case, by its parent with initial weights, as digests by part.

    On the smoke tier the parent is examined and scored; of other tiers count what they say and the problem that they pose.
    """
    from suite import child, registry
    from suite.protocol import Spec

    whole = registry.task(trial["task"])
    spec = Spec(whole.name, whole.version, trial["tier"], trial["division"], trial["case"], trial["targets"][0], 0)
    task = whole.of(spec.case)
    card = {n: getattr(task, n) for n in ("ranked", "beside", "speed", "promised", "columns", "truth", "parent_method")}
    problem = task.problem(spec, child.ChildRun(spec, work / "checkpoint.pt", lambda event: None))
    parent = task.parent(problem)
    timed = {w.name: [w.items, float(w.count), w.versus] for w in task.workloads(problem, parent)}
    layers = [dict(layer) for layer in task.operations(problem, parent).layers]
    found = {
        "card": dict(parts({**card, "tier": whole.tiers[spec.tier]}, "card")),
        "fields": dict(parts(_plain_fields(problem), "problem")),
        "workloads": dict(parts(timed, "workloads")),
        "operations": dict(parts(layers, "operations")),
    }
    if spec.tier == "smoke":
        evidence = task.examine(problem, parent)
        measures = {f"{m.name} {m.part}": [float(m.value), m.unit, m.direction, m.interval] for m in task.score(spec, evidence)}
        # what is counted has no unit; seconds and bytes of memory are the machine's
        counts = {f"{m.name} {m.part}": float(m.value) for m in task.weigh(problem, parent) if not m.unit}
        found |= {"score": dict(parts(measures, "score")), "counts": dict(parts(counts, "counts"))}
    return found


def _plain_fields(value: Any, depth: int = 2) -> dict[str, Any]:
    """Numbers and words among a dataclass's fields, and of the dataclasses among these."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(value):
        item = getattr(value, f.name)
        if isinstance(item, bool | int | float | str) or (
            isinstance(item, tuple) and all(isinstance(i, int | float | str) for i in item)
        ):
            found[f.name] = item
        elif dataclasses.is_dataclass(item) and depth:
            found[f.name] = _plain_fields(item, depth - 1)
    return {n: v for n, v in found.items() if not n.startswith("_") and n not in ("data", "device")}


def _run(trial: Mapping[str, Any], target: str, work: Path) -> dict[str, Any]:
    from suite import sweep
    from suite.naming import UserError
    from suite.order import outcome_file

    if not trial["method"]:
        return _read_back(lambda: definition(trial, work), work)
    try:
        (order,) = sweep.orders(
            trial["task"],
            methods=[trial["method"]],
            seeds=[0],
            tier=trial["tier"],
            division=trial["division"],
            cases=[trial["case"]],
            targets=[target] if target else [],
            settings=trial["settings"],
            threads=1,
        )
    except UserError as e:
        return {"status": REFUSED, "reason": str(e)}
    order.write(work)
    for stage in ("solve", "examine"):
        code = _forked(lambda stage=stage: _stage(stage, work))  # type: ignore[misc]
        if not outcome_file(work, stage).is_file():
            return {"status": "killed", "reason": f"{stage}: the process ended with {code}"}
        outcome = json.loads(outcome_file(work, stage).read_text(encoding="utf-8"))
        if outcome["status"] != "ok":
            return {"status": outcome["status"], "reason": str(outcome["reason"])[:600]}
    return _read_back(lambda: fingerprint(work), work)


def _read_back(call: Callable[[], object], work: Path) -> dict[str, Any]:
    """What a call finds in a process of its own."""
    code = _forked(lambda: (work / "found.json").write_text(json.dumps(call())))
    if not (work / "found.json").is_file():
        return {"status": "error", "reason": f"what it came to cannot be read back: the process ended with {code}"}
    return {"status": SOLVED, "found": json.loads((work / "found.json").read_text(encoding="utf-8"))}


def _stage(stage: str, work: Path) -> None:
    from suite import child

    child.main([stage, str(work)])


def _forked(call: Callable[[], object]) -> int:
    """Call in a process of its own, whose input ends with this one; returns its exit code."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(write)
            os.dup2(read, 0)
            os.dup2(2, 1)  # results alone go to standard output
            call()
            code = 0
        except BaseException:  # whatever a method raises: the parent sees the code, the log has the rest
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(read)
    _, status = os.waitpid(pid, 0)
    os.close(write)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    from suite import child, compat

    assert child  # imported once, for all that is forked
    # a Solution may hold torchvision's classes, whose import needs operators that a CPU build of torch lacks
    compat.declare_operators()
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
