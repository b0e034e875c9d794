"""Images with boxes and masks, and what moves them: windows, sizes, the mirror. Boxes and masks go wherever the pixels go."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.images import RGB
from ros2_loc.io.labelled_images import DetectionDataset

Boxes = NDArray[np.float32]


class Sample(NamedTuple):
    """An image to learn from.

    Attributes:
        image: (H, W, 3) uint8.
        boxes: (N, 4) float32 x0, y0, x1, y1 px, outer edges.
        labels: (N,) int64, from 0.
        masks: (N, H, W) bool, or None where the network learns none.
    """

    image: RGB
    boxes: Boxes
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None


class Window(NamedTuple):
    """A part of an image in whole px, which may reach beyond it."""

    left: int
    top: int
    width: int
    height: int


def load_sample(dataset: DetectionDataset, number: int, with_masks: bool) -> Sample:
    """An image of a dataset with its objects; those that are to be ignored (crowds) are left out.

    Raises:
        DataError: the image can't be read, or an object has no mask where masks are asked for.
    """
    labelled, image = dataset.images[number], dataset.image(number)
    kept = np.flatnonzero(~np.asarray(labelled.ignored, bool))
    masks = None
    if with_masks:
        if any(labelled.masks[k] is None for k in kept):
            raise DataError(f"{labelled.path}: objects without masks: give a set with masks, or learn none by --set network.masks=false")
        masks = np.zeros((len(kept), *image.shape[:2]), bool)
        for row, k in enumerate(kept):
            masks[row] = dataset.mask(number, int(k))
    boxes, labels = np.asarray(labelled.boxes, np.float32).reshape(-1, 4), np.asarray(labelled.labels, np.int64)
    return Sample(image, boxes[kept], labels[kept], masks)


def mirrored(sample: Sample) -> Sample:
    """Left becomes right."""
    boxes = sample.boxes.copy()
    boxes[:, [0, 2]] = sample.image.shape[1] - sample.boxes[:, [2, 0]]
    masks = None if sample.masks is None else np.ascontiguousarray(sample.masks[:, :, ::-1])
    return Sample(np.ascontiguousarray(sample.image[:, ::-1]), boxes, sample.labels, masks)


def windowed(sample: Sample, window: Window, size_px: tuple[int, int], min_side_px: float = 1.0) -> Sample:
    """What a window shows, brought to a size; black beyond the image.

    A box that the window cuts ends at its edge, or before, where the mask of what is left ends. Objects with a side under `min_side_px`
    after that are left out.

    Args:
        size_px: (height, width) of the result.
    """
    height, width = size_px
    scale = np.array([width / window.width, height / window.height] * 2, np.float32)
    offset = np.array([window.left, window.top] * 2, np.float32)
    whole = (sample.boxes - offset) * scale
    boxes = np.clip(whole, 0.0, np.array([width, height] * 2, np.float32))
    near = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    masks = None
    if sample.masks is not None:
        masks = np.zeros((len(near), height, width), bool)
        for row, k in enumerate(near):
            masks[row] = _resized_mask(_cut(sample.masks[k], window), size_px)
            if not np.array_equal(whole[k], boxes[k]):
                boxes[k] = _within(boxes[k], masks[row])
    sides = (boxes[near, 2:] - boxes[near, :2]).min(axis=1, initial=np.inf)
    kept = sides >= min_side_px
    if masks is not None:
        kept &= masks.any(axis=(1, 2))
        masks = masks[kept]
    image = _resized(_cut(sample.image, window), size_px)
    return Sample(image, boxes[near[kept]], sample.labels[near[kept]], masks)


def _cut(image: NDArray, window: Window) -> NDArray:
    """The window of an (H, W, ...) array, zero beyond it."""
    rows, columns = image.shape[:2]
    top, left = max(window.top, 0), max(window.left, 0)
    part = image[top : max(window.top + window.height, 0), left : max(window.left + window.width, 0)]
    if part.shape[:2] == (window.height, window.width):
        return part
    result = np.zeros((window.height, window.width, *image.shape[2:]), image.dtype)
    if top < rows and left < columns and part.size:
        y, x = top - window.top, left - window.left
        result[y : y + part.shape[0], x : x + part.shape[1]] = part
    return result


def _resized(image: RGB, size_px: tuple[int, int]) -> RGB:
    if image.shape[:2] == size_px:
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] > size_px[0] or image.shape[1] > size_px[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size_px[1], size_px[0]), interpolation=interpolation), np.uint8)


def _resized_mask(mask: NDArray[np.bool_], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(_resized(mask.view(np.uint8) * np.uint8(255), size_px) >= 128)


def _within(box: Boxes, mask: NDArray[np.bool_]) -> Boxes:
    """A box no larger than what its mask fills."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return box
    filled = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    return np.concatenate([np.maximum(box[:2], filled[:2]), np.minimum(box[2:], filled[2:])])
