"""Nearest tiles by their descriptors alone, as if the video had been taken at a tile's centre: exact, or compressed when they are many."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Candidate
from ros2_loc.errors import DataError

MAX_EXACT = 50_000  # 400 MB of 4096 half floats
_SUBVECTOR = 32  # dimensions that a compressed index stores in one byte


class TileIndex:
    """A faiss inner-product index over flattened features; half floats up to MAX_EXACT tiles, inverted lists of product codes beyond."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @staticmethod
    def build(features: NDArray[np.floating], max_exact: int = MAX_EXACT) -> TileIndex:
        """From (T, C, S, S) features; the tile's id is its row."""
        count, size = len(features), int(np.prod(features.shape[1:]))
        if count <= max_exact:
            index = faiss.IndexScalarQuantizer(size, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        else:
            index = _compressed(size, count)
        step = 4096
        if not index.is_trained:
            sample = np.linspace(0, count - 1, min(count, 50_000)).astype(int)
            index.train(_flat(features[sample]))
        for first in range(0, count, step):
            index.add(_flat(features[first : first + step]))
        return TileIndex(index)

    @staticmethod
    def load(path: Path) -> TileIndex:
        """From a file of `save`.

        Raises:
            DataError: not such a file.
        """
        try:
            return TileIndex(faiss.read_index(str(path)))
        except RuntimeError as error:
            raise DataError(f"{path}: not a faiss index (damaged or cut short): build the tiles again") from error

    def save(self, path: Path) -> None:
        """Write to `path` (the caller's temporary folder)."""
        faiss.write_index(self._index, str(path))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, query: NDArray[np.floating], k: int, among: NDArray[np.int64] | None = None) -> list[Candidate]:
        """The `k` best tiles for features (C, S, S), best first; only those in `among` where it is given."""
        parameters = None
        if among is not None or isinstance(self._index, faiss.IndexIVF):
            selector = None if among is None else faiss.IDSelectorBatch(np.ascontiguousarray(among, dtype=np.int64))
            parameters = self._parameters(selector)
        scores, tiles = self._index.search(_flat(query[None]), k, params=parameters)
        return [Candidate(int(t), float(s)) for t, s in zip(tiles[0], scores[0], strict=True) if t >= 0]

    def _parameters(self, selector: faiss.IDSelector | None) -> faiss.SearchParameters:
        if isinstance(self._index, faiss.IndexIVF):
            some = max(1, self._index.nlist // 8)
            return faiss.SearchParametersIVF(sel=selector, nprobe=some if selector is None else self._index.nlist)
        return faiss.SearchParameters(sel=selector)


def _compressed(size: int, count: int) -> faiss.Index:
    lists = max(1, int(np.sqrt(count)))
    codes = max(1, size // _SUBVECTOR)
    while size % codes:
        codes -= 1
    return faiss.IndexIVFPQ(faiss.IndexFlatIP(size), size, lists, codes, 8, faiss.METRIC_INNER_PRODUCT)


def _flat(features: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(features.reshape(len(features), -1), dtype=np.float32)
