"""Graphs of all tiers, as one type: embedded Cora, a third party's npz, Planetoid's pickles, OGB's archives, and generated ones.

Every loader ends in `make`, which turns any list of edges into a simple undirected graph, so that duplicates, single
directions, self-loops, isolated and unlabelled nodes are met in one place.  Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from suite import folders
from suite.naming import UserError

HERE = Path(__file__).resolve().parent / "data"
EMBEDDED = {"cora": HERE / "cora.npz"}
GENERATED = ("sbm",)
SPLITS = ("train", "val", "test")
MOST_CLASSES = 65_535
CLASSES = {
    "cora": (  # told by the classes' sizes
        "theory",
        "reinforcement-learning",
        "genetic-algorithms",
        "neural-networks",
        "probabilistic-methods",
        "case-based",
        "rule-learning",
    ),
}
#: raw citations, which the count of GEBT's convention takes
CITATIONS = {"cora": 5_429, "citeseer": 4_732, "pubmed": 44_338}
LISTED = {"citeseer": 3_312}  #: nodes that the source has, which that count takes too, where the files' numbering goes on further
PLANETOID = ("cora", "citeseer", "pubmed")
PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
#: SHA-256 of the files of github.com/kimiyoung/planetoid; none is known of pubmed's allx
CHECKSUMS = {
    "cora.x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
    "cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
    "cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
    "cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
    "cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
    "cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
    "cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
    "cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    "citeseer.x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
    "citeseer.y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
    "citeseer.tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
    "citeseer.ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
    "citeseer.allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
    "citeseer.ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
    "citeseer.graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
    "citeseer.test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    "pubmed.x": "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
    "pubmed.y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
    "pubmed.tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
    "pubmed.ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
    "pubmed.ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
    "pubmed.graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
    "pubmed.test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
}
#: All that Planetoid's pickles need; whatever else a pickle names is refused.
ALLOWED = {
    ("__builtin__", "list"),
    ("builtins", "list"),
    ("collections", "defaultdict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("scipy.sparse.csr", "csr_matrix"),
    ("scipy.sparse._csr", "csr_matrix"),
}
#: OGB's archives: folder in the zip, split, licence as OGB's site states it
OGB = {"ogbn-arxiv": ("arxiv", "time", "ODC-BY"), "ogbn-proteins": ("proteins", "species", "CC0")}
OGB_LINKS = {"ogbl-collab": ("collab", "time", "ODC-BY")}  #: of link prediction
#: nodes, edges, features, classes, training nodes of the sets that the speed division and the benchmarks imitate
SHAPES = {
    "cora": (2_708, 5_278, 1_433, 7, 140),
    "citeseer": (3_327, 4_552, 3_703, 6, 120),
    "pubmed": (19_717, 44_324, 500, 3, 60),
    "ogbn-arxiv": (169_343, 1_157_799, 128, 40, 90_941),
    "ogbl-collab": (235_868, 1_179_052, 128, 2, 1_000),
    "sbm": (600, 1_800, 32, 5, 100),
}

#: arrays of a graph of one's own that are read
KEYS = {"edges", "edge_index", "x", "x_indptr", "x_indices", "x_data", "x_shape", "y", "classes"}
KEYS |= {f"{part}_{kind}" for part in SPLITS for kind in ("idx", "mask")}

Features = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True)
class GraphData:
    """A simple undirected graph with labelled nodes.

    `row`, `col` int64 (E,): each edge as two entries, in row-major order; self-loops only where they were to be kept.
    `x` (n, f) float32, sparse rows or a table.  `y` int64 (n,), -1 where there is no label; where nodes have several labels,
    float32 (n, labels) of 0, 1 and NaN, which is none.  `split`: node numbers.
    """

    name: str
    row: np.ndarray
    col: np.ndarray
    x: Features
    y: np.ndarray
    split: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    citations: int  #: edges as the source counts them
    notes: tuple[str, ...] = ()  #: what of the files was not taken

    @property
    def nodes(self) -> int:
        return len(self.y)

    def degree(self) -> np.ndarray:
        """Neighbours of each node, itself not counted."""
        other = self.row != self.col
        return np.bincount(self.row[other], minlength=self.nodes)


def make(
    name: str,
    edges: np.ndarray,
    x: Features,
    y: np.ndarray,
    split: Mapping[str, np.ndarray],
    classes: tuple[str, ...] = (),
    *,
    self_loops: Literal["strip", "keep"] = "strip",
    normalise: bool = True,
) -> GraphData:
    """A `GraphData` of raw arrays.

    Args:
        edges: (m, 2) node numbers, any order, directions and repetitions.
        y: (n,) or (n, 1) class numbers, negative or NaN where a node has none; (n, labels) of 0, 1 and NaN where it has several.
        split: node numbers of train, val, test, or for each node whether it belongs; nodes without a label are left out of them.
        self_loops: `keep` is the original's treatment of CiteSeer and PubMed, which prunes them like other entries.
        normalise: divide features by their row sum (rows of zeros stay).

    Raises:
        UserError: node numbers out of range, splits that overlap or are empty, features of another length, or not finite.
    """
    y, labelled, count = _labels(name, y)
    n = len(y)
    edges = np.asarray(edges)
    if edges.ndim != 2 or edges.shape[1] != 2 or (edges.size and not np.issubdtype(edges.dtype, np.integer)):
        turn = "; this looks like PyG's edge_index: give it that name" if edges.ndim == 2 and edges.shape[0] == 2 else ""
        raise UserError(f"{name}: edges are {edges.dtype} {edges.shape}; give whole node numbers of shape (m, 2){turn}")
    if edges.size and (edges.min() < 0 or edges.max() >= n):
        raise UserError(f"{name}: edges name nodes {edges.min()}..{edges.max()}, but there are labels for 0..{n - 1}")
    if len(x.shape) != 2 or x.shape[0] != n or not x.shape[1] or x.dtype.kind not in "biuf":
        raise UserError(f"{name}: features are {x.dtype} {x.shape} for {n} nodes; give one row a node, of numbers")
    chosen = {}
    for part in SPLITS:
        index = _index(name, part, np.asarray(split[part]), n)
        if len(index) and (index.min() < 0 or index.max() >= n):
            raise UserError(f"{name}: the split {part!r} names nodes {index.min()}..{index.max()} of {n}")
        chosen[part] = index[labelled[index]]
        if not len(chosen[part]):
            raise UserError(f"{name}: the split {part!r} holds no labelled node")
    every = np.concatenate(list(chosen.values()))
    if len(np.unique(every)) != len(every):
        raise UserError(
            f"{name}: a node stands in two splits, or twice in one; each node belongs to one at most (a mask is of bool: numbers"
            " are taken for nodes)"
        )
    row, col = simple(edges, n, self_loops)
    loops = int((row == col).sum())
    if len(classes) < count:
        classes = (*classes, *(f"{'class' if y.ndim == 1 else 'label'} {i}" for i in range(len(classes), count)))
    citations = CITATIONS.get(name, (len(row) + loops) // 2)
    return GraphData(name, row, col, _features(name, x, normalise), y, chosen, tuple(classes), citations)


def _index(name: str, part: str, chosen: np.ndarray, n: int) -> np.ndarray:
    """Node numbers of a split, int64, from numbers or from a mask (n,) of truth values."""
    flat = chosen.ravel()
    if flat.dtype == bool:
        if len(flat) != n:
            raise UserError(f"{name}: the mask of the split {part!r} is {chosen.shape} for {n} nodes; give one truth value a node")
        return np.flatnonzero(flat)
    if flat.size and not np.issubdtype(flat.dtype, np.integer):
        raise UserError(f"{name}: the split {part!r} is {chosen.dtype} {chosen.shape}; give whole node numbers, or a mask of bool")
    return flat.astype(np.int64)


def _labels(name: str, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels as `GraphData` has them, which nodes have any, and how many classes or labels there are."""
    if y.ndim == 2 and y.shape[1] == 1:  # as OGB writes classes
        y = y[:, 0]
    if y.ndim not in (1, 2) or y.dtype.kind not in "biuf":
        raise UserError(f"{name}: labels are {y.dtype} {y.shape}; give class numbers (n,), or 0 and 1 of shape (n, labels)")
    if y.ndim == 2:
        y = y.astype(np.float32)
        known = np.isfinite(y)
        if not np.isin(y[known], (0, 1)).all():
            raise UserError(f"{name}: several labels a node are 0, 1 or missing, and there are others; unpack the archive again")
        labelled, count = known.any(1), y.shape[1]
    else:
        y = y.astype(np.int64) if y.dtype.kind in "biu" else y
        y = np.where(np.isfinite(y) & (y >= 0), y, -1)
        if (y != np.floor(y)).any():
            raise UserError(f"{name}: labels such as {y[y != np.floor(y)][0]:g} are no class numbers; number the classes from 0")
        y = y.astype(np.int64)
        if y.max(initial=-1) > MOST_CLASSES:
            raise UserError(f"{name}: a label is {y.max()}: these are no class numbers; number the classes from 0")
        labelled = y >= 0
        count = int(y.max(initial=-1)) + 1
    if not labelled.any():
        raise UserError(f"{name}: no node has a label")
    return y, labelled, count


