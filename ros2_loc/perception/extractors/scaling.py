"""Images on their way into a network and keypoints on their way out: sizes, padding, batches, masks, order, limits.

The centre of the first pixel is at (0.5, 0.5), so the image plane is [0, width) x [0, height) at any resolution and a resize is a plain
multiplication by the ratio of the sizes, which differs in x and y where a side has been rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Frame, LocalFeatures


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A frame's image at the size a network sees it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        mask: (h, w) bool, True where keypoints may be used, or None for everywhere.
        ratio: (2,) pixels of the full image per pixel of this one, in x and y.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    ratio: NDArray[np.float64]

    @property
    def size(self) -> tuple[int, int]:
        """(w, h) px of the resized image."""
        return self.image.shape[1], self.image.shape[0]

    def to_full(self, points: NDArray) -> NDArray[np.float64]:
        """(N, 2) px of the resized image -> (N, 2) px of the frame's."""
        return np.asarray(points, dtype=np.float64) * self.ratio

    def to_resized(self, points: NDArray) -> NDArray[np.float64]:
        """(N, 2) px of the frame's image -> (N, 2) px of the resized one."""
        return np.asarray(points, dtype=np.float64) / self.ratio


def prepare(frame: Frame, max_edge_px: int = 0, enlarge: bool = False) -> Prepared:
    """The image with a long edge of at most `max_edge_px`, and its mask.

    Args:
        frame: is left as it is; where nothing is resized, its arrays are used without a copy.
        max_edge_px: 0 for the full size.
        enlarge: a smaller image is enlarged until its long edge has `max_edge_px`.
    """
    width, height = frame.camera.width, frame.camera.height
    scale = max_edge_px / max(width, height) if max_edge_px > 0 else 1.0
    scale = scale if enlarge else min(scale, 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return Prepared(frame.image, frame.mask, np.ones(2))
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC)
    mask = frame.mask
    if mask is not None:
        # INTER_NEAREST takes the pixel before the centre
        mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    return Prepared(image.astype(np.uint8, copy=False), mask, np.array([width / size[0], height / size[1]]))


def groups(prepared: Sequence[Prepared], batch_size: int) -> Iterator[list[int]]:
    """Indices of images of one size, at most `batch_size` together; each index once."""
    of_size: dict[tuple[int, int], list[int]] = {}
    for index, one in enumerate(prepared):
        of_size.setdefault(one.size, []).append(index)
    for indices in of_size.values():
        for start in range(0, len(indices), max(1, batch_size)):
            yield indices[start : start + max(1, batch_size)]


def stacked(prepared: Sequence[Prepared], multiple: int = 1) -> NDArray[np.float32]:
    """(B, 3, H, W) in 0..1 of images of one size; H and W filled up to a multiple at the right and bottom by repeating the edge.

    Coordinates stay as they are; a keypoint in the filling is outside of the image, so `features_of` drops it.
    """
    width, height = prepared[0].size
    images = np.stack([one.image for one in prepared]).transpose(0, 3, 1, 2)
    filling = ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple))
    images = np.pad(images, filling, mode="edge") if multiple > 1 else images
    return np.ascontiguousarray(images, dtype=np.float32) / np.float32(255.0)


def features_of(
    points: NDArray, descriptors: NDArray, scores: NDArray, scales: NDArray, frame: Frame, limit: int, name: str
) -> LocalFeatures:
    """The best `limit` keypoints, best first, ties by position (x, then y), so that the order is always the same.

    Args:
        points: (N, 2) px of the frame's image. Those outside of the image or where `frame.mask` is False are dropped, as is all that is
            not finite.
        descriptors: (N, D).
        scores: (N,), higher is better.
        scales: (N,) px of the frame's image, as `LocalFeatures.scales`.
        frame: the keypoints' own.
        limit: at most so many.
        name: of the extractor.
    """
    size = (frame.camera.width, frame.camera.height)
    # rounded first, because float32 can carry a point just inside over the edge
    points = np.asarray(points, dtype=np.float32).reshape(-1, 2)
    kept = np.isfinite(descriptors).all(axis=1) & np.isfinite(scores) & np.isfinite(scales)
    kept &= (points >= 0).all(axis=1) & (points < np.array(size, dtype=np.float32)).all(axis=1)
    if frame.mask is not None:
        column, row = np.where(kept, points.T, 0).astype(np.int64)
        kept &= frame.mask[row, column]
    indices = np.flatnonzero(kept)
    order = indices[np.lexsort((points[indices, 1], points[indices, 0], -np.asarray(scores)[indices]))][:limit]
    chosen = [np.ascontiguousarray(array[order], dtype=np.float32) for array in (points, descriptors, scores, scales)]
    return LocalFeatures(chosen[0], chosen[1], chosen[2], chosen[3], name, size)


def no_features(frame: Frame, dimension: int, name: str) -> LocalFeatures:
    """No keypoints at all: an image that is too small, a white wall, a lens cap."""
    none = np.zeros(0, dtype=np.float32)
    return features_of(np.zeros((0, 2)), np.zeros((0, dimension), dtype=np.float32), none, none, frame, 0, name)
