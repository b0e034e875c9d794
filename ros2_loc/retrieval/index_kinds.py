"""The three kinds of index over places: how each is built, searched and freed of what was removed.

All hold the vectors themselves besides (`storage_of`), so that a few places can be compared exactly and what a compressed index finds can
be put in order by the true scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros2_loc.core.types import FloatArray
from ros2_loc.errors import ConfigError

Kind = Literal["flat", "hnsw", "ivf_pq"]
KINDS: tuple[Kind, ...] = ("flat", "hnsw", "ivf_pq")
_CODEWORDS = 256  # of each part of a product code, one byte
_PER_LIST = 39  # vectors a centre is learned from, at least: faiss's own rule
_AT_ONCE = 20_000
_FEW_ROWS = 512  # gathered; more are compared in place, all rows passing a bitmap (measured: it wins from about 500 rows on)


@dataclass(frozen=True)
class IndexConfig:
    """How places are searched; the defaults suit maps of any size.

    `auto` takes the exact kind up to `max_flat_mb`, the graph up to `max_hnsw_mb` of 32-bit vectors and compressed lists beyond
    (benchmark/place_index.py: what each costs). An effort of 0 is found on building: the least that reaches `target_recall`.
    """

    kind: Literal["auto", "flat", "hnsw", "ivf_pq"] = "auto"
    stored: Literal["auto", "fp32", "fp16", "sq8"] = "auto"  # the vectors: exact when flat, else half floats
    max_flat_mb: float = 100.0
    max_hnsw_mb: float = 1024.0
    links: int = 32  # of a vertex of the graph
    construction_effort: int = 80  # vertices in view while the graph grows
    lists: int = 0  # inverted lists; 0: four times the square root of the count
    code_bytes: int = 64  # of a product code, at most; a divisor of the dimension is taken
    refine: int = 16  # times k: so many of what the codes find are put in order by the stored vectors
    effort: int = 0  # vertices in view (hnsw) or lists visited (ivf_pq)
    target_recall: float = 0.97  # of the ten nearest; of places asked for themselves, which is easier than a true query
    recall_queries: int = 200
    gpu: bool = True  # where faiss-gpu is installed and there is one; not for the graph, nor for searches among some places

    def __post_init__(self) -> None:
        for name in ("links", "construction_effort", "code_bytes", "refine", "recall_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be 1 or more")
        if self.lists < 0 or self.effort < 0 or not 0.0 < self.target_recall <= 1.0:
            raise ValueError("lists and effort are 0 or more, target_recall lies in (0, 1]")


def choose_kind(config: IndexConfig, count: int, dimension: int) -> Kind:
    """By the configuration, or by size.

    Raises:
        ConfigError: compressed lists for too few places to learn the codes from.
    """
    if config.kind == "ivf_pq" and count < _CODEWORDS:
        raise ConfigError(f"index kind ivf_pq needs {_CODEWORDS} places to learn its codes from, there are {count}: take auto or flat")
    if config.kind != "auto":
        return config.kind
    megabytes = count * dimension * 4 / 1e6
    if megabytes <= config.max_flat_mb or count < _CODEWORDS:
        return "flat"
    return "hnsw" if megabytes <= config.max_hnsw_mb else "ivf_pq"


def make(kind: Kind, config: IndexConfig, vectors: FloatArray, show_progress: bool = False) -> Any:
    """A faiss index over (P, D) float32 contiguous vectors; row i is number i."""
    dimension, count = vectors.shape[1], len(vectors)
    storage = _storage(config.stored, kind, dimension)
    if kind == "flat":
        index = storage
    elif kind == "hnsw":
        index = _graph(config, storage, dimension)
    else:
        index = faiss.IndexRefine(_lists(config, dimension, count), storage)
        index.own_fields = False  # Python owns both parts
        index.k_factor = float(config.refine)
    if not index.is_trained:
        index.train(_sample(vectors, index))
    append(index, vectors, show_progress)
    return index


def append(index: Any, vectors: FloatArray, show_progress: bool = False) -> None:
    """Add in portions, so that it can be shown and interrupted."""
    starts = range(0, len(vectors), _AT_ONCE)
    for start in tqdm(starts, desc=" index", disable=not show_progress, leave=False, dynamic_ncols=True):
        index.add(vectors[start : start + _AT_ONCE])


def storage_of(index: Any) -> Any:
    """The part that holds the vectors."""
    if isinstance(index, faiss.IndexRefine):
        return faiss.downcast_index(index.refine_index)
    return faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index


def lists_of(index: Any) -> Any:
    """The inverted lists of a compressed index."""
    return faiss.downcast_index(index.base_index)


def num_bytes(index: Any) -> int:
    """What the index takes: in memory, or of the page cache where it is mapped."""
    storage = storage_of(index)
    total = int(storage.ntotal) * int(storage.code_size)
    if isinstance(index, faiss.IndexHNSW):
        graph = index.hnsw
        return total + graph.neighbors.size() * 4 + graph.offsets.size() * 8 + graph.levels.size() * 4
    if isinstance(index, faiss.IndexRefine):
        lists = lists_of(index)
        return total + int(lists.ntotal) * (int(lists.code_size) + 8) + 4 * int(lists.d) * (int(lists.nlist) + _CODEWORDS)
    return total


def first_effort(index: Any) -> int:
    """Where the search for the least sufficient effort begins."""
    return 8 if isinstance(index, faiss.IndexRefine) else 32


def most_effort(index: Any) -> int:
    """More changes nothing, or makes the index pointless."""
    return int(lists_of(index).nlist) if isinstance(index, faiss.IndexRefine) else 1024


def search(
    index: Any, queries: FloatArray, k: int, effort: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """(Q, k) scores and rows, best first, -1 where there are fewer; only rows that are `allowed` (P,).

    The fewer are allowed the wider a graph or lists must be searched: the effort grows with the inverse of their share.
    """
    selector = None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    if allowed is not None:
        effort = int(np.ceil(effort * len(allowed) / max(1, np.count_nonzero(allowed))))
    return index.search(queries, k, params=_parameters(index, effort, selector))  # type: ignore[no-any-return]


def search_rows(index: Any, queries: FloatArray, k: int, rows: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.int64]]:
    """`search` among some rows, by their stored vectors alone: exact but for their precision."""
    storage = storage_of(index)
    if len(rows) > _FEW_ROWS:
        allowed = np.zeros(int(storage.ntotal), dtype=bool)
        allowed[rows] = True
        return search(storage, queries, k, 0, allowed)
    scores = queries @ storage.reconstruct_batch(rows).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), rows[best]


def compacted(index: Any, keep: NDArray[np.bool_]) -> Any:
    """The index without the rows that are not in `keep` (P,), the others numbered anew in their order.

    Codes and lists move; a graph, which can't lose vertices, is built again.
    """
    gone = faiss.IDSelectorBitmap(np.packbits(~keep, bitorder="little"))
    storage = storage_of(index)
    if isinstance(index, faiss.IndexHNSW):
        return _graph_again(index, storage, np.flatnonzero(keep))
    storage.remove_ids(gone)
    if isinstance(index, faiss.IndexRefine):
        lists = lists_of(index)
        lists.remove_ids(gone)
        _renumber(lists, np.cumsum(keep) - 1)
        index.ntotal = int(keep.sum())
    return index


def _storage(stored: str, kind: Kind, dimension: int) -> Any:
    if stored == "auto":
        stored = "fp32" if kind == "flat" else "fp16"
    if stored == "fp32":
        return faiss.IndexFlatIP(dimension)
    quantizer = faiss.ScalarQuantizer
    return faiss.IndexScalarQuantizer(
        dimension, quantizer.QT_fp16 if stored == "fp16" else quantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )


def _graph(config: IndexConfig, storage: Any, dimension: int) -> Any:
    if isinstance(storage, faiss.IndexFlat):
        index = faiss.IndexHNSWFlat(dimension, config.links, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexHNSWSQ(dimension, storage.sq.qtype, config.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = config.construction_effort
    return index


def _lists(config: IndexConfig, dimension: int, count: int) -> Any:
    lists = config.lists or 4 * int(np.sqrt(count))
    parts = min(config.code_bytes, dimension)
    while dimension % parts:
        parts -= 1
    centres = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(centres, dimension, max(1, min(lists, count // _PER_LIST)), parts, 8, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = index.pq.cp.max_points_per_centroid = 64
    return index


def _sample(vectors: FloatArray, index: Any) -> FloatArray:
    lists = int(lists_of(index).nlist) if isinstance(index, faiss.IndexRefine) else 1
    count = min(len(vectors), 64 * max(lists, _CODEWORDS))
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), count, replace=False))
    return vectors[rows]


def _parameters(index: Any, effort: int, selector: Any) -> Any:
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=min(effort, int(index.ntotal)), sel=selector)
    if isinstance(index, faiss.IndexRefine):
        lists = faiss.SearchParametersIVF(nprobe=min(effort, int(lists_of(index).nlist)), sel=selector)
        return faiss.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=lists)
    return None if selector is None else faiss.SearchParameters(sel=selector)


def _graph_again(index: Any, storage: Any, rows: NDArray[np.int64]) -> Any:
    links = index.hnsw.nb_neighbors(1)
    config = IndexConfig(links=links, construction_effort=index.hnsw.efConstruction)
    again = _graph(config, storage, int(index.d))
    if isinstance(storage, faiss.IndexScalarQuantizer):
        faiss.downcast_index(again.storage).sq.trained = storage.sq.trained
        again.is_trained = faiss.downcast_index(again.storage).is_trained = True
    for start in range(0, len(rows), _AT_ONCE):
        again.add(storage.reconstruct_batch(rows[start : start + _AT_ONCE]))
    return again


def _renumber(lists: Any, number: NDArray[np.int64]) -> None:
    for which in range(int(lists.nlist)):
        size = lists.invlists.list_size(which)
        if size:
            ids = faiss.rev_swig_ptr(lists.invlists.get_ids(which), size)
            ids[:] = number[ids]
