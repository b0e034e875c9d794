"""Pictures of retrieval: where methods look, what agrees, which places they put first."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ros2_loc.core.types import FloatArray, PlaceMatches
from ros2_loc.evaluation.report.figures import STYLE
from ros2_loc.visualization.colors import GRAY, GREEN, INK, LIGHT_GRAY, RED, hex_color

Image = NDArray[np.uint8]

_DPI = 150
_WIDTH_IN = 9.0
_TITLE_IN = 0.24  # of a row, over its images
_MARGIN_IN = 0.04
_LINES = 90  # of a pair: more hide the images
_POINTS = 600
_GAP_PX = 8
_PAIR_PX = 700  # length of the common side
_STACKED_FROM = 2.0  # width over height


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The first places of one method.

    Attributes:
        places: images, best first.
        right: of each, or None where nobody knows.
        inliers: of each, or None where the method has no such thing.
    """

    method: str
    places: list[Image]
    right: list[bool | None]
    inliers: list[int | None]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one method sees in a query, a right and a wrong place.

    Attributes:
        keypoints: of the three images, (N, 2) px.
        matches: of the query with the right and the wrong place.
    """

    method: str
    keypoints: tuple[FloatArray, ...]
    matches: tuple[PlaceMatches, ...]


def draw_predictions(query: Image, rows: Sequence[Prediction]) -> Image:
    """The query on the left, each method's first places in a row; green frames are right, red ones wrong, gray ones not known."""
    cell_in = _WIDTH_IN / (1 + max(len(row.places) for row in rows))
    row_in = cell_in * _tallest([query, *(p for row in rows for p in row.places)]) + _TITLE_IN

    def draw(axes: Axes) -> None:
        for k, row in enumerate(rows):
            _put(axes, query, (0.0, k * row_in), cell_in, LIGHT_GRAY, 1.0, row.method)
            for j, (place, right, inliers) in enumerate(zip(row.places, row.right, row.inliers, strict=True), 1):
                color = GRAY if right is None else GREEN if right else RED
                words = "" if inliers is None else f"{inliers} inliers"
                _put(axes, place, (j * cell_in, k * row_in), cell_in, color, 2.5, words)

    return _picture(len(rows) * row_in, draw)


def draw_keypoints(images: Sequence[Image], rows: Sequence[Seen]) -> Image:
    """A row for each method that looks at points: query, right place, wrong place (as figures 4.9 and 4.11)."""
    shown = [row for row in rows if any(len(points) for points in row.keypoints)] or list(rows[:1])
    cell_in = _WIDTH_IN / len(images)
    row_in = cell_in * _tallest(images) + _TITLE_IN

    def draw(axes: Axes) -> None:
        for k, row in enumerate(shown):
            for j, (image, points) in enumerate(zip(images, row.keypoints, strict=True)):
                words = f"{('query', 'right place', 'wrong place')[j]}, {len(points)} points"
                color = (LIGHT_GRAY, GREEN, RED)[j]
                at = _put(axes, image, (j * cell_in, k * row_in), cell_in, color, 1.5, f"{row.method}: {words}" if j == 0 else words)
                some = at.from_px(_thinned(np.asarray(points), _POINTS))
                axes.plot(some[:, 0], some[:, 1], "o", ms=2.2, mew=0.3, mec="#1e293b", color="#facc15")

    return _picture(len(shown) * row_in, draw)


def draw_matches_of(images: Sequence[Image], rows: Sequence[Seen]) -> Image:
    """A row for each method: all its matches of the query with a right and a wrong place, and those that agree (as figure 4.12)."""
    pairs = [_paired(images[0], images[k]) for k in (1, 2)]
    cell_in = _WIDTH_IN / 2
    row_in = cell_in * _tallest([pair.image for pair in pairs]) + _TITLE_IN

    def draw(axes: Axes) -> None:
        for k, row in enumerate(rows):
            for j, (matches, pair) in enumerate(zip(row.matches, pairs, strict=True)):
                words = f"{('right', 'wrong')[j]} place: {len(matches.inliers)} matches, {int(matches.inliers.sum())} agree"
                words = f"{row.method}: {words}" if j == 0 else words
                at = _put(axes, pair.image, (j * cell_in, k * row_in), cell_in, (GREEN, RED)[j], 1.5, words)
                _draw_lines(axes, matches, pair, at)

    return _picture(len(rows) * row_in, draw)


