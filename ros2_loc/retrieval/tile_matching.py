"""Videos against satellite tiles at all shifts: normalized cross-correlation where both have something (CVLNet, equations 4 and 5).

The same as `models.cvlnet.matching`, for descriptors that lie in memory: no torch is needed to search a database.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.overhead import LEAST_ENERGY
from ros2_loc.core.types import FloatArray, OverheadDescriptor
from ros2_loc.errors import DataError

_TILES_AT_ONCE = 512


def match_tiles(
    queries: OverheadDescriptor | Sequence[OverheadDescriptor],
    features: NDArray[np.float16] | FloatArray,
    uncertainty: FloatArray | None,
    num_shifts: int | None = None,
) -> FloatArray:
    """How alike each video and tile are at each shift.

    Args:
        queries: one video's descriptor or Q of them.
        features: (T, C, S, S) of the tiles (`TileDescriptors.features`, or some rows of it).
        uncertainty: (T, K, K) of the tiles, or None for the plain cosine in [-1, 1].
        num_shifts: K; needed only where `uncertainty` is None.

    Returns:
        (Q, T, K, K) float32; [q, t, i, j] for base_link at `OverheadGrid.shift_offsets_m()[i, j]` from the tile's centre. Zero for a video
        that saw no ground.

    Raises:
        DataError: descriptors of another size than the tiles'.
    """
    videos = [queries] if isinstance(queries, OverheadDescriptor) else list(queries)
    k = num_shifts if uncertainty is None else uncertainty.shape[-1]
    if k is None or any(q.features.shape != features.shape[1:] for q in videos):
        raise DataError(f"tiles {features.shape[1:]} and videos {[q.features.shape for q in videos]} do not match: encode the tiles again")
    weights, masks = _shifted_queries(videos, k // 2)
    scores = np.empty((len(features), len(videos), k, k), dtype=np.float32)
    for start in range(0, len(features), _TILES_AT_ONCE):
        rows = slice(start, start + _TILES_AT_ONCE)
        scores[rows] = _cosines(features[rows], weights, masks).reshape(-1, len(videos), k, k)
    if uncertainty is not None:
        scores /= uncertainty[:, None]
    return scores.swapaxes(0, 1)


def _shifted_queries(videos: Sequence[OverheadDescriptor], shift_cells: int) -> tuple[FloatArray, FloatArray]:
    """(C S S, Q K K) features and (S S, Q K K) masks of the videos moved by each shift: then one matrix product does all shifts."""
    features = _shifted(np.stack([q.features for q in videos]).astype(np.float32), shift_cells)
    masks = _shifted(np.stack([q.visible for q in videos])[:, None].astype(np.float32), shift_cells)
    # what moved beyond the tile's edge counts in neither length
    features = features / np.sqrt(np.square(features).sum(axis=1, keepdims=True) + LEAST_ENERGY)
    return features.T, masks.T


def _shifted(maps: FloatArray, shift_cells: int) -> FloatArray:
    """(Q, C, S, S) -> (Q K K, C S S): each moved down by i - R and right by j - R cells, zeros moved in."""
    r, s = shift_cells, maps.shape[-1]
    padded = np.pad(maps, ((0, 0), (0, 0), (r, r), (r, r)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (s, s), axis=(2, 3))
    moved = windows[:, :, ::-1, ::-1].transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(moved).reshape(-1, maps[0].size)


def _cosines(features: NDArray[np.float16] | FloatArray, weights: FloatArray, masks: FloatArray) -> FloatArray:
    tiles = np.ascontiguousarray(features, dtype=np.float32)
    energy = np.einsum("tcij,tcij->tij", tiles, tiles).reshape(len(tiles), -1) @ masks
    # a sum of rounded products may fall below zero by a hair where a window is empty
    return (tiles.reshape(len(tiles), -1) @ weights) / np.sqrt(np.maximum(energy, 0.0) + LEAST_ENERGY)