def listed(name: str, nodes: int) -> int:
    """Nodes that a set's source has, of so many in its graph; ``citeseer-links`` and the like are CiteSeer."""
    return LISTED.get(name.partition("-")[0], nodes)


def simple(edges: np.ndarray, n: int, self_loops: Literal["strip", "keep"] = "strip") -> tuple[np.ndarray, np.ndarray]:
    """Both directions of every edge once, in row-major order: row and col, int64."""
    edges = edges.astype(np.int64)
    both = np.concatenate([edges, edges[:, ::-1]]) if len(edges) else edges.reshape(0, 2)
    if self_loops == "strip":
        both = both[both[:, 0] != both[:, 1]]
    key = np.unique(both[:, 0] * n + both[:, 1])
    return key // n, key % n


def _features(name: str, x: Features, normalise: bool) -> Features:
    x = x.tocsr().astype(np.float32) if sparse.issparse(x) else np.asarray(x, np.float32)
    values = x.data if sparse.issparse(x) else x
    if not np.isfinite(values).all():
        raise UserError(f"{name}: features are not all finite numbers")
    if not normalise:
        return x
    total = np.asarray(x.sum(1, dtype=np.float64)).ravel()
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total != 0).astype(np.float32)
    if sparse.issparse(x):
        x = sparse.csr_matrix(sparse.diags(scale, dtype=np.float32) @ x)
        x.sort_indices()
        return x
    return x * scale[:, None]


