"""All pictures of the town in one, with its mip levels, and sampling from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.canvas import Pane

_LEVELS = 7
_GUTTER_PX = 16
_ALIGN_PX = 32
_COLUMNS = 1024
_MAX_SIDE_PX = 32000  # cv2.remap counts pixels in 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """Mip pyramid: levels[k] is (H / 2^k, W / 2^k, 3) uint8 RGB; panes (H / 2, W / 2) uint8 numbers of windows, 0 where there is none."""

    levels: tuple[NDArray[np.uint8], ...]
    panes: NDArray[np.uint8]

    @staticmethod
    def pack(pictures: Sequence[NDArray[np.uint8]], panes: Sequence[Sequence[Pane]]) -> tuple[Atlas, NDArray[np.float32]]:
        """The atlas of these pictures with their panes (px), and the texel (x, y) where each one's upper left corner lies, (N, 2).

        Each picture is surrounded by copies of its border so that coarse levels don't mix neighbours.
        """
        corners, size = _shelves([p.shape[:2] for p in pictures])
        sheet = np.zeros((*size, 3), np.uint8)
        for picture, (x, y) in zip(pictures, corners, strict=True):
            padded = cv2.copyMakeBorder(picture, _GUTTER_PX, _GUTTER_PX, _GUTTER_PX, _GUTTER_PX, cv2.BORDER_REPLICATE)
            sheet[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
        levels = [sheet]
        for _ in range(_LEVELS - 1):
            h, w = levels[-1].shape[:2]
            levels.append(cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))
        inner = np.array(corners) + _GUTTER_PX
        return Atlas(tuple(levels), _numbered(panes, inner, (size[0] // 2, size[1] // 2))), inner.astype(np.float32)

    def pane(self, uv: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(N,) number of the window at texels (N, 2) of level 0, 0 where there is none."""
        column, row = (uv * np.float32(0.5)).astype(np.int32).T
        height, width = self.panes.shape
        return self.panes[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]

    def sample(self, uv: NDArray[np.float32], texels_per_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of T bilinear samples of the mip level whose texels are nearest in size to the footprint.

        Args:
            uv: (T, N, 2) texels of level 0, centre of the first texel at (0.5, 0.5).
            texels_per_px: (N,) size of each sample's footprint.

        Returns:
            (N, 3) float32 RGB, 0 to 255.
        """
        level_of = np.rint(np.log2(np.maximum(texels_per_px, 1.0))).astype(np.uint8)
        out = np.empty((uv.shape[1], 3), np.float32)
        for level, image in enumerate(self.levels):
            last = level == len(self.levels) - 1
            chosen = np.flatnonzero(level_of >= level if last else level_of == level)
            if len(chosen):
                out[chosen] = _bilinear(image, uv[:, chosen] * np.float32(0.5**level))
        return out


def _shelves(shapes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Places rectangles on shelves, tallest first: corners (x, y) in the order given, and the sheet's (height, width)."""
    padded = [tuple(-(-(side + 2 * _GUTTER_PX) // _ALIGN_PX) * _ALIGN_PX for side in shape) for shape in shapes]
    area = sum(h * w for h, w in padded)
    width = max(max(w for _, w in padded), -(-int(area**0.5) // 128) * 128)
    corners: dict[int, tuple[int, int]] = {}
    x = y = shelf = 0
    for i in sorted(range(len(padded)), key=lambda k: (-padded[k][0], k)):
        h, w = padded[i]
        if x + w > width:
            x, y, shelf = 0, y + shelf, 0
        corners[i] = (x, y)
        x, shelf = x + w, max(shelf, h)
    height = -(-(y + shelf) // 64) * 64
    assert max(width, height) < _MAX_SIDE_PX
    return [corners[i] for i in range(len(shapes))], (height, -(-width // 64) * 64)


def _numbered(panes: Sequence[Sequence[Pane]], corners: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.uint8]:
    sheet = np.zeros(size, np.uint8)
    for inside, (x, y) in zip(panes, corners, strict=True):
        for x0, y0, x1, y1, number in inside:
            rows, columns = (slice(*(max(round(v / 2), 0) for v in ends)) for ends in ((y + y0, y + y1), (x + x0, x + x1)))
            sheet[rows, columns] = number
    return sheet


def _bilinear(image: NDArray[np.uint8], uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, N, 2) -> (N, 3), the mean over T."""
    taps, n = uv.shape[:2]
    rows = -(-n // _COLUMNS)
    grid = np.zeros((taps, rows * _COLUMNS, 2), np.float32)
    grid[:, :n] = uv - np.float32(0.5)
    total = np.zeros((rows * _COLUMNS, 3), np.float32)
    for tap in grid:
        sampled = cv2.remap(image, tap.reshape(rows, _COLUMNS, 2), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cv2.accumulate(sampled.reshape(1, -1, 3), total.reshape(1, -1, 3))
    return total[:n] * np.float32(1.0 / taps)
