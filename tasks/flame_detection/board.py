"""What the board shows of flame detection beside its ranks: tables of what is never one column, pictures, embeddings, losses."""

from __future__ import annotations

from suite.show import Composition, Figures, Gallery, Likeness, Parts, Scatter, Show
from tasks.flame_detection import crops, plane

SHARE = "share."  #: what the names of the points begin with by which runs tell each loss's share of the gradients
LICENCE = (
    "CC BY-NC 4.0, [FLAME 3 sample images](https://github.com/mnmarinaccio/FLAME3_ThresholdingUtils) by Michael Marinaccio and"
    " Fatemeh Afghah; not for commercial use"
)
FOUR = (
    "Four scenes and no more: a test of loaders and code on real radiometric pictures, not a result about fires. One of them is"
    " filled with smoke. Labels of RGB mean a flame that is seen, the truth is any pixel of 80 °C: they agree seldom, so read an"
    " accuracy beside the quality of the labels."
)
FIGURES = (
    Figures(
        "Clear and obscured patches",
        {
            "accuracy": "accuracy, clear",
            "auc": "ROC area, clear",
            "f1": "F1, clear",
            "balanced_accuracy:clear, RGB label": "balanced accuracy against RGB labels, clear",
            "balanced_accuracy:obscured, head": "balanced accuracy under smoke, head",
            "balanced_accuracy:obscured, nearest centre": "the same, nearest centre",
            "smoke_recall:fire, head": "recall under smoke, head",
            "smoke_recall:fire, nearest centre": "recall under smoke, nearest centre",
            "smoke_recall:80 degrees, head": "recall under smoke, 80 °C, head",
            "smoke_recall:80 degrees, nearest centre": "the same, nearest centre",
            "smoke_recall:200 degrees, nearest centre": "200 °C, nearest centre",
            "false_alarms:clear": "false alarms, clear",
            "label_balanced_accuracy:clear": "RGB labels of the test themselves, balanced accuracy",
            "frame_balanced_accuracy": "whole frames, balanced accuracy",
        },
        "Against the truth where nothing else is said. RGB labels are the same in every row: how far those of the test agree with"
        " the truth; of the rendered patches one in twenty of the training's is turned over besides.",
    ),
    *(
        Figures(
            f"Clusters under smoke, {how}",
            {
                f"silhouette:obscured, {how}": "silhouette",
                f"silhouette_cosine:obscured, {how}": "silhouette, cosine",
                f"davies_bouldin:obscured, {how}": "Davies–Bouldin",
                f"calinski_harabasz:obscured, {how}": "Calinski–Harabasz",
                f"dunn:obscured, {how}": "Dunn",
                f"separation:obscured, {how}": "D/S",
                f"intra_variance:obscured, {how}": "variance within, of 1",
                "variance_kept": "of the embedding's variance these are of",
                f"smaller_cluster:obscured, {how}": "in the smaller cluster",
            },
            rule,
        )
        for how, rule in (
            (
                "by prediction",
                "On the fixed sample of embeddings. Clusters that a method predicts are apart easily where it calls few patches"
                " flame: read them beside the share in the smaller one. Undefined, and not there: one cluster, a cluster of one"
                " patch, equal centroids.",
            ),
            ("by truth", "The same of what the patches truly are; never to be compared with the table above."),
        )
    ),
    Figures(
        "Centres",
        {
            "centre_separation": "apart, in spreads of the sample",
            "balanced_accuracy:clear, nearest centre": "balanced accuracy of the nearest centre, clear",
            "noted:centres_collapsed": "folds whose centres collapsed",
            "noted:centres_diverged": "folds whose centres diverged",
        },
        "Of methods that have centres. Collapsed: nearer than a tenth of the triplet margin at the end; diverged: more than 100"
        " apart after any epoch. Both as the methods noted them.",
    ),
    Figures(
        "A frame at a time",
        {
            f"{name}:{runtime}@{threads}{suffix}": f"{words}, {runtime}, {threads} thread{'s' * (threads > 1)}"
            for runtime in ("torch", "onnx", "openvino", "executorch", "onnx_int8")
            for threads in (1, 2)  # eager torch by one and by all that a row has, others by all
            for name, suffix, words in (
                ("frames_per_second", "", "frames a second"),
                ("frame_latency", " median", "median"),
                ("frame_latency", " p95", "95th percentile"),
            )
            if runtime == "torch" or name == "frames_per_second"
        },
        "640x512 end to end, decode to map, with seed 0: 50 frames to warm up, 300 timed one by one. Thermal cameras deliver 30 a"
        " second.",
    ),
)
SHOW = Show(
    words={
        "balanced_accuracy": "balanced accuracy",
        "silhouette": "silhouette",
        "worst_scene": "recall of the worst scene or kind, its classes alike",
    },
    families={
        "frame/onnx": "ONNX Runtime",
        "frame/onnx_int8": "ONNX Runtime, int8",
        "frame/openvino": "OpenVINO",
        "frame/executorch": "ExecuTorch",
    },
    parts=(Parts("scene_accuracy", "scene"),),
    figures=FIGURES,
    scatter=Scatter(
        "The sample's embedding",
        plane.points,
        plane.COLOURS,
        plane.SHAPES,
        plane.LANDMARKS,
        "Two principal components of the sampled test patches: of the scenes, those of the one that smoke fills; of the others,"
        " three in four are under smoke. What is called flame is by the nearest centre where there are centres.",
    ),
    composition=Composition(
        "What pulls at the embedding",
        SHARE,
        {"bce": "classifier", "rec": "reconstruction", "cl": "center", "tcl": "triplet", "tccl": "cosine triplet"},
        "Norm of each weighted loss's gradient on the embedding before the gate, as a share of all: does center loss dominate?"
        " Of the scenes: of the first fold alone.",
    ),
    gallery=Gallery(
        crops.pictures,
        reference="bce",
        credits=crops.CREDITS,
        size=crops.SIZE,
        rule=crops.RULE,
        likeness=Likeness("the area that is answered rightly", "%", crops.agreement),
    ),
    notes=(
        "FlameFinder is reconstructed: only its abstract could be read, no code is public. Its pieces are the paper's, layers,"
        " weights of the losses and the recipe are ours.",
        "Ranked on clear patches by the head, against the truth where it is known. Under smoke the nearest centre answers where"
        " a method has centres. Clusters by prediction and by truth are different questions and never share a column.",
        "Rates of the other networks are the best of two or three on the rendered validation patches, with one seed, and are used"
        " on the scenes as they are; those of bce, FlameFinder (1e-3), ResNet18 (1e-3) and VGG19 (1e-4) were not tuned.",
    ),
    cautions={
        "flame3_scenes": FOUR,
        "synthetic": "Rendered patches: an order of methods here depends on the rendering, and is a hypothesis about real fires"
        " alone.",
    },
    sources={
        "flame3_scenes": LICENCE,
        "synthetic": "rendered by this project from a fixed seed, Apache-2.0",
    },
)
