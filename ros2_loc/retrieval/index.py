"""Nearest places by their global descriptors, exact, restricted to some places where a prior says so."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Candidate, FloatArray, GlobalDescriptor
from ros2_loc.errors import DataError


class PlaceIndex:
    """A faiss inner-product index; the score of unit vectors is their cosine."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @staticmethod
    def build(vectors: FloatArray) -> PlaceIndex:
        """From (P, D) float32 unit vectors; the place's number is its row."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return PlaceIndex(index)

    @staticmethod
    def load(path: Path) -> PlaceIndex:
        """From a file of `save`.

        Raises:
            DataError: not such a file.
        """
        try:
            return PlaceIndex(faiss.read_index(str(path)))
        except RuntimeError as error:
            raise DataError(f"{path}: not a faiss index (damaged or cut short): build the map again") from error

    def save(self, path: Path) -> None:
        """Write to `path` (the caller's temporary folder)."""
        faiss.write_index(self._index, str(path))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, query: GlobalDescriptor, k: int, among: NDArray[np.int64] | None = None) -> list[Candidate]:
        """The `k` best places, best first; only those in `among` where it is given."""
        vector = query.vector[None].astype(np.float32)
        if among is None:
            scores, places = self._index.search(vector, k)
        else:
            selector = faiss.IDSelectorBatch(np.ascontiguousarray(among, dtype=np.int64))
            scores, places = self._index.search(vector, k, params=faiss.SearchParameters(sel=selector))
        return [Candidate(int(p), float(s)) for p, s in zip(places[0], scores[0], strict=True) if p >= 0]
