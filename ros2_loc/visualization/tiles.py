"""Satellite tiles on paper: one tile with metres and directions, and an area with all places that have one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ros2_loc.visualization.colors import AMBER, BLUE, INK, RED, hex_color

Image = NDArray[np.uint8]
Array = NDArray[np.float64]
Bounds = tuple[float, float, float, float]

_STYLE: Any = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9.0, "text.color": hex_color(INK)}
_DPI = 110
_MANY = 1500  # squares whose edges would hide the picture


@dataclass(frozen=True, slots=True, eq=False)
class TilePicture:
    """One tile as it is to be drawn.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        coverage_m: its side.
        up_rad: the yaw that points up; pi / 2 is north.
        centre_m: (2,) east, north of its centre.
        place_m: (2,) east, north of what was asked for.
        reach_m: how far from the centre a shift may look, along both axes; 0 leaves the frame away.
        words: (title, line below).
    """

    image: Image
    coverage_m: float
    up_rad: float
    centre_m: Array
    place_m: Array
    reach_m: float
    words: tuple[str, str]


def draw_tile(tile: TilePicture) -> Image:
    """(H, W, 3) uint8 RGB: the tile with its centre, the place asked for, an arrow to the north and axes in metres from the centre."""
    half = tile.coverage_m / 2
    with rc_context(_STYLE):
        figure = Figure((6.2, 6.6), dpi=_DPI)
        axes = figure.add_axes((0.11, 0.1, 0.85, 0.8))
        axes.imshow(tile.image, extent=(-half, half, -half, half), interpolation="nearest" if tile.image.shape[0] < 400 else "antialiased")
        axes.plot(0, 0, "+", color=hex_color(AMBER), ms=14, mew=2, label="centre of the tile")
        offset = _turned(tile.place_m - tile.centre_m, tile.up_rad)
        axes.plot(*offset, "o", mfc="none", color=hex_color(RED), ms=11, mew=2, label="place asked for")
        if tile.reach_m:
            square = ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
            corners = np.array([_turned(tile.reach_m * np.array(p, dtype=np.float64), tile.up_rad) for p in square])
            axes.plot(*corners.T, "--", color=hex_color(BLUE), lw=1.3, label=f"shifts compared (±{tile.reach_m:.1f} m)")
        _north_arrow(axes, half, tile.up_rad)
        axes.set(xlim=(-half, half), ylim=(-half, half), xlabel="to the right [m]", ylabel="up [m]")
        axes.set_title(tile.words[0], fontsize=11, loc="left", pad=8)
        axes.legend(loc="lower left", framealpha=0.85, fontsize=8)
        figure.text(0.11, 0.015, tile.words[1], fontsize=8)
        return _pixels(figure)


def draw_coverage(
    background: Image, bounds_m: Bounds, centres_m: Array, spacing_m: float, title: str, place_m: Array | None = None
) -> Image:
    """(H, W, 3) uint8 RGB: an area with a translucent square around the centre of each tile.

    Args:
        background: (H, W, 3) uint8 RGB, north up.
        bounds_m: its west, south, east, north.
        centres_m: (T, 2) east, north.
        spacing_m: side of the squares.
        title: above the picture.
        place_m: (2,) a place to mark.
    """
    west, south, east, north = bounds_m
    width = 8.0
    with rc_context(_STYLE):
        figure = Figure((width, float(np.clip(width * (north - south) / (east - west), 2.5, 12.0)) + 0.5), dpi=_DPI)
        axes = figure.add_subplot()
        axes.imshow(background, extent=(west, east, south, north), interpolation="antialiased")
        side = 0.86 * spacing_m
        squares = [Rectangle((e - side / 2, n - side / 2), side, side) for e, n in centres_m]
        blue = tuple(v / 255 for v in BLUE)
        edge_pt = 0.4 if len(centres_m) < _MANY else 0.0
        axes.add_collection(PatchCollection(squares, facecolor=(*blue, 0.16), edgecolor=(*blue, 0.6), lw=edge_pt))
        if place_m is not None:
            axes.plot(*place_m, "o", mfc="none", color=hex_color(RED), ms=11, mew=2)
        axes.set(xlim=(west, east), ylim=(south, north), xlabel="east [m]", ylabel="north [m]")
        axes.set_title(title, fontsize=11, loc="left", pad=8)
        figure.tight_layout()
        return _pixels(figure)


def _turned(offset_m: Array, up_rad: float) -> Array:
    """(right, up) of an (east, north) offset in a picture whose up is a yaw."""
    cos, sin = np.cos(up_rad), np.sin(up_rad)
    return np.array([[sin, -cos], [cos, sin]]) @ offset_m


def _north_arrow(axes: Axes, half_m: float, up_rad: float) -> None:
    tip = _turned(np.array([0.0, 0.11 * half_m]), up_rad)
    middle = np.array([0.78, 0.78]) * half_m
    arrow = {"arrowstyle": "-|>", "color": "white", "lw": 2.2, "mutation_scale": 16}
    axes.annotate("", xy=tuple(middle + tip), xytext=tuple(middle - tip), arrowprops=arrow)
    box = {"boxstyle": "round,pad=0.15", "fc": "black", "ec": "none", "alpha": 0.5}
    axes.text(*(middle - 1.6 * tip), "N", color="white", ha="center", va="center", fontsize=10, weight="bold", bbox=box)


def _pixels(figure: Figure) -> Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()
