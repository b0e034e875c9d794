"""Mutual nearest neighbours with Lowe's ratio test (IJCV 2004, section 7.1), as matrix products: of NumPy, or of PyTorch on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import LocalFeatures, Matches


class MutualNearest:
    """For descriptors of unit length; the score of a match is the cosine."""

    @dataclass(frozen=True)
    class Config:
        """`max_ratio` bounds nearest over second-nearest distance (1 switches the test off), `min_cosine` the similarity."""

        max_ratio: float = 0.85
        min_cosine: float = 0.5

    name = "mutual_nearest"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._on_gpu = None
        if device != "cpu":
            from ros2_loc.perception.matchers.mutual_nearest_torch import TorchMutualNearest

            self._on_gpu = TorchMutualNearest(config.max_ratio, config.min_cosine, device)

    def match(self, query: LocalFeatures, reference: LocalFeatures) -> Matches:
        """Pairs that choose each other, in the order of the query's keypoints."""
        if not len(query) or not len(reference):
            return _no_matches()
        if self._on_gpu:
            return self._on_gpu.match_many(query.descriptors, [reference.descriptors])[0]
        return self._from_cosines(query.descriptors @ reference.descriptors.T)

    def match_many(self, query: LocalFeatures, references: list[LocalFeatures]) -> list[Matches]:
        """`match` against several references with one matrix product: what it costs is memory traffic, not arithmetic."""
        if not references:
            return []
        if self._on_gpu:
            return self._many_on_gpu(query, references)
        cosines = query.descriptors @ np.concatenate([r.descriptors for r in references]).T
        ends = np.cumsum([len(r) for r in references])
        parts = np.split(cosines, ends[:-1], axis=1)
        return [self._from_cosines(part) if part.size else self.match(query, r) for part, r in zip(parts, references, strict=True)]

    def match_where(self, query: LocalFeatures, reference: LocalFeatures, allowed: NDArray[np.bool_]) -> Matches:
        """`match` among the pairs that geometry allows, (N, M) True: the ratio test then compares with fewer rivals and lets more pass."""
        if not len(query) or not len(reference):
            return self.match(query, reference)
        if self._on_gpu:
            return self._on_gpu.match_where(query.descriptors, reference.descriptors, allowed)
        return self._from_cosines(np.where(allowed, query.descriptors @ reference.descriptors.T, np.float32(-1.0)))

    def _many_on_gpu(self, query: LocalFeatures, references: list[LocalFeatures]) -> list[Matches]:
        filled = [index for index, reference in enumerate(references) if len(reference) and len(query)]
        results = [_no_matches() for _ in references]
        if self._on_gpu and filled:
            found = self._on_gpu.match_many(query.descriptors, [references[index].descriptors for index in filled])
            for index, matches in zip(filled, found, strict=True):
                results[index] = matches
        return results

    def _from_cosines(self, cosines: NDArray[np.float32]) -> Matches:
        forward, backward = cosines.argmax(axis=1), cosines.argmax(axis=0)
        rows = np.flatnonzero(backward[forward] == np.arange(len(forward)))
        best = cosines[rows, forward[rows]]
        keep = best >= self._config.min_cosine
        if self._config.max_ratio < 1.0 and cosines.shape[1] > 1:
            others = cosines[rows]
            others[np.arange(len(rows)), forward[rows]] = -1.0
            second = others.max(axis=1)
            # distance of unit vectors: |a - b|^2 = 2 - 2 cos
            keep &= 1.0 - best < self._config.max_ratio**2 * (1.0 - second)
        rows, best = rows[keep], best[keep]
        return Matches(np.column_stack([rows, forward[rows]]).astype(np.int32), best.astype(np.float32))


def _no_matches() -> Matches:
    return Matches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))