@dataclass(frozen=True, slots=True)
class _At:
    """Where an image lies on the sheet: its corner and the size of its pixels, inches."""

    x_in: float
    y_in: float
    px_in: float

    def from_px(self, points_px: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels, (0, 0) the outer corner of the first -> inches on the sheet."""
        return np.asarray(points_px, dtype=np.float64).reshape(-1, 2) * self.px_in + [self.x_in, self.y_in]


def _put(
    axes: Axes, image: Image, corner_in: tuple[float, float], width_in: float, color: tuple[int, int, int], line: float, words: str
) -> _At:
    """An image with a frame and a title over it."""
    x, y = corner_in[0] + _MARGIN_IN, corner_in[1] + _TITLE_IN - _MARGIN_IN
    width = width_in - 2 * _MARGIN_IN
    at = _At(x, y, width / image.shape[1])
    height = image.shape[0] * at.px_in
    axes.imshow(image, extent=(x, x + width, y + height, y), interpolation="antialiased")
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=hex_color(color), linewidth=line))
    axes.text(x, y - 0.05, words, fontsize=7.5, va="bottom", ha="left")
    return at


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Two images in one: where the second begins, and how both were scaled."""

    image: Image
    offset_px: NDArray[np.float64]
    scales: tuple[float, float]


def _paired(first: Image, second: Image) -> _Pair:
    """Side by side at one height; wide images one above the other at one width."""
    stacked = min(first.shape[1] / first.shape[0], second.shape[1] / second.shape[0]) > _STACKED_FROM
    axis = 1 if stacked else 0  # of the image, whose length both get
    length = min(first.shape[axis], second.shape[axis], _PAIR_PX)
    scales = (length / first.shape[axis], length / second.shape[axis])
    parts = [_scaled(image, scale) for image, scale in zip((first, second), scales, strict=True)]
    gap = np.full((_GAP_PX, length, 3) if stacked else (length, _GAP_PX, 3), 255, np.uint8)
    offset = parts[0].shape[1 - axis] + _GAP_PX
    joined = np.concatenate([parts[0], gap, parts[1]], axis=1 - axis)
    return _Pair(joined, np.array([0.0, offset] if stacked else [offset, 0.0]), scales)


def _scaled(image: Image, scale: float) -> Image:
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _draw_lines(axes: Axes, matches: PlaceMatches, pair: _Pair, at: _At) -> None:
    """Those that agree in green over the others in gray."""
    for agree, color, width, alpha in ((False, "#e2e8f0", 0.45, 0.6), (True, "#22c55e", 0.7, 0.85)):
        rows = _thinned(np.flatnonzero(matches.inliers == agree), _LINES)
        first = at.from_px(np.asarray(matches.query_px)[rows] * pair.scales[0])
        second = at.from_px(np.asarray(matches.place_px)[rows] * pair.scales[1] + pair.offset_px)
        axes.add_collection(LineCollection(np.stack([first, second], axis=1), colors=color, linewidths=width, alpha=alpha))
        ends = np.concatenate([first, second])
        axes.plot(ends[:, 0], ends[:, 1], ".", ms=2.2, mew=0, color=color)


def _thinned(items: NDArray, most: int) -> NDArray:  # type: ignore[type-arg]
    """At most so many, evenly chosen."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).round().astype(int)]  # type: ignore[no-any-return]


def _tallest(images: Sequence[Image]) -> float:
    """The largest height of the images at width 1."""
    return max(image.shape[0] / image.shape[1] for image in images)


def _picture(height_in: float, draw: Callable[[Axes], None]) -> Image:
    """(H, W, 3) uint8 RGB of what `draw` puts on a sheet, whose axes are inches, y downwards."""
    with rc_context({**STYLE, "text.color": hex_color(INK)}):
        figure = Figure(figsize=(_WIDTH_IN, height_in))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        draw(axes)
        axes.set(xlim=(0.0, _WIDTH_IN), ylim=(height_in, 0.0), aspect="auto")
        axes.axis("off")
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=_DPI, format="png", pil_kwargs={"compress_level": 1})
    decoded = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(decoded[..., ::-1], dtype=np.uint8)
