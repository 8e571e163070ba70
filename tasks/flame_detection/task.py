"""Find fire that smoke hides, in thermal patches that only RGB pictures without smoke have labelled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from suite import parallel
from suite.naming import UserError
from suite.protocol import Measure, Operations, Run, Spec, Table, Task, Tier, Unsupported, Workload
from tasks.common.cases import data_and_model, shapes_digest
from tasks.common.libraries import LIBRARIES
from tasks.common.truth import class_names, entry
from tasks.flame_detection.board import SHOW
from tasks.flame_detection.measures import DIMENSIONS, measures
from tasks.flame_detection.names import EMBEDDED, NAMES, SHAPES, parted
from tasks.flame_detection.problem import Detector, Detectors, FlameProblem, PatchSet

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Detector", "Detectors", "FlameDetection", "FlameProblem"]  # what methods import

EXAMPLE = "synthetic/lfe"
NETWORK = "lfe"  #: of the parent and of FlameFinder; a method that has another network says so by its name
BATCH = 64
EPOCHS = {"synthetic": 10, "flame3_scenes": 20}  #: of the small tier; a set of one's own has as many as the scenes
EPOCHS_ELSE = {"smoke": 2, "paper": 50}
SMOKE = {"train": 384, "val": 96, "clear": 144, "smoky": 144}


class FlameDetection(Task[FlameProblem, Detectors]):
    """Thermal patches with and without flame, clear and under smoke: balanced accuracy, and how well the two kinds lie apart."""

    name = "flame_detection"
    version = 1
    question = "Find fire that smoke hides."
    parent_method = "bce"
    ranked = "balanced_accuracy"
    beside = (
        "balanced_accuracy:obscured, head",
        "balanced_accuracy:obscured, nearest centre",
        "silhouette:obscured, by truth",
        "silhouette:obscured, by prediction",
        "worst_scene",
    )
    speed = "frame"
    promised = ""
    amounts = ("frames_per_second", "frame_latency")
    libraries = (*LIBRARIES, "pillow", "scikit-learn")
    columns = {
        "row": "int32",
        "fold": "int16",  # which split it is tested in: each has a detector and a space of its own
        "frame": "int32",
        "scene": "int16",
        "obscured": "int8",
        "label": "int8",  # of the RGB picture; -1: there is none
        "truth": "int8",  # by construction, or a pixel of 80 degrees; -1: nobody knows
        "truth_200": "int8",
        "fire": "int8",  # what the set says of the whole frame; -1: nothing
        "score": "float32",  # the head's logit
        # to the centre of no flame and of flame, in the detector's own space; -1: there are none
        "distance_0": "float32",
        "distance_1": "float32",
        "sampled": "int8",  # whether the row carries its embedding: a fixed sample of each fold
        "kept": "float32",  # of the variance of its fold's sample, by the dimensions that are written
        # component i of both centres in the i-th row of a fold, in the space of z
        "centre_0": "float16",
        "centre_1": "float16",
        **{f"z{i}": "float16" for i in range(DIMENSIONS)},
    }
    truth = ("row", "fold", "frame", "scene", "obscured", "label", "truth", "truth_200", "fire")
    evidence_bytes = 8_000_000  # FLAME 2 has half a million test patches
    show = SHOW
    tiers = {
        "smoke": Tier(
            ("synthetic/lfe",), ("",), 300, {"data": "384 training patches, 12 clear and 12 smoky frames", "epochs": "2"}
        ),
        "small": Tier(
            ("synthetic/lfe", "flame3_scenes/lfe"),
            ("",),
            4 * 3600,
            {
                "method": "FlameFinder, RECONSTRUCTED from its abstract",
                "data": "synthetic: 3,000 rendered training patches of 24x24, 1,200 clear and 1,200 smoky ones for the test;"
                " flame3_scenes: four FLAME 3 scenes and no more, each left out once, 80 patches of 64x64 each",
                "labels": "of RGB alone: synthetic with 5 % of the training's turned over; flame3_scenes by colour, held against"
                " pixels of 80 and 200 °C, their quality told beside",
                "budget": f"synthetic {EPOCHS['synthetic']} epochs; flame3_scenes {EPOCHS['flame3_scenes']} a fold, 740 steps in"
                f" four folds, so that the largest network takes no hour; batches of {BATCH}: flame, warm and background alike",
                "recipe": "Adam, cosine, at 1e-3 (bce, FlameFinder, ResNet18), 3e-3 (Flame, FireNet, MobileNetV2), 1e-2 (LeNet-5,"
                " logistic), 1e-4 (VGG19); flips, gain and offset of ±10 %; the best epoch on validation patches, on flame3_scenes,"
                " which has none, the last",
                "input": "thermal, scaled by each frame's least and largest value: absolute temperature is lost",
                "precision": "fp32",
                "frame": "end to end: decode, scale, cut, network, decision, map; 640x512",
                "runtimes": "those that are installed are timed beside torch with seed 0: seeds change weights, not shapes",
                "licence": "flame3_scenes: CC BY-NC 4.0, Michael Marinaccio and Fatemeh Afghah, FLAME 3",
            },
        ),
        "paper": Tier(
            ("flame2/lfe", "flame3/lfe", "flame1/lfe"),
            ("",),
            14 * 86_400,
            {
                "method": "FlameFinder, RECONSTRUCTED from its abstract",
                "data": "FLAME 2: pairs of 254 pixels, patches of 32, blocks of the 19 runs; FLAME 3: patches of 64, blocks of time"
                " by EXIF; FLAME 1: its classification frames; smoke is never trained on; flame2_every30/lfe takes"
                " each 30th frame",
                "budget": f"{EPOCHS_ELSE['paper']} epochs at batch {BATCH}",
                "recipe": "as on small; the best epoch on validation patches",
                "precision": "fp32",
            },
        ),
    }

    def digest(self, spec: Spec) -> str:
        from tasks.flame_detection import data

        name = _case(spec)
        if spec.division == "speed":
            _shape(name)
            return shapes_digest(name)
        return data.digest(name, spec.data)

    def problem(self, spec: Spec, run: Run) -> FlameProblem:
        import torch

        from tasks.flame_detection.recipes import Adam

        name = _case(spec)
        patches = _shapes(name) if spec.division == "speed" else _patches(spec, name)
        epochs = EPOCHS.get(name, EPOCHS["flame3_scenes"]) if spec.tier == "small" else EPOCHS_ELSE[spec.tier]
        return FlameProblem(spec, run, patches, epochs, BATCH, "fp32", torch.device(parallel.own_device(spec.device)), Adam())

    def parent(self, problem: FlameProblem) -> Detectors:
        import torch

        from tasks.flame_detection.networks import Lfe

        detectors = []
        for fold in range(len(problem.patches.folds)):
            with torch.random.fork_rng():
                torch.manual_seed(problem.of_fold(fold).seed("init"))
                detectors.append(Detector(Lfe(problem.patches.patch).to(problem.device)))
        return Detectors(detectors)

    def examine(self, problem: FlameProblem, solution: Detectors) -> Table:
        from tasks.flame_detection.examining import examine

        columns = examine(problem, solution)
        return {k: columns[k].astype(kind) for k, kind in self.columns.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """Patches, frames and scenes, clear and under smoke, and the sample's clusters; see `tasks.flame_detection.measures`."""
        radiometric = not _case(spec).startswith("synthetic")  # there truth is by construction, and none of temperature
        return measures(evidence, class_names(self.name, spec.tier, spec.case), radiometric=radiometric)

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a case: digests of what its test patches are, and the names of its scenes."""
        from tasks.flame_detection.examining import dictated

        name = _case(spec)
        patches = _patches(spec, name)
        return entry(self, spec, name, dictated(patches), patches.scenes)

    def deployed(self, solution: Detectors) -> object:
        """The first fold's detector: on each frame one answers."""
        return solution.folds[0].model

    def workloads(self, problem: FlameProblem, solution: Detectors) -> list[Workload]:
        """A frame end to end, in eager torch and with seed 0 in other runtimes; on the smoke tier in eager torch alone."""

        def prepare(runtime: str) -> Callable[[], Any]:
            return _call(problem, solution, runtime)

        return [
            Workload(w, lambda r=r: prepare(r), versus="" if r == EAGER else "frame")  # type: ignore[misc]
            for r in _runtimes(problem.spec)
            if (w := "frame" if r == EAGER else f"frame/{r}")
        ]

    def operations(self, problem: FlameProblem, solution: Detectors) -> Operations:
        """Multiply-adds of a frame: all its patches through the first fold's detector."""
        from suite.meters import operations
        from tasks.flame_detection import frames

        detector = solution.folds[0]
        x = frames.batch_of(frames.frame_of(problem.patches, detector.model)).to(problem.device)
        return operations.count(frames.Deployed(detector).to(problem.device), (x,))

    def weigh(self, problem: FlameProblem, solution: Detectors) -> list[Measure]:
        """Multiply-adds and weights; with seed 0 on a processor the latency of single frames, by one thread and by all.

        As usual for drones' hardware: 50 frames to warm up, 300 timed, median and 95th percentile; fewer where they take too long.
        """
        count = self.operations(problem, solution)
        found = [Measure(n, count.total(n), "", "down", source="meter") for n in ("macs", "params", "nonzero")]
        if problem.device.type != "cpu" or problem.spec.seed or problem.spec.tier == "smoke":
            return found
        for runtime in _runtimes(problem.spec):
            with contextlib.suppress(Unsupported):  # the workloads tell why
                found += _latencies(problem, solution, runtime)
        return found


