"""What stands before and after CenterNet's network: images at the sizes that it takes; pairs of corners that a centre confirms.

Duan et al., ICCV 2019, sections 3.2 and 3.4. Two procedures: `authors` is their code to the letter, `exact` what it means to do. The latter
keeps cells and pixels aligned (theirs may lose a row or column at the border), takes the best centre in a box instead of the first, and
drops what soft-NMS has suppressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.models.centernet.decode import BOX, BR_SCORE, LABEL, REFUSED, SCORE, TL_SCORE
from ros2_loc.models.centernet.network import MEAN, STRIDE_PX
from ros2_loc.perception.detectors.centernet_authors import soft_nms_in_place
from ros2_loc.perception.detectors.soft_nms import Decay, merging_soft_nms, soft_nms

Procedure = Literal["exact", "authors"]
Floats = NDArray[np.float32]

# boxes that reach further beyond the border are none
_BEYOND_PX = 5.0
# boxes of at most this area have larger central regions: of a third instead of a fifth of each side (section 3.2)
_SMALL_PX2, _SMALL_PARTS, _LARGE_PARTS = 150.0**2, 3, 5
# sides of the authors' images are one less than multiples of this
_AUTHORS_MULTIPLE_PX = 128
_FILLING = tuple(round(255.0 * value) for value in reversed(MEAN))


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An image at one scale, as the network sees it.

    Attributes:
        image: (H, W, 3) uint8 RGB, with filling.
        corner: (2,) px, x and y of the picture within it.
        size: (2,) px of the picture, width and height.
        scale: (2,) px of it for a px of the image at scale 1.
        cells_per_px: (2,).
    """

    image: NDArray[np.uint8]
    corner: NDArray[np.float64]
    size: NDArray[np.float64]
    scale: NDArray[np.float64]
    cells_per_px: NDArray[np.float64]

    @property
    def columns(self) -> float:
        """Cells from the left border to the right one."""
        return float(self.image.shape[1] * self.cells_per_px[0])

    def to_image(self, points: Floats) -> Floats:
        """(..., 2) x and y in cells -> px of the picture."""
        return (points / self.cells_per_px - self.corner).astype(np.float32)


def view_of(image: NDArray[np.uint8], scale: float, multiple: int, procedure: Procedure) -> View:
    """(H, W, 3) RGB at a scale; `multiple` px of sides that the network takes, for the exact procedure."""
    height, width = image.shape[:2]
    if procedure == "authors":
        return _authors_view(image, scale)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    picture = image if size == (width, height) else cv2.resize(image, size, interpolation=interpolation)
    filling = -size[1] % multiple, -size[0] % multiple
    filled = np.empty((size[1] + filling[0], size[0] + filling[1], 3), np.uint8)
    filled[...] = _FILLING
    filled[: size[1], : size[0]] = picture
    return View(filled, np.zeros(2), np.array(size, np.float64), np.array(size) / (width, height), np.full(2, 1.0 / STRIDE_PX))


def in_picture(pairs: Floats, centres: Floats, view: View) -> tuple[Floats, Floats]:
    """Of a view and, where there is a second row, of its mirror image -> all in px of the image at scale 1.

    Args:
        pairs: (1 or 2, N, 8) as of `models.centernet.decode`.
        centres: (1 or 2, K, 4) likewise.
        view: of both.

    Returns:
        (N or 2N, 8) with those that reach beyond the border refused, and (K or 2K, 4).
    """
    pairs, centres = np.array(pairs, np.float32), np.array(centres, np.float32)
    pairs[1:, :, [0, 2]] = view.columns - pairs[1:, :, [2, 0]]
    centres[1:, :, 0] = view.columns - centres[1:, :, 0]
    pairs, centres = pairs.reshape(-1, pairs.shape[2]), centres.reshape(-1, centres.shape[2])
    corners = view.to_image(pairs[:, BOX].reshape(-1, 2, 2))
    beyond = (corners[:, 0] <= -_BEYOND_PX).any(axis=1) | (corners[:, 1] >= view.size + _BEYOND_PX).any(axis=1)
    pairs[:, BOX] = (np.clip(corners, 0.0, view.size) / view.scale).reshape(-1, 4)
    pairs[beyond, SCORE] = REFUSED
    centres[:, :2] = np.clip(view.to_image(centres[:, :2]), 0.0, view.size) / view.scale
    return pairs, centres


