"""Nearest places by their global descriptors: exact, by a graph or by compressed lists; among some places where a prior says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Candidate, FloatArray, GlobalDescriptor
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.retrieval import index_kinds as kinds
from ros2_loc.retrieval.index_file import IndexMeta, read_index, write_index
from ros2_loc.retrieval.index_gpu import GpuCopy, on_gpu
from ros2_loc.retrieval.index_kinds import IndexConfig
from ros2_loc.retrieval.index_recall import exact_neighbours, recall_sample, sufficient_effort

_AMONG_EXACT = 20_000  # places that are compared one by one; a graph or lists are no faster among so few of many
_AT_ONCE = 100_000  # rows that are checked together
__all__ = ["IndexConfig", "PlaceIndex"]


class PlaceIndex:
    """Places by number; the score of unit vectors is their cosine. Not thread-safe while it is changed.

    Removed places stay in the file's rows, unseen, until `save`, which moves codes and lists together; a graph can't lose vertices and is
    built again there, which takes as long as building it did.
    """

    def __init__(self, index: Any, ids: NDArray[np.int64], meta: IndexMeta, mapped: bool = False, use_gpu: bool = True) -> None:
        """Use `build` or `load`."""
        self._index, self._ids, self._meta, self._mapped, self._use_gpu = index, ids, meta, mapped, use_gpu
        self._alive = np.ones(len(ids), dtype=bool)
        self._changed()

    @staticmethod
    def build(
        vectors: FloatArray,
        config: IndexConfig | None = None,
        encoder: str = "",
        ids: NDArray[np.int64] | None = None,
        show_progress: bool = False,
    ) -> PlaceIndex:
        """From the descriptors of all places.

        Args:
            vectors: (P, D) float32 of unit length; none is allowed, D is not 0.
            config: kind and effort.
            encoder: who made them; a query of another is refused. "" takes all.
            ids: (P,) the places' numbers, all different; their rows where not given.

        Raises:
            DataError: vectors that are not finite or not of unit length (which), or numbers given twice.
            ConfigError: a kind that can't be built of so few.
        """
        config = config or IndexConfig()
        vectors = _checked(vectors)
        count, dimension = vectors.shape
        numbers = _checked_ids(np.arange(count) if ids is None else ids, count)
        kind = kinds.choose_kind(config, count, dimension)
        index = kinds.make(kind, config, vectors, show_progress)
        effort, recall = 0, 1.0
        if count and (kind != "flat" or config.stored in ("fp16", "sq8")):
            sample = recall_sample(count, config.recall_queries)
            truth = exact_neighbours(vectors, sample)
            effort, recall = sufficient_effort(index, vectors[sample], sample, truth, config)
        meta = IndexMeta(encoder, kind, dimension, count, int(numbers.max(initial=-1)) + 1, effort, recall)
        return PlaceIndex(index, numbers, meta, use_gpu=config.gpu)

    @staticmethod
    def load(path: Path, memory_map: bool = False) -> PlaceIndex:
        """From a file of `save`; `memory_map` leaves it on disk (maps larger than the memory) and makes it read-only.

        Raises:
            DataError: not such a file.
        """
        index, ids, meta = read_index(Path(path), memory_map)
        return PlaceIndex(index, ids, meta, memory_map)

    def save(self, path: Path) -> None:
        """Write to `path` (the caller's temporary folder) what was not removed."""
        self._compact()
        write_index(Path(path), self._index, self._ids, replace(self._meta, count=len(self._ids)))

    def __len__(self) -> int:
        return int(self._alive.sum())

    @property
    def kind(self) -> str:
        """flat, hnsw or ivf_pq."""
        return self._meta.kind

    @property
    def encoder(self) -> str:
        """Who made the vectors; "" where it was not said."""
        return self._meta.encoder

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return self._meta.dimension

    @property
    def effort(self) -> int:
        """Vertices in view or lists visited by a search; 0 where all is compared."""
        return self._meta.effort

    @property
    def recall_of_flat(self) -> float:
        """Share of the ten nearest that is found, measured when it was built, of some places asked for their neighbours."""
        return self._meta.recall_of_flat

    @property
    def num_bytes(self) -> int:
        """In memory; of the disk, and of the page cache as far as it is used, where it is mapped."""
        return kinds.num_bytes(self._index) + self._ids.nbytes + self._alive.nbytes

    def search(self, query: GlobalDescriptor, k: int, among: NDArray[np.int64] | None = None) -> list[Candidate]:
        """The `k` best places, best first, fewer where the map has fewer; only those in `among` (numbers) where it is given.

        Raises:
            DataError: a query of another encoder or size, or not finite.
            ConfigError: no place is asked for.
        """
        self._check_query(query, k)
        vector = np.ascontiguousarray(query.vector[None], dtype=np.float32)
        scores, rows = self._search(vector, k, among)
        found = [(row, score) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]
        return [Candidate(int(self._ids[row]), float(score)) for row, score in found]

    def add(self, vectors: FloatArray, ids: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Put in more places; returns their numbers, which go on after the last one ever given where they are not said.

        Raises:
            DataError: vectors of another size or not finite, numbers that are in use, or an index that is mapped.
        """
        self._require_writable()
        vectors = _checked(vectors)
        if vectors.shape[1] != self.dimension:
            raise DataError(f"vectors have {vectors.shape[1]} numbers, the index {self.dimension}: encode them as the map was")
        first = self._meta.next_id
        numbers = _checked_ids(np.arange(first, first + len(vectors)) if ids is None else ids, len(vectors))
        used = np.isin(numbers, self._ids)  # removed ones too: they are in the rows until they are saved
        if used.any():
            raise DataError(f"place {numbers[used][0]} is in the index already: give it another number")
        kinds.append(self._index, vectors)
        self._ids = np.concatenate([self._ids, numbers])
        self._alive = np.concatenate([self._alive, np.ones(len(numbers), dtype=bool)])
        self._meta = replace(self._meta, next_id=max(first, int(numbers.max(initial=-1)) + 1), count=len(self._ids))
        self._changed()
        return numbers

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Take places out; their numbers are not given again.

        Raises:
            DataError: a number that the index does not have, or an index that is mapped.
        """
        self._require_writable()
        wanted = _checked_ids(ids, len(ids))
        rows = self._rows_of(wanted)
        if len(rows) < len(wanted):
            missing = np.setdiff1d(wanted, self._ids[rows])
            raise DataError(f"place {missing[0]} is not in the index: {len(self)} places are")
        self._alive[rows] = False
        self._changed()

    def vectors(self, ids: NDArray[np.int64]) -> FloatArray:
        """(N, D) of the places of these numbers, as exact as they are stored; raises DataError for one that is not in the index."""
        rows = self._rows_of(ids)
        if len(rows) != len(ids):
            raise DataError(f"{len(ids) - len(rows)} of {len(ids)} places are not in the index, which has {len(self)}")
        return np.asarray(kinds.storage_of(self._index).reconstruct_batch(rows), dtype=np.float32)

    def _search(self, queries: FloatArray, k: int, among: NDArray[np.int64] | None) -> tuple[FloatArray, NDArray[np.int64]]:
        k = min(k, len(self))
        if k == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        if among is None:
            copy = self._gpu_copy() if self._whole else None
            if copy is not None:
                return copy.search(queries, k, self.effort)
            return kinds.search(self._index, queries, k, self.effort, None if self._whole else self._alive)
        rows = self._rows_of(np.unique(among))
        if len(rows) <= _AMONG_EXACT:
            return kinds.search_rows(self._index, queries, k, rows)
        allowed = np.zeros(len(self._ids), dtype=bool)
        allowed[rows] = True
        return kinds.search(self._index, queries, k, self.effort, allowed)

    def _rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of those numbers that are in the index."""
        if self._order is None:
            at = np.minimum(np.searchsorted(self._ids, ids), max(0, len(self._ids) - 1))
        else:
            at = np.searchsorted(self._ids, ids, sorter=self._order)
            at = self._order[np.minimum(at, max(0, len(self._ids) - 1))]
        if not len(self._ids):
            return np.zeros(0, dtype=np.int64)
        return at[(self._ids[at] == ids) & self._alive[at]].astype(np.int64)

    def _changed(self) -> None:
        self._whole = bool(self._alive.all())
        increasing = bool((np.diff(self._ids) > 0).all())
        self._order = None if increasing else np.argsort(self._ids, kind="stable")
        self._gpu: GpuCopy | None = None
        self._gpu_wanted = self._use_gpu and len(self._ids) > 0

    def _gpu_copy(self) -> GpuCopy | None:
        if self._gpu_wanted:
            self._gpu, self._gpu_wanted = on_gpu(self._index), False
        return self._gpu

    def _compact(self) -> None:
        if self._whole:
            return
        self._index = kinds.compacted(self._index, self._alive)
        self._ids = self._ids[self._alive]
        self._alive = np.ones(len(self._ids), dtype=bool)
        self._changed()

    def _check_query(self, query: GlobalDescriptor, k: int) -> None:
        if k < 1:
            raise ConfigError(f"{k} places are asked for: ask for one or more")
        if self.encoder and query.encoder != self.encoder:
            raise DataError(f"the query was described by {query.encoder!r}, the map by {self.encoder!r}: use the map's encoder")
        if query.vector.shape != (self.dimension,):
            raise DataError(
                f"a descriptor of {len(query.vector)} numbers ({query.encoder}) does not fit the map's {self.dimension}: use its encoder"
            )

    def _require_writable(self) -> None:
        if self._mapped:  # faiss would end the process
            raise DataError("a memory-mapped index can't be changed: load it without memory_map")


def _checked(vectors: FloatArray) -> FloatArray:
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise DataError(f"descriptors of places are (places, numbers), got {vectors.shape}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    for start in range(0, len(vectors), _AT_ONCE):
        part = vectors[start : start + _AT_ONCE]
        off = ~(np.abs(np.sqrt(np.einsum("pd,pd->p", part, part)) - 1.0) < 1e-2)  # NaN too
        if off.any():
            row = int(off.argmax())
            what = "is not of unit length" if np.isfinite(part[row]).all() else "holds numbers that are not finite"
            raise DataError(f"the descriptor of place {start + row} {what} ({int(off.sum())} such): leave the image out or encode it again")
    return vectors


def _checked_ids(ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    numbers = np.asarray(ids, dtype=np.int64)
    if numbers.shape != (count,) or (count and int(numbers.min()) < 0):
        raise DataError(f"{count} places have {count} numbers from 0 on, got {numbers.shape}")
    unique, often = np.unique(numbers, return_counts=True)
    if len(unique) < count:
        raise DataError(f"place {unique[often > 1][0]} is named twice: each has a number of its own")
    return numbers
