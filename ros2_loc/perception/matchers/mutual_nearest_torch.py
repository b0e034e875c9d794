"""Mutual nearest neighbours by PyTorch, for a GPU: the same pairs as `mutual_nearest` gives with NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.types import Matches
from ros2_loc.perception.networks import device_of

# elements of a block of cosines: 512 MB
_BLOCK = 1 << 27


class TorchMutualNearest:
    """On one device; `max_ratio` and `min_cosine` as in `MutualNearest.Config`."""

    def __init__(self, max_ratio: float, min_cosine: float, device: str) -> None:
        self._max_ratio = max_ratio
        self._min_cosine = min_cosine
        self._device = device_of("mutual_nearest", device, half=False)

    def match_many(self, query: NDArray[np.float32], references: Sequence[NDArray[np.float32]]) -> list[Matches]:
        """Pairs of (N, D) with each (M, D), all of unit length and none empty, as many at a time as fit in half a gigabyte."""
        longest = max(len(reference) for reference in references)
        step = max(1, _BLOCK // (len(query) * longest))
        blocks = (references[start : start + step] for start in range(0, len(references), step))
        return [matches for block in blocks for matches in self._block(query, block)]

    def match_where(self, query: NDArray[np.float32], reference: NDArray[np.float32], allowed: NDArray[np.bool_]) -> Matches:
        """Pairs among those that `allowed` (N, M) names."""
        cosines = self._tensor(query) @ self._tensor(reference).T
        return self._pairs(torch.where(self._tensor(allowed), cosines, -1.0)[None])[0]

    def _block(self, query: NDArray[np.float32], references: Sequence[NDArray[np.float32]]) -> list[Matches]:
        counts = torch.tensor([len(reference) for reference in references], device=self._device)
        padded = torch.nn.utils.rnn.pad_sequence([self._tensor(reference) for reference in references], batch_first=True)
        cosines = self._tensor(query) @ padded.transpose(1, 2)
        filling = torch.arange(padded.shape[1], device=self._device) >= counts[:, None]
        # infinitely far away: never chosen, and no rival of the only keypoint there is
        return self._pairs(cosines.masked_fill_(filling[:, None], -torch.inf))

    def _pairs(self, cosines: Tensor) -> list[Matches]:
        """(B, N, M) -> for each of B the pairs, in the order of the query's keypoints."""
        forward, backward = cosines.argmax(dim=2), cosines.argmax(dim=1)
        best = cosines.gather(2, forward[:, :, None])[:, :, 0]
        keep = backward.gather(1, forward) == torch.arange(forward.shape[1], device=self._device)
        keep &= best >= self._min_cosine
        if self._max_ratio < 1.0 and cosines.shape[2] > 1:
            second = cosines.scatter(2, forward[:, :, None], -torch.inf).amax(dim=2)
            # distance of unit vectors: |a - b|^2 = 2 - 2 cos
            keep &= 1.0 - best < self._max_ratio**2 * (1.0 - second)
        found = zip(keep.cpu().numpy(), forward.cpu().numpy(), best.cpu().numpy(), strict=True)
        return [Matches(np.column_stack([np.flatnonzero(k), f[k]]).astype(np.int32), b[k]) for k, f, b in found]

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