EAGER = "torch"


def _runtimes(spec: Spec) -> list[str]:
    """What a frame is seen by: eager torch, and with seed 0 on a processor what else there is."""
    from tasks.flame_detection import frames

    beside = spec.tier != "smoke" and not spec.seed and spec.device == "cpu"
    return [EAGER, *(frames.RUNTIMES if beside else ())]


def _call(problem: FlameProblem, solution: Detectors, runtime: str) -> Callable[[], Any]:
    """A frame end to end; raises Unsupported with the reason."""
    import torch

    from tasks.common import engines
    from tasks.flame_detection import frames

    detector, threads = solution.folds[0], torch.get_num_threads()
    frame, grid = frames.frame_of(problem.patches, detector.model), frames.layout(problem.patches)
    if runtime == EAGER:
        program = frames.eager(detector, frame, problem.device)
        return lambda: frames.see(frame, program, grid)
    fold = problem.patches.folds[0]
    program = frames.load(runtime, detector, frame, fold.val if len(fold.val) else fold.train, threads)

    def call() -> Any:
        with engines.torch_threads(1):  # torch cuts the patches; its idle workers would hold the cores of an engine with its own
            return frames.see(frame, program, grid)

    return call


def _latencies(problem: FlameProblem, solution: Detectors, runtime: str) -> list[Measure]:
    import torch

    from suite.meters.environment import BUSY, Ledger
    from tasks.common import engines
    from tasks.flame_detection import frames

    had = torch.get_num_threads()
    found = []
    # ExecuTorch has one pool of threads a process, and others are told of with all threads alone
    for threads in sorted({1, had}) if runtime == EAGER else [had]:
        with engines.torch_threads(threads):
            call, ledger = _call(problem, solution, runtime), Ledger()
            spent = frames.latencies(call)
            busy = ledger.others()
        told = (f"busy: other processes used {busy:.1f} cores",) if busy > BUSY else ()
        told += (f"few frames: {len(spent)} were timed",) if len(spent) < frames.TIMED else ()
        part = f"{runtime}@{threads}"
        median, late = _percentiles(spent)
        found += [
            Measure("frame_latency", median, "s", "down", f"{part} median", source="meter", warnings=told),
            Measure("frame_latency", late, "s", "down", f"{part} p95", source="meter", warnings=told),
            Measure("frames_per_second", 1 / median, "FPS", "up", part, source="meter", warnings=told),
        ]
    return found