def confirmed(pairs: Floats, centres: Floats, procedure: Procedure) -> Floats:
    """Pairs (N, 8) with a centre (K, 4) of their label in their central region; (M, 8), the best first, with the mean of three scores."""
    pairs = pairs[pairs[:, SCORE] > REFUSED]
    area = (pairs[:, 2] - pairs[:, 0]) * (pairs[:, 3] - pairs[:, 1])
    pairs = np.concatenate([pairs[area > _SMALL_PX2], pairs[area <= _SMALL_PX2]])
    parts = np.repeat([_LARGE_PARTS, _SMALL_PARTS], [(area > _SMALL_PX2).sum(), (area <= _SMALL_PX2).sum()])[:, None].astype(np.float32)
    low, high = pairs[:, :2], pairs[:, 2:4]
    before = ((parts + 1) / 2 * low + (parts - 1) / 2 * high) / parts  # equation 1
    after = ((parts - 1) / 2 * low + (parts + 1) / 2 * high) / parts
    inside = ((centres[:, None, :2] > before) & (centres[:, None, :2] < after)).all(axis=2) & (centres[:, None, 2] == pairs[:, LABEL])
    scores = np.where(inside, centres[:, None, 3], -np.inf) if procedure == "exact" else inside
    has = inside.any(axis=0)
    if not has.any():
        return pairs[:0]
    chosen = scores.argmax(axis=0)[has]
    pairs = pairs[has]
    pairs[:, SCORE] = (2.0 * pairs[:, SCORE] + centres[chosen, 3]) / 3.0
    return pairs[np.argsort(-pairs[:, SCORE], kind="stable")]


def best_boxes(pairs: Floats, procedure: Procedure, merge_exponent: float | None, limit: int) -> Floats:
    """Soft-NMS of each label of pairs (N, 8) -> (M, 6): box, score, label, the best first.

    Args:
        pairs: of `confirmed`.
        procedure: authors keep those that tie with the last.
        merge_exponent: of `soft_nms.merging_soft_nms`, for pairs of several scales; None: boxes stay as they are.
        limit: at most so many.
    """
    kept = [np.zeros((0, 6), np.float32)]
    for label in np.unique(pairs[:, LABEL]):
        own = pairs[pairs[:, LABEL] == label]
        rows = _authors_rows(own, merge_exponent) if procedure == "authors" else _exact_rows(own, merge_exponent)
        kept.append(np.column_stack([rows, np.full(len(rows), label)]).astype(np.float32))
    rows = np.concatenate(kept)
    order = np.argsort(-rows[:, 4], kind="stable")
    if len(rows) > limit:
        ties = procedure == "authors"
        order = order[: int((rows[:, 4] >= rows[order[limit - 1], 4]).sum())] if ties else order[:limit]
    return rows[order]


def boxes_of(found: Sequence[tuple[View, Floats, Floats]], procedure: Procedure, merge_exponent: float, limit: int) -> Floats:
    """All of an image: pairs and centres of each of its scales, among them 1, as of `in_picture` -> (M, 6) as of `best_boxes`."""
    seen = [(view, *in_picture(pairs, centres, view)) for view, pairs, centres in found]
    pairs = np.concatenate([pairs for _, pairs, _ in seen])
    centres = np.concatenate([centres for view, _, centres in seen if (view.scale == 1.0).all()])
    return best_boxes(confirmed(pairs, centres, procedure), procedure, merge_exponent if len(seen) > 1 else None, limit)


def _authors_view(image: NDArray[np.uint8], scale: float) -> View:
    """In the middle of zeros; of sides that became even at most one less is seen."""
    size = np.array([max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))])
    picture = cv2.resize(image, (int(size[0]), int(size[1])))
    full = size | (_AUTHORS_MULTIPLE_PX - 1)
    middle, half = size // 2, full // 2
    first, last = np.maximum(0, middle - half), np.minimum(middle + half, size)
    corner = half - (middle - first)
    filled = np.zeros((full[1], full[0], 3), np.uint8)
    end = corner + last - first
    filled[corner[1] : end[1], corner[0] : end[0]] = picture[first[1] : last[1], first[0] : last[0]]
    cells = (full + 1) // STRIDE_PX / full
    return View(filled, corner.astype(np.float64), size.astype(np.float64), np.full(2, scale), cells)


def _authors_rows(pairs: Floats, merge_exponent: float | None) -> Floats:
    return soft_nms_in_place(pairs[:, [0, 1, 2, 3, SCORE, TL_SCORE, BR_SCORE]], Decay(edge=1.0), merge_exponent)[:, :5]


def _exact_rows(pairs: Floats, merge_exponent: float | None) -> Floats:
    if merge_exponent is None:
        kept = soft_nms(pairs[:, BOX], pairs[:, SCORE])
    else:
        kept = merging_soft_nms(pairs[:, BOX], pairs[:, SCORE], pairs[:, [TL_SCORE, BR_SCORE]], merge_exponent)
    return np.column_stack([kept.boxes, kept.scores]).astype(np.float32)
