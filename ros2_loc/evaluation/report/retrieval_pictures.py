"""Pictures of retrieval: where methods look, what agrees, which places they put first."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ros2_loc.core.types import FloatArray, PlaceMatches
from ros2_loc.evaluation.report.figures import STYLE
from ros2_loc.visualization.colors import GRAY, GREEN, INK, LIGHT_GRAY, RED, hex_color

Image = NDArray[np.uint8]

_DPI = 150
_WIDTH_IN = 9.0
_LINES = 120  # of a pair: more hide the images
_POINTS = 600
_GAP_PX = 8


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
    columns = 1 + max(len(row.places) for row in rows)
    cell_in = _WIDTH_IN / columns

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(len(rows), columns, wspace=0.04, hspace=0.3)
        for k, row in enumerate(rows):
            axes = figure.add_subplot(grid[k, 0])
            _show(axes, query)
            axes.set_title(row.method, fontsize=8, loc="left", pad=3)
            _frame(axes, LIGHT_GRAY, 1.0)
            for j, (place, right, inliers) in enumerate(zip(row.places, row.right, row.inliers, strict=True)):
                axes = figure.add_subplot(grid[k, 1 + j])
                _show(axes, place)
                _frame(axes, GRAY if right is None else GREEN if right else RED, 2.5)
                if inliers is not None:
                    axes.set_title(f"{inliers} inliers", fontsize=7, loc="left", pad=3, color=hex_color(GRAY))

    return _picture(len(rows) * (cell_in * _tallest([query, *(p for row in rows for p in row.places)]) + 0.22), draw)


def draw_keypoints(images: Sequence[Image], rows: Sequence[Seen]) -> Image:
    """A row for each method that looks at points: query, right place, wrong place (as figures 4.9 and 4.11)."""
    shown = [row for row in rows if any(len(points) for points in row.keypoints)] or list(rows[:1])
    cell_in = _WIDTH_IN / len(images)

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(len(shown), len(images), wspace=0.03, hspace=0.16)
        for k, row in enumerate(shown):
            for j, (image, points) in enumerate(zip(images, row.keypoints, strict=True)):
                axes = figure.add_subplot(grid[k, j])
                _show(axes, image)
                _frame(axes, (LIGHT_GRAY, GREEN, RED)[j], 1.5)
                some = _thinned(np.asarray(points), _POINTS)
                axes.plot(some[:, 0] - 0.5, some[:, 1] - 0.5, "o", ms=2.4, mew=0.3, mec="#1e293b", color="#facc15")
                words = ("query", "right place", "wrong place")[j]
                axes.set_title(f"{row.method}: {words}, {len(points)}" if j == 0 else f"{words}, {len(points)}", fontsize=7.5, pad=3)

    return _picture(len(shown) * (cell_in * _tallest(images) + 0.24), draw)


def draw_matches_of(images: Sequence[Image], rows: Sequence[Seen]) -> Image:
    """A row for each method: all its matches of the query with a right and a wrong place, and those that agree (as figure 4.12)."""
    pairs = [_beside(images[0], images[k]) for k in (1, 2)]
    cell_in = _WIDTH_IN / 2

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(len(rows), 2, wspace=0.03, hspace=0.16)
        for k, row in enumerate(rows):
            for j, (matches, pair) in enumerate(zip(row.matches, pairs, strict=True)):
                axes = figure.add_subplot(grid[k, j])
                _show(axes, pair.image)
                _frame(axes, (GREEN, RED)[j], 1.5)
                _draw_lines(axes, matches, pair)
                count = int(matches.inliers.sum())
                place = ("right", "wrong")[j]
                words = f"{place} place: {len(matches.inliers)} matches, {count} agree"
                axes.set_title(f"{row.method}: {words}" if j == 0 else words, fontsize=7.5, pad=3)

    return _picture(len(rows) * (cell_in * _tallest([pair.image for pair in pairs]) + 0.24), draw)


@dataclass(frozen=True, slots=True, eq=False)
class _Beside:
    """Two images at one height: where the second begins, and how both were scaled."""

    image: Image
    offset_px: float
    scales: tuple[float, float]


def _beside(first: Image, second: Image) -> _Beside:
    """Wide images one above the other would be small in a column of half the page: side by side all the same."""
    height = min(first.shape[0], second.shape[0], 480)
    scales = (height / first.shape[0], height / second.shape[0])
    parts = [
        np.asarray(cv2.resize(image, (max(round(image.shape[1] * s), 1), height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        for image, s in zip((first, second), scales, strict=True)
    ]
    gap = np.full((height, _GAP_PX, 3), 255, np.uint8)
    return _Beside(np.concatenate([parts[0], gap, parts[1]], axis=1), parts[0].shape[1] + _GAP_PX, scales)


def _draw_lines(axes: Axes, matches: PlaceMatches, pair: _Beside) -> None:
    """Those that agree in green over the others in gray."""
    for agree, color, width, alpha in ((False, "#e2e8f0", 0.45, 0.6), (True, "#22c55e", 0.7, 0.85)):
        rows = _thinned(np.flatnonzero(matches.inliers == agree), _LINES)
        first = np.asarray(matches.query_px)[rows] * pair.scales[0] - 0.5
        second = np.asarray(matches.place_px)[rows] * pair.scales[1] - 0.5
        for a, b in zip(first, second, strict=True):
            axes.plot([a[0], b[0] + pair.offset_px], [a[1], b[1]], "-", color=color, lw=width, alpha=alpha)
        axes.plot(first[:, 0], first[:, 1], ".", ms=2.2, mew=0, color=color)
        axes.plot(second[:, 0] + pair.offset_px, second[:, 1], ".", ms=2.2, mew=0, color=color)


def _thinned(items: NDArray, most: int) -> NDArray:  # type: ignore[type-arg]
    """At most so many, evenly chosen."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).round().astype(int)]  # type: ignore[no-any-return]


def _tallest(images: Sequence[Image]) -> float:
    """The largest height of the images at width 1."""
    return max(image.shape[0] / image.shape[1] for image in images)


def _show(axes: Axes, image: Image) -> None:
    height, width = image.shape[:2]
    axes.imshow(image, interpolation="antialiased")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.grid(False)


def _frame(axes: Axes, color: tuple[int, int, int], width: float) -> None:
    for side in axes.spines.values():
        side.set(visible=True, color=hex_color(color), linewidth=width)


def _picture(height_in: float, draw: Callable[[Figure], None]) -> Image:
    """(H, W, 3) uint8 RGB of what `draw` puts on a figure."""
    with rc_context({**STYLE, "text.color": hex_color(INK)}):
        figure = Figure(figsize=(_WIDTH_IN, max(height_in, 0.8)))
        figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=1.0 - 0.22 / max(height_in, 0.8))
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=_DPI, format="png")
    decoded = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(decoded[..., ::-1], dtype=np.uint8)