# -- where graphs come from


PROJECTED = "-128"  #: ends the name of a set whose features are projected to that many columns, as transfer between graphs needs


def projected(name: str, folder: str) -> bool:
    """Whether a name means another set with its features projected; a file of one's own may have such a name itself.

    Raises UserError where a file has the name of a shipped set's projection.
    """
    if not name.endswith(PROJECTED):
        return False
    if name.removesuffix(PROJECTED) in (*EMBEDDED, *GENERATED):
        folders.not_shadowed(folder, name, (".npz",))
        return True
    return not folder or folders.named(Path(folder), name, (".npz",)) is None


def locate(name: str, folder: str) -> Path | None:
    """The file or folder of a set, None for a generated one; raises UserError that says what to put where, under which licence."""
    if projected(name, folder):
        name = name.removesuffix(PROJECTED)
    if path := folders.shipped(EMBEDDED, name, folder):
        return path
    if name in GENERATED:
        folders.not_shadowed(folder, name, (".npz",))
        return None
    if not folder:
        raise UserError(f"the graph {name!r} is not shipped: name its folder with --data DIR or WEIGHIN_DATA")
    root = Path(folder)
    if name in OGB or name in OGB_LINKS:
        zipped, split, licence = (OGB | OGB_LINKS)[name]
        kind = "node" if name in OGB else "link"
        for found in (root / name.replace("-", "_"), root / zipped):
            if (found / "raw" / "edge.csv.gz").is_file() and (found / "split" / split).is_dir():
                return found
        raise UserError(
            f"no {root / zipped}/raw/edge.csv.gz: unpack http://snap.stanford.edu/ogb/data/{kind}proppred/{zipped}.zip into {root}"
            f" (licence: {licence}); raw/, split/{split}/ stand below {zipped}/"
        )
    if name in PLANETOID:
        for found in (root / "planetoid", root, root / name, root / name / "raw", root / "raw"):
            if (found / f"ind.{name}.graph").is_file():
                return found
    path = folders.named(root, name, (".npz",)) or root / f"{name}.npz"
    if path.is_file():
        return path
    if name in PLANETOID:
        raise UserError(
            f"no {root}/planetoid/ind.{name}.graph: put the eight files ind.{name}.{{{','.join(PARTS)}}} of"
            f" github.com/kimiyoung/planetoid (data/) into {root}/planetoid (code: MIT; no licence is stated of the data: do not"
            " hand them on)"
        )
    raise UserError(
        f"no {path}: an npz with edges (m, 2), y, train_idx, val_idx, test_idx (or train_mask, ...), and features x (n, f) or"
        f" x_indptr, x_indices, x_data, x_shape{folders.like(root, name, ('.npz',))}"
    )


