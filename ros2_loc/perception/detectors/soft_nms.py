"""Soft non-maximum suppression: boxes that overlap a better one lose some of their score instead of their place.

Bodla, Singh, Chellappa, Davis, "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Decay(NamedTuple):
    """How a score falls with the overlap (IoU) with a better box.

    Attributes:
        kind: exponential: exp(-IoU^2 / sigma); linear: 1 - IoU beyond `max_overlap`, nothing below.
        sigma: of exponential.
        max_overlap: of linear.
        min_score: what falls below is suppressed.
        edge: 1.0 where a box from pixel 3 to pixel 3 has width 1, as in older code; 0.0 for the outer edges of pixels.
    """

    kind: Literal["exponential", "linear"] = "exponential"
    sigma: float = 0.5
    max_overlap: float = 0.5
    min_score: float = 0.001
    edge: float = 0.0

    def factors(self, overlaps: Floats) -> Floats:
        """(N,) IoU -> (N,) in 0 to 1."""
        if self.kind == "exponential":
            return np.exp(-(overlaps**2) / self.sigma)
        return np.where(overlaps > self.max_overlap, 1.0 - overlaps, 1.0)


class Kept(NamedTuple):
    """What is left, in the order in which it was found to be the best: (M,) indices of the given boxes, (M,) scores, (M, 4) boxes."""

    indices: NDArray[np.int64]
    scores: Floats
    boxes: Floats


def soft_nms(boxes: NDArray, scores: NDArray, decay: Decay = Decay()) -> Kept:  # noqa: B008 (a constant)
    """Boxes of one label (N, 4) with scores (N,), which fall as often as a better box overlaps them."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    found = [(index, score) for index, score, _, _ in _rounds(boxes, np.asarray(scores, np.float64), decay)]
    indices = np.array([index for index, _ in found], np.int64)
    return Kept(indices, np.array([score for _, score in found], np.float64), boxes[indices])


def merging_soft_nms(boxes: NDArray, scores: NDArray, corner_scores: NDArray, exponent: float, decay: Decay = Decay()) -> Kept:  # noqa: B008
    """`soft_nms` in which each box becomes a mean of those that it suppresses, for boxes of several scales (CornerNet's test).

    Args:
        boxes: (N, 4).
        scores: (N,).
        corner_scores: (N, 2), of the top left and the bottom right corner: weights in that mean, together with (1 - factor)^exponent.
        exponent: the higher, the more alike two boxes must be to be mixed.
        decay: as in `soft_nms`.
    """
    boxes, corners = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(corner_scores, np.float64).reshape(-1, 2)
    indices, left, merged = [], [], []
    for index, score, others, factors in _rounds(boxes, np.asarray(scores, np.float64), decay):
        weights = np.repeat(np.vstack([corners[index], corners[others] * ((1.0 - factors) ** exponent)[:, None]]), 2, axis=1)
        members = np.vstack([boxes[index], boxes[others]])
        total = weights.sum(axis=0)
        merged.append(np.where(total > 0, (members * weights).sum(axis=0) / np.maximum(total, 1e-12), boxes[index]))
        indices.append(index)
        left.append(score)
    return Kept(np.array(indices, np.int64), np.array(left, np.float64), np.array(merged, np.float64).reshape(-1, 4))


def overlaps_of(box: NDArray, boxes: NDArray, edge: float = 0.0) -> Floats:
    """IoU of a box (4,) with each of (N, 4); `edge` as of `Decay`. Boxes without area overlap nothing."""
    shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + edge
    area = np.where((shared > 0).all(axis=1), shared[:, 0] * shared[:, 1], 0.0)
    total = np.prod(box[2:] - box[:2] + edge) + np.prod(boxes[:, 2:] - boxes[:, :2] + edge, axis=1) - area
    return np.where(area > 0, area / np.where(total > 0, total, 1.0), 0.0)


def _rounds(boxes: Floats, scores: Floats, decay: Decay) -> Iterator[tuple[int, float, NDArray[np.int64], Floats]]:
    """Again and again the best of what is left: its index, its score, the others and the factors on their scores."""
    scores, left = scores.copy(), np.arange(len(boxes))
    while len(left):
        best = int(scores[left].argmax())
        index, left = int(left[best]), np.delete(left, best)
        factors = decay.factors(overlaps_of(boxes[index], boxes[left], decay.edge))
        yield index, float(scores[index]), left, factors
        scores[left] *= factors
        left = left[(factors >= 1.0) | (scores[left] >= decay.min_score)]
