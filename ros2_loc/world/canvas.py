"""A picture that is drawn in metres, and the materials that it is drawn with.

Everything random comes from the `numpy.random.Generator` that the caller passes, so the same seed draws the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Rgb = tuple[int, int, int]
Shape = tuple[int, int]
Points = Sequence[Sequence[float] | NDArray[np.float64]] | NDArray[np.float64]


class Pane(NamedTuple):
    """A rectangle of glass, behind which there may be light: its borders, and a number (1 to 255) that stands for the room."""

    x0: float
    y0: float
    x1: float
    y1: float
    number: int


class Canvas:
    """(H, W, 3) uint8 RGB over the rectangle x0..x0+width, y0..y0+height in metres; x to the right, y up."""

    def __init__(self, width_m: float, height_m: float, px_per_m: float, x0_m: float = 0.0, y0_m: float = 0.0) -> None:
        self.px_per_m, self.x0_m, self.y0_m, self.height_m = px_per_m, x0_m, y0_m, height_m
        self.image: Image = np.zeros((round(height_m * px_per_m), round(width_m * px_per_m), 3), np.uint8)
        self.panes: list[Pane] = []

    def pixels(self, points_m: Points) -> NDArray[np.int32]:
        """(N, 2) m -> (N, 2) px, rounded."""
        points = np.asarray(points_m, np.float64).reshape(-1, 2)
        x, y = points[:, 0] - self.x0_m, self.height_m - (points[:, 1] - self.y0_m)
        return np.rint(np.column_stack([x, y]) * self.px_per_m - 0.5).astype(np.int32)

    def region(self, x0: float, y0: float, x1: float, y1: float) -> Image:
        """The pixels of the rectangle, as a view that can be written to."""
        top = self.height_m - (y1 - self.y0_m)
        bottom = self.height_m - (y0 - self.y0_m)
        rows = slice(max(round(top * self.px_per_m), 0), max(round(bottom * self.px_per_m), 0))
        columns = slice(max(round((x0 - self.x0_m) * self.px_per_m), 0), max(round((x1 - self.x0_m) * self.px_per_m), 0))
        return self.image[rows, columns]

    def rect(self, x0: float, y0: float, x1: float, y1: float, rgb: Rgb) -> None:
        """Fills a rectangle with one colour."""
        self.region(x0, y0, x1, y1)[:] = rgb

    def pane(self, x0: float, y0: float, x1: float, y1: float, number: int = 0) -> None:
        """Notes, in metres, that the rectangle is glass; without a number it gets one of its own, below 252."""
        self.panes.append(Pane(x0, y0, x1, y1, number or 1 + 89 * len(self.panes) % 251))

    def darken(self, x0: float, y0: float, x1: float, y1: float, factor: float) -> None:
        """Multiplies the rectangle, as a shadow does."""
        part = self.region(x0, y0, x1, y1)
        part[:] = np.clip(part * factor, 0, 255).astype(np.uint8)

    def polygon(self, points_m: Points, rgb: Rgb) -> None:
        """Fills a polygon with one colour."""
        cv2.fillPoly(self.image, [self.pixels(points_m)], rgb, cv2.LINE_AA)

    def paint(self, points_m: Points, material: Image) -> None:
        """Fills a polygon with a picture that is repeated from the canvas' upper left corner."""
        pixels = self.pixels(points_m)
        low = np.clip(pixels.min(axis=0), 0, None)
        high = np.minimum(pixels.max(axis=0) + 1, self.image.shape[1::-1])
        if (high <= low).any():
            return
        mask = np.zeros((high - low)[::-1], np.uint8)
        cv2.fillPoly(mask, [pixels - low.astype(np.int32)], 255)
        rows = np.arange(low[1], high[1]) % material.shape[0]
        columns = np.arange(low[0], high[0]) % material.shape[1]
        cv2.copyTo(material[np.ix_(rows, columns)], mask, self.image[low[1] : high[1], low[0] : high[0]])

    def lines(self, points_m: Points, rgb: Rgb, width_m: float) -> None:
        """Draws a polyline."""
        cv2.polylines(self.image, [self.pixels(points_m)], False, rgb, max(1, round(width_m * self.px_per_m)), cv2.LINE_AA)

    def disc(self, x: float, y: float, radius_m: float, rgb: Rgb) -> None:
        """Fills a circle."""
        centre = self.pixels([[x, y]])[0]
        cv2.circle(self.image, (int(centre[0]), int(centre[1])), max(1, round(radius_m * self.px_per_m)), rgb, -1, cv2.LINE_AA)

    def text(self, x: float, y: float, height_m: float, words: str, rgb: Rgb) -> None:
        """Writes words centred at (x, y)."""
        scale = height_m * self.px_per_m / 22.0
        thickness = max(1, round(scale * 2.4))
        (w, h), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
        px = self.pixels([[x, y]])[0]
        cv2.putText(
            self.image, words, (int(px[0] - w / 2), int(px[1] + h / 2)), cv2.FONT_HERSHEY_DUPLEX, scale, rgb, thickness, cv2.LINE_AA
        )