@lru_cache(maxsize=8)
def digest(name: str, folder: str) -> str:
    """SHA-256 of a file, of the files of a set together, or of what a generated set is made by."""
    if projected(name, folder):
        whole = digest(name.removesuffix(PROJECTED), folder)
        return hashlib.sha256(f"{whole} projected 1".encode()).hexdigest()
    path = locate(name, folder)
    if path is None:
        return hashlib.sha256(f"generated {name} 1".encode()).hexdigest()
    own = path.is_file() and name not in EMBEDDED and name not in PLANETOID
    if own:
        load(name, folder)  # what is wrong with it is said before a run
    archive = sorted([*path.rglob("*.csv.gz"), *path.rglob("*.pt")]) if name in OGB or name in OGB_LINKS else []
    files = [path] if path.is_file() else archive or sorted(path.glob(f"ind.{name}.*"))
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as f:
            inner = hashlib.file_digest(f, "sha256").hexdigest()
        if len(files) == 1:  # of one's own: since features are taken as they are given, another set than before
            return hashlib.sha256(f"{inner} as given".encode()).hexdigest() if own else inner
        whole.update(f"{file.name} {inner}\n".encode())
    return whole.hexdigest()


@lru_cache(maxsize=4)
def load(name: str, folder: str, normalise: bool = True) -> GraphData:
    """A set by its name; self-loops are stripped.  ``<name>-128`` is the set with its features projected.

    Args:
        normalise: divide features by their row sum, as all questions about nodes of the citation graphs do; those of other sets
            are taken as they are given.
    """
    if projected(name, folder):
        return project(load(name.removesuffix(PROJECTED), folder, normalise))
    path = locate(name, folder)
    if path is None:
        return block_model()
    if path.is_file():
        return _npz(name, path, normalise and name in PLANETOID)
    if name in OGB:
        return _ogb(name, path)
    raw = read_planetoid(path, name)
    split = {p: raw[f"{p}_idx"] for p in SPLITS}
    return make(name, np.stack([raw["row"], raw["col"]], 1), raw["x"], raw["y"], split, CLASSES.get(name, ()), normalise=normalise)


def _npz(name: str, path: Path, normalise: bool) -> GraphData:
    """Cora's file, or one of one's own in the same keys; PyG's `edge_index` (2, m) and masks are read too."""
    try:
        with np.load(path, allow_pickle=False) as z:
            arrays = {k: z[k] for k in z.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, zlib.error, TypeError, AttributeError) as e:
        raise UserError(f"{path}: not an npz file without pickles that can be read: {e}") from e
    for one, other in (("edges", "edge_index"), *((f"{p}_idx", f"{p}_mask") for p in SPLITS)):
        if one in arrays and other in arrays:
            raise UserError(f"{path}: holds both {one} and {other}, of which one is read: leave the other out")
    if "edge_index" in arrays:
        if arrays["edge_index"].ndim != 2 or len(arrays["edge_index"]) != 2:
            raise UserError(f"{path}: edge_index is {arrays['edge_index'].shape}; PyG's is (2, m): turn it, or call it edges")
        arrays["edges"] = arrays["edge_index"].T
    for part in SPLITS:
        if f"{part}_mask" in arrays:
            mask = arrays[f"{part}_mask"]
            if not np.isin(mask, (0, 1)).all():
                raise UserError(f"{path}: {part}_mask has other values than 0 and 1: store it as bool")
            arrays[f"{part}_idx"] = mask != 0
    sparse_keys = ("x_indptr", "x_indices", "x_data", "x_shape")
    needed = ["edges", "y", *(f"{p}_idx" for p in SPLITS), *([] if "x" in arrays else sparse_keys)]
    missing = [k for k in needed if k not in arrays]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; it must hold edges, y, x (or {', '.join(sparse_keys)}), *_idx")
    if "x" in arrays:
        x: Features = arrays["x"]
    else:
        try:
            triple = (arrays["x_data"].astype(np.float32), arrays["x_indices"], arrays["x_indptr"])
            x = sparse.csr_matrix(triple, shape=tuple(arrays["x_shape"]))
            x.check_format(full_check=True)
        except (ValueError, IndexError, TypeError) as e:
            raise UserError(f"{path}: x_indptr, x_indices, x_data, x_shape are no compressed rows: {e}") from e
    classes = tuple(str(c) for c in np.atleast_1d(arrays["classes"])) if "classes" in arrays else CLASSES.get(name, ())
    _check_classes(path, arrays["y"], classes)
    split = {p: arrays[f"{p}_idx"] for p in SPLITS}
    data = make(name, arrays["edges"], x, arrays["y"], split, classes, normalise=normalise)
    return data if name in EMBEDDED else replace(data, notes=tuple(_told(arrays, data)))