def _percentiles(spent: np.ndarray) -> tuple[float, float]:
    import numpy as np

    return float(np.median(spent)), float(np.percentile(spent, 95))


def _patches(spec: Spec, name: str) -> PatchSet:
    from tasks.flame_detection import data

    return data.source(name, spec.data, SMOKE if spec.tier == "smoke" and name == "synthetic" else None)


def _shape(name: str) -> tuple[int, tuple[int, int]]:
    shape = SHAPES.get(parted(name)[0])
    if shape is None:
        raise UserError(f"the speed division knows no set {name!r}; there are: {', '.join(SHAPES)}")
    return shape


def _shapes(name: str) -> PatchSet:
    """A set without a patch: what the speed division has."""
    from tasks.flame_detection.problem import Fold
    from tasks.flame_detection.reading import empty

    patch, grid = _shape(name)
    none = empty(patch, radiometric=True)
    return PatchSet(name, patch, (Fold(none, none, none),), (), grid)


def _case(spec: Spec) -> str:
    name, architecture = data_and_model(spec, EXAMPLE)
    if architecture != NETWORK:
        raise UserError(f"case {spec.case!r}: the network of this task is {NETWORK}; write {name}/{NETWORK}, methods bring others")
    if spec.tier == "paper" and name in EMBEDDED:
        raise UserError(f"{name} is a set of the small tier; use --tier small")
    if spec.tier != "paper" and spec.division != "speed" and parted(name)[0] in NAMES and name not in EMBEDDED:
        raise UserError(f"{name} is a set of the paper tier; use --tier paper")
    return name