def noise(shape: Shape, cells_px: Sequence[float], rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) float32 of about zero mean and unit size: smooth value noise, one octave for each cell size."""
    out = np.zeros(shape, np.float32)
    for cell in cells_px:
        grid = (int(shape[0] / cell) + 2, int(shape[1] / cell) + 2)
        coarse = rng.standard_normal(grid, dtype=np.float32)
        out += coarse[: shape[0], : shape[1]] if cell <= 1 else cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return out / np.float32(np.sqrt(max(len(cells_px), 1)))


def mottled(shape: Shape, rgb: Rgb, cells_px: Sequence[float], amount: float, rng: np.random.Generator) -> Image:
    """A colour whose brightness varies by `amount` (standard deviation, share of the colour)."""
    return shaded(np.array(rgb, np.float32), noise(shape, cells_px, rng) * amount)


def shaded(rgb: NDArray, change: NDArray[np.float32]) -> Image:
    """A colour or picture times (1 + change (H, W)), as uint8."""
    return np.clip(rgb * (1.0 + change[..., None]), 0, 255).astype(np.uint8)


def courses(shape: Shape, brick_px: tuple[float, float], rgb: Rgb, joint: Rgb, amount: float, rng: np.random.Generator) -> Image:
    """Courses of bricks, stones, tiles or planks, each brick of its own shade; brick_px is (width, height)."""
    row = (np.arange(shape[0]) / brick_px[1]).astype(int)
    starts = rng.uniform(0, 1, row.max() + 1)
    along = np.arange(shape[1])[None, :] / brick_px[0] + starts[row][:, None]
    column = along.astype(int)
    shades = rng.normal(1.0, amount, (row.max() + 1, column.max() + 1)).astype(np.float32)
    tints = 1.0 + rng.normal(0, amount / 3, (row.max() + 1, column.max() + 1, 3)).astype(np.float32)
    image = np.array(rgb, np.float32) * shades[row[:, None], column][..., None] * tints[row[:, None], column]
    gap = (np.arange(shape[0]) / brick_px[1] - row < 1.0 / brick_px[1])[:, None] | (along - column < 1.0 / brick_px[0])
    image[gap] = joint
    return shaded(image, 0.05 * noise(shape, (1, 3, 24), rng))


def foliage(shape: Shape, rgb: Rgb, leaf_px: float, rng: np.random.Generator) -> Image:
    """Leaves: blobs of light and dark green with gaps in deep shade."""
    light = noise(shape, (leaf_px, leaf_px * 2.5), rng)
    colour = np.array(rgb, np.float32) + noise(shape, (leaf_px,), rng)[..., None] * np.array([14, 10, 2], np.float32)
    image = shaded(colour, 0.33 * light + 0.08 * noise(shape, (1,), rng))
    image[light < -1.3] = (np.array(rgb) * 0.3).astype(np.uint8)
    return image