def _told(arrays: Mapping[str, np.ndarray], data: GraphData) -> Iterator[str]:
    """What of a graph of one's own was not taken."""
    if unread := sorted(set(arrays) - KEYS):
        yield f"arrays that are not read: {', '.join(unread)[:200]}"
    edges = arrays["edges"]
    loops = int((edges[:, 0] == edges[:, 1]).sum())
    again = len(edges) - loops - len(data.row) // 2
    if loops or again:
        yield f"of {len(edges)} edges {loops} self-loops were dropped, and {again} that repeat another, in either direction"
    for part in SPLITS:
        given = arrays[f"{part}_idx"]
        count = int(given.sum()) if given.dtype == bool else given.size
        if count > len(data.split[part]):
            yield f"of {count} nodes of {part} {count - len(data.split[part])} have no label, and were left out"


def _check_classes(path: Path, y: np.ndarray, classes: Sequence[str]) -> None:
    """One class a node, numbered without gaps where the classes have no names.  Raises UserError."""
    if y.ndim == 2 and y.shape[1] > 1:
        turn = "of shape (n,)" if len(y) == 1 else "of one-hot rows y.argmax(1)"
        raise UserError(f"{path}: y is {y.shape}; give one class number a node, {turn}")
    if y.dtype.kind not in "biuf":
        return  # told by `make`, as all else that is wrong with it
    found = np.unique(y[np.isfinite(y) & (y >= 0)])
    if not classes and len(found) and found[-1] + 1 > 2 * len(found):
        raise UserError(
            f"{path}: y names {len(found)} classes by numbers up to {found[-1]:g}: number the classes from 0, write -1 where a node"
            " has none, or name all of them in `classes`"
        )


def project(data: GraphData, columns: int = 128) -> GraphData:
    """Features times a Gaussian matrix of the set's own, entries N(0, 1/columns) (after the abstract of Hui et al. 2023)."""
    seed = int.from_bytes(hashlib.sha256(data.name.encode()).digest()[:8], "big")
    rng = np.random.Generator(np.random.Philox(seed))
    matrix = rng.standard_normal((data.x.shape[1], columns)).astype(np.float32) / np.float32(columns**0.5)
    return replace(data, name=f"{data.name}-{columns}", x=np.ascontiguousarray(data.x @ matrix, np.float32))


# -- Planetoid


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UserError(f"a Planetoid file names {module}.{name}, which none of the official ones does; get them again")
        if name == "csr_matrix":
            return sparse.csr_matrix
        return super().find_class(module.replace("__builtin__", "builtins").replace("numpy.core", "numpy._core"), name)


