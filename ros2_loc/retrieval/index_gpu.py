"""A copy of an index on the graphics card, where faiss was built for one."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import FloatArray
from ros2_loc.retrieval.index_kinds import lists_of, storage_of

_MOST = 2048  # neighbours and lists that a search on the card can have


class GpuCopy:
    """Exact vectors, or codes and lists; what the codes find is put in order by the vectors that stay with the processor."""

    def __init__(self, index: Any) -> None:
        self._compressed = isinstance(index, faiss.IndexRefine)
        self._storage = storage_of(index)
        self._refine = int(index.k_factor) if self._compressed else 1
        options = faiss.GpuClonerOptions()
        options.useFloat16 = self._compressed  # tables of 64 parts fit a card's shared memory only as half floats
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.index_cpu_to_gpu(self._resources, 0, lists_of(index) if self._compressed else index, options)

    def search(self, queries: FloatArray, k: int, effort: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """(Q, k) scores and rows, best first, -1 where there are fewer."""
        if not self._compressed:
            return self._index.search(queries, min(k, _MOST))  # type: ignore[no-any-return]
        parameters = faiss.SearchParametersIVF(nprobe=min(effort, _MOST))
        rows = self._index.search(queries, min(k * self._refine, _MOST), params=parameters)[1]
        vectors = self._storage.reconstruct_batch(np.maximum(rows, 0).ravel()).reshape(*rows.shape, -1)
        scores = np.where(rows >= 0, np.einsum("qd,qkd->qk", queries, vectors), -np.inf).astype(np.float32)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)


def on_gpu(index: Any) -> GpuCopy | None:
    """None without faiss-gpu, without a card, or for what faiss keeps on the processor: graphs, and exact search in less than 32 bits."""
    if getattr(faiss, "get_num_gpus", lambda: 0)() < 1 or not isinstance(index, (faiss.IndexFlat, faiss.IndexRefine)):
        return None
    return GpuCopy(index)
