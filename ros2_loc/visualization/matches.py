"""A query image beside the map image it was found with, and lines between what agreed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.visualization.colors import good_to_bad

Image = NDArray[np.uint8]

_GAP_PX = 6


def draw_matches(
    query: Image,
    place: Image,
    pairs_px: NDArray[np.floating],
    errors_px: NDArray[np.floating] | None = None,
    height_px: int | None = None,
    max_lines: int = 150,
    error_scale_px: float = 3.0,
    vertical: bool | None = None,
) -> Image:
    """Both images with a line for each pair: green where it fits well, red where badly.

    Args:
        query, place: (H, W, 3) uint8 RGB, any sizes.
        pairs_px: (M, 4) x, y in the query and x, y in the place's image, centre of the first pixel at (0.5, 0.5).
        errors_px: (M,) reprojection errors; None: all lines in one colour.
        height_px: of the query in the picture; None: its own. The place is scaled to the same width (stacked) or height.
        max_lines: of all pairs, evenly chosen, so that the picture stays legible.
        error_scale_px: an error that is drawn fully red.
        vertical: place below query; None: for images wider than 2:1.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    vertical = query.shape[1] > 2 * query.shape[0] if vertical is None else vertical
    scale = (height_px or query.shape[0]) / query.shape[0]
    first = _scaled(query, scale)
    scale_place = first.shape[1] / place.shape[1] if vertical else first.shape[0] / place.shape[0]
    second = _scaled(place, scale_place)
    picture, offset = _stacked(first, second, vertical)
    pairs = np.asarray(pairs_px, dtype=np.float64).reshape(-1, 4)
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(max_lines, len(pairs))).round().astype(int)) if len(pairs) else np.zeros(0, int)
    if errors_px is not None:  # worst last: on top
        chosen = chosen[np.argsort(np.asarray(errors_px)[chosen], kind="stable")]
    lines = picture.copy()
    for i in chosen:
        color = good_to_bad(0.0 if errors_px is None else float(errors_px[i]) / error_scale_px)
        a, b = pairs[i, :2] * scale - 0.5, pairs[i, 2:] * scale_place - 0.5 + offset
        _line(lines, a, b, color)
    picture = np.asarray(cv2.addWeighted(lines, 0.55, picture, 0.45, 0.0), dtype=np.uint8)
    for i in chosen:
        color = good_to_bad(0.0 if errors_px is None else float(errors_px[i]) / error_scale_px)
        _dot(picture, pairs[i, :2] * scale - 0.5, color)
        _dot(picture, pairs[i, 2:] * scale_place - 0.5 + offset, color)
    return np.ascontiguousarray(picture)


def _scaled(image: Image, scale: float) -> Image:
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return image if size == image.shape[1::-1] else np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8)


def _stacked(first: Image, second: Image, vertical: bool) -> tuple[Image, NDArray[np.float64]]:
    h, w = first.shape[:2]
    if vertical:
        picture = np.full((h + _GAP_PX + second.shape[0], max(w, second.shape[1]), 3), 255, dtype=np.uint8)
        offset = np.array([0.0, h + _GAP_PX])
    else:
        picture = np.full((max(h, second.shape[0]), w + _GAP_PX + second.shape[1], 3), 255, dtype=np.uint8)
        offset = np.array([w + _GAP_PX, 0.0])
    x, y = offset.astype(int)
    picture[:h, :w] = first
    picture[y : y + second.shape[0], x : x + second.shape[1]] = second
    return picture, offset


def _line(image: Image, a: NDArray[np.float64], b: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    cv2.line(image, _fixed_point(a), _fixed_point(b), color, 1, cv2.LINE_AA, 4)


def _dot(image: Image, at: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    cv2.circle(image, _fixed_point(at), 2 * 16 + 8, color, -1, cv2.LINE_AA, 4)


def _fixed_point(at: NDArray[np.float64]) -> tuple[int, int]:
    """OpenCV's sixteenths of a pixel."""
    return round(float(at[0]) * 16), round(float(at[1]) * 16)
