"""Homography pairs made from any images: a known warp, or another light, or both. The same seed makes the same pixels.

The warps are those of DeTone et al., "SuperPoint", 2018, section 5.2 in kind (rotation, scale, perspective), but the smaller view lies
wholly within the larger, so that no border shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.image_pairs import HomographyPair, View, image_views
from ros2_loc.io.images import RGB

Array = NDArray[np.float64]

_MAX_ROTATION_DEG = 25.0
_SCALES = (0.5, 0.9)  # side of the smaller view in the larger
_PERSPECTIVE = 0.12  # of a side, by which each corner may move
_NEAREST_HORIZON = 0.3  # depth of the corners of a, in that of the middle of b
_CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
_HALF = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])


def made_pairs(folder: str | Path, per_image: int, seed: int) -> list[HomographyPair]:
    """Pairs of every image in a folder: its first is of another viewpoint, its second of another light, and so on in turns.

    Raises:
        DataError: no images.
    """
    return pairs_of(image_views(folder), per_image, seed)


def pairs_of(views: Sequence[View], per_image: int, seed: int) -> list[HomographyPair]:
    """`per_image` pairs of each view, which depend on its name and the seed alone."""
    return [_pair(view, k, seed) for view in views for k in range(per_image)]


def random_homography(rng: np.random.Generator, width: int, height: int) -> Array:
    """b_from_a (3, 3) of two images of this size, where all of b lies within a, and all of a before the horizon of b."""
    size = np.array([width, height], dtype=np.float64)
    perspective = _PERSPECTIVE
    while True:
        quad = _quad(rng, size, perspective)
        b_from_a = cv2.getPerspectiveTransform(quad.astype(np.float32), ((_CORNERS + 0.5) * size).astype(np.float32))
        b_from_a = np.asarray(b_from_a / (b_from_a[2] @ [*quad.mean(axis=0), 1.0]))
        if ((np.column_stack([(_CORNERS + 0.5) * size, np.ones(4)]) @ b_from_a[2]) > _NEAREST_HORIZON).all():
            return b_from_a
        perspective /= 2.0


def _quad(rng: np.random.Generator, size: Array, perspective: float) -> Array:
    """(4, 2) corners in a of what b sees."""
    quad = (_CORNERS + rng.uniform(-perspective, perspective, (4, 2)) / 2) * size * rng.uniform(*_SCALES)
    angle = np.radians(rng.uniform(-_MAX_ROTATION_DEG, _MAX_ROTATION_DEG))
    quad = quad @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    extent = quad.max(axis=0) - quad.min(axis=0)
    quad *= min(1.0, float((0.98 * size / extent).min()))
    low, high = -quad.min(axis=0), size - quad.max(axis=0)
    return np.asarray(quad + rng.uniform(low, high))


def other_light(image: RGB, rng: np.random.Generator, strength: float) -> RGB:
    """The image with another gamma, gain of each channel, contrast, blur and noise; strength 1: as between day and dusk."""
    x = image.astype(np.float32) / 255.0
    x = x ** float(np.exp(rng.normal(0.0, 0.35 * strength)))
    x = x * (1.0 + rng.normal(0.0, 0.12 * strength, 3)).astype(np.float32)
    x = (x - 0.5) * float(np.exp(rng.normal(0.0, 0.2 * strength))) + 0.5 + float(rng.normal(0.0, 0.08 * strength))
    x = cv2.GaussianBlur(x, (0, 0), 0.1 + float(rng.uniform(0.0, 1.0 * strength)))
    x = x + rng.normal(0.0, 0.02 * strength, x.shape).astype(np.float32)
    return np.asarray(np.clip(x * 255.0 + 0.5, 0, 255), dtype=np.uint8)


def warped(image: RGB, b_from_a: Array) -> RGB:
    """Image a as b sees it, of the same size; nearest pixels beyond its border."""
    size = (image.shape[1], image.shape[0])
    matrix = np.linalg.inv(_HALF) @ b_from_a @ _HALF  # OpenCV counts from the centre of the first pixel
    return np.asarray(cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


def _pair(view: View, k: int, seed: int) -> HomographyPair:
    def rng() -> np.random.Generator:
        return np.random.default_rng([seed, k, zlib.crc32(view.name.encode())])

    if k % 2:
        return HomographyPair(view, View(f"{view.name}#{k}", _lit(view.load, rng)), "illumination", np.eye(3))
    height, width = view.load().shape[:2]
    if min(width, height) < 16:
        raise DataError(f"{view.name}: {width}x{height} px is too small to make pairs of")
    homography = random_homography(rng(), width, height)
    return HomographyPair(view, View(f"{view.name}#{k}", _moved(view.load, homography, rng)), "viewpoint", homography)


def _lit(load: Callable[[], RGB], rng: Callable[[], np.random.Generator]) -> Callable[[], RGB]:
    return lambda: other_light(load(), rng(), 1.0)


def _moved(load: Callable[[], RGB], homography: Array, rng: Callable[[], np.random.Generator]) -> Callable[[], RGB]:
    return lambda: other_light(warped(load(), homography), rng(), 0.4)