def read_planetoid(folder: Path, name: str) -> dict[str, Any]:
    """The official files ``ind.<name>.*`` as they are: what UGS's `load_data` returns, without its row normalisation.

    Returns:
        row, col: all entries of the simple adjacency, self-loops among them, in row-major order.
        x: (n, f) sparse rows, in node order; y: (n,) int64, -1 for the nodes that the files leave out (CiteSeer's fifteen,
        whose rows are zero: argmax would call them class 0); train_idx, val_idx, test_idx.

    Raises:
        UserError: a file is missing, is not the official one, or holds what no such file holds.
    """
    parts = {}
    for part in PARTS:
        path = folder / f"ind.{name}.{part}"
        if not path.is_file():
            raise UserError(f"no {path}: all of ind.{name}.{{{','.join(PARTS)}}} must lie together")
        known = CHECKSUMS.get(f"{name}.{part}")
        with path.open("rb") as f:
            if known and hashlib.file_digest(f, "sha256").hexdigest() != known:
                raise UserError(f"{path}: not the official file (its checksum differs); get it again")
            f.seek(0)
            try:
                parts[part] = f.read().split() if part == "test.index" else _Restricted(f, encoding="latin1").load()
            except (pickle.UnpicklingError, EOFError, ValueError, AttributeError, IndexError) as e:
                raise UserError(f"{path}: not a Planetoid file that can be read: {e}") from e
    order = np.array([int(i) for i in parts["test.index"]])
    ranked = np.sort(order)
    tx, ty = parts["tx"], np.asarray(parts["ty"])
    span = int(ranked[-1] - ranked[0]) + 1
    if span > len(ranked):  # test nodes without a file entry: rows of zeros keep the numbering whole
        place = ranked - ranked[0]
        spread = sparse.csr_matrix((np.ones(len(place), np.float32), (place, np.arange(len(place)))), (span, len(place)))
        tx, ty = sparse.csr_matrix(spread @ tx), np.asarray(spread @ ty)
    n = parts["allx"].shape[0] + tx.shape[0]
    at = np.arange(n)
    at[order] = ranked  # row of the stacked table that each node's features and labels stand in
    x = sparse.vstack([parts["allx"], tx]).tocsr()[at]
    one_hot = np.concatenate([np.asarray(parts["ally"]), ty])[at]
    y = np.where(one_hot.any(1), one_hot.argmax(1), -1)
    graph = parts["graph"]
    source = np.repeat(np.fromiter(graph, np.int64, len(graph)), [len(v) for v in graph.values()])
    target = np.fromiter((u for v in graph.values() for u in v), np.int64, len(source))
    row, col = simple(np.stack([source, target], 1), n, "keep")
    first = len(parts["y"])
    return {
        "row": row,
        "col": col,
        "x": x,
        "y": y.astype(np.int64),
        "train_idx": np.arange(first),
        "val_idx": np.arange(first, first + 500),
        "test_idx": ranked,
    }


# -- OGB


def _ogb(name: str, folder: Path) -> GraphData:
    """An unpacked official archive of node classification (OGB 1.3.6): CSV files without headers."""
    _, split, _ = OGB[name]
    n = int(read_csv(folder / "raw" / "num-node-list.csv.gz", np.int64).ravel()[0])
    edges = read_csv(folder / "raw" / "edge.csv.gz", np.int64)
    x = _of_edges(name, folder, edges, n) if name == "ogbn-proteins" else read_csv(folder / "raw" / "node-feat.csv.gz", np.float32)
    y = read_csv(folder / "raw" / "node-label.csv.gz", np.float64)
    if len(x) != n or len(y) != n:
        raise UserError(f"{folder}: {len(x)} rows of features and {len(y)} of labels for {n} nodes; unpack the archive again")
    names = {"train": "train", "val": "valid", "test": "test"}
    index = {p: read_csv(folder / "split" / split / f"{file}.csv.gz", np.int64).ravel() for p, file in names.items()}
    return make(name, edges, x, y if y.shape[1] > 1 else y[:, 0], index, normalise=False)


def _of_edges(name: str, folder: Path, edges: np.ndarray, n: int) -> np.ndarray:
    """Features of nodes that have none of their own: the species, one column each, and the mean of their edges' features."""
    places = [folder / "raw" / f"{file}.csv.gz" for file in ("node_species", "species")]
    species = read_csv(next((p for p in places if p.is_file()), places[0]), np.int64).ravel()
    values = read_csv(folder / "raw" / "edge-feat.csv.gz", np.float32)
    if len(species) != n or len(values) != len(edges):
        raise UserError(
            f"{folder}: {len(species)} species of {n} nodes, features of {len(values)} of {len(edges)} edges;"
            " unpack the archive again"
        )
    if len(edges) and (edges.min() < 0 or edges.max() >= n):
        raise UserError(f"{name}: edges name nodes {edges.min()}..{edges.max()} of {n}; unpack the archive again")
    one_hot = species[:, None] == np.unique(species)
    return np.concatenate([one_hot.astype(np.float32), incident_mean(edges, values, n)], 1)


def incident_mean(edges: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Mean (n, f) over each node's edges (m, 2) of their features (m, f); zeros for a node without one.

    Of an edge that is listed again, in either direction, the first counts; self-loops do not.
    """
    ends = np.sort(edges, 1)
    _, first = np.unique(ends[:, 0] * n + ends[:, 1], return_index=True)
    first = first[ends[first, 0] != ends[first, 1]]
    node = ends[first].T.ravel()
    count = np.maximum(np.bincount(node, minlength=n), 1)
    total = [np.bincount(node, np.tile(column[first], 2), n) for column in values.T]
    return np.asarray((np.stack(total, 1) / count[:, None]).astype(np.float32))


def read_csv(path: Path, kind: Any) -> np.ndarray:
    """A table of an archive: gzip, commas, no header; raises UserError where it is missing or torn."""
    import pandas as pd

    if not path.is_file():
        raise UserError(f"no {path}: unpack the official archive again")
    try:
        return np.asarray(pd.read_csv(path, header=None, compression="gzip", dtype=kind).to_numpy(kind))
    except (ValueError, OSError, EOFError) as e:
        raise UserError(f"{path}: cannot be read: {e}; unpack the official archive again") from e


# -- generated


def block_model(seed: int = 0, blocks: int = 5, size: int = 120, inside: float = 0.04, outside: float = 0.004) -> GraphData:
    """A stochastic block model with a fifth of noise edges between blocks (our own protocol); see `noise_edges`."""
    return _block_model(seed, blocks, size, inside, outside)[0]


def noise_edges(seed: int = 0) -> np.ndarray:
    """The (m, 2) noise edges of `block_model`: what a sparsifier should drop first."""
    return _block_model(seed, 5, 120, 0.04, 0.004)[1]


def _block_model(seed: int, blocks: int, size: int, inside: float, outside: float) -> tuple[GraphData, np.ndarray]:
    rng = np.random.Generator(np.random.Philox(seed))
    n = blocks * size
    y = np.repeat(np.arange(blocks), size)
    u, v = np.triu_indices(n, 1)
    same = y[u] == y[v]
    drawn = rng.random(len(u)) < np.where(same, inside, outside)
    free = np.flatnonzero(~drawn & ~same)
    noise = rng.choice(free, int(0.2 * drawn.sum()), replace=False)
    every = np.concatenate([np.flatnonzero(drawn), noise])
    means = rng.standard_normal((blocks, 32))
    x = (means[y] + rng.standard_normal((n, 32))).astype(np.float32)
    order = rng.permuted(np.arange(n).reshape(blocks, size), axis=1)
    split = {"train": order[:, :20].ravel(), "val": order[:, 20:40].ravel(), "test": np.sort(order[:, 40:].ravel())}
    data = make("sbm", np.stack([u[every], v[every]], 1), x, y, split, normalise=False)
    return data, np.stack([u[noise], v[noise]], 1)


def imitation(name: str, seed: int = 0) -> GraphData:
    """A graph of a set's shape without its content, for the speed division and benchmarks: degrees are as skewed as citations'."""
    if name.endswith(PROJECTED):
        return project(imitation(name.removesuffix(PROJECTED), seed))
    if name not in SHAPES:
        raise UserError(f"the speed division knows no graph {name!r}; there are: {', '.join(SHAPES)}")
    n, edges, f, classes, train = SHAPES[name]
    rng = np.random.Generator(np.random.Philox(seed))
    key = np.zeros(0, np.int64)
    while len(key) < edges:
        # squared uniforms: a few nodes meet many
        pair = np.sort((n * rng.random((2, 2 * (edges - len(key)) + 16)) ** [[1.0], [2.0]]).astype(np.int64), axis=0)
        key = np.unique(np.concatenate([key, (pair[0] * n + pair[1])[pair[0] != pair[1]]]))
    key = rng.choice(key, edges, replace=False)
    per_row = min(f, 18)
    if f <= 128:
        x: Features = rng.standard_normal((n, f)).astype(np.float32)
    else:
        data = np.full(n * per_row, 1 / per_row, np.float32)
        places = rng.integers(0, f, n * per_row)
        x = sparse.csr_matrix((data, places, np.arange(n + 1) * per_row), (n, f))
        x.sum_duplicates()
    order = rng.permutation(n)
    left = (n - train) // 2
    split = {"train": order[:train], "val": order[train : train + left], "test": order[train + left :]}
    return make(name, np.stack([key // n, key % n], 1), x, rng.integers(0, classes, n), split, normalise=False)
