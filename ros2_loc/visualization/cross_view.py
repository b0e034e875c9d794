"""How a video finds its satellite tile, drawn: what the network saw from above, what it retrieved, what the filter believes.

After the paper's figures 5 and 7 (CVLNet, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from numpy.typing import NDArray

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.visualization.colors import BLUE, GRAY, GREEN, INK, RED, hex_color

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]
Image = NDArray[np.uint8]
Bounds = tuple[float, float, float, float]

_STYLE: Any = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9.0, "text.color": hex_color(INK)}
_UNSEEN = np.array([232, 236, 241], np.uint8)
_SCORES = "viridis"


@dataclass(frozen=True, slots=True, eq=False)
class OverheadExample:
    """One video and one tile; positions of base_link are (2,) m east, north of the tile's centre.

    Attributes:
        frames: images of the video, newest first.
        tile: (H, W, 3) uint8 RGB, north up.
        grid: of the encoder.
        overhead, visible: (C, S, S) features of the video from above, (S, S) bool.
        tile_features: (C, S, S).
        uncertainty, scores: (K, K) of the tile, and of video and tile.
        truth_m, estimate_m: where it was, and where the best shift puts it.
        yaw_rad: true heading.
    """

    frames: Sequence[Image]
    tile: Image
    grid: OverheadGrid
    overhead: Float32
    visible: NDArray[np.bool_]
    tile_features: Float32
    uncertainty: Float32
    scores: Float32
    truth_m: Array
    estimate_m: Array
    yaw_rad: float


@dataclass(frozen=True, slots=True, eq=False)
class RetrievedTile:
    """A tile that was found: its picture, how far its centre is from the truth, and whether that counts as right."""

    image: Image
    distance_m: float
    right: bool


@dataclass(frozen=True, slots=True, eq=False)
class BeliefPicture:
    """What a filter believes at one moment.

    Attributes:
        probability: (rows, columns) float32, row 0 north; bounds_m its west, south, east, north.
        truth_m: (2,) where it is; path_m: (N, 2) where it has been.
        estimate_m, covariance: of the pose that was given, None where none was.
        words: above the picture.
    """

    probability: Float32
    bounds_m: Bounds
    truth_m: Array
    path_m: Array
    estimate_m: Array | None
    covariance: Array | None
    words: str


def feature_colors(maps: Sequence[Float32], masks: Sequence[NDArray[np.bool_]]) -> list[Image]:
    """Feature maps (C, S, S) as RGB (S, S, 3), their first three principal components as colours that mean the same in all of them.

    Args:
        masks: (S, S) bool, cells that count; the others are gray.
    """
    cells = [m[:, mask].T for m, mask in zip(maps, masks, strict=True)]
    scale = [max(float(np.sqrt(np.mean(c**2))), 1e-12) if c.size else 1.0 for c in cells]
    everything = np.concatenate([c / s for c, s in zip(cells, scale, strict=True)]).astype(np.float64)
    if len(everything) == 0:
        return [np.broadcast_to(_UNSEEN, (*mask.shape, 3)).copy() for mask in masks]
    middle = everything.mean(axis=0)
    axes = np.linalg.svd(everything - middle, full_matrices=False)[2][:3]
    low, high = np.percentile((everything - middle) @ axes.T, (2, 98), axis=0)
    out = []
    for m, mask, s in zip(maps, masks, scale, strict=True):
        picture = np.broadcast_to(_UNSEEN, (*mask.shape, 3)).copy()
        values = ((m[:, mask].T / s - middle) @ axes.T - low) / np.maximum(high - low, 1e-12)
        colors = np.full((len(values), 3), 0.5)
        colors[:, : values.shape[1]] = np.clip(values, 0, 1)
        picture[mask] = np.rint(255 * colors).astype(np.uint8)
        out.append(picture)
    return out


def draw_example(example: OverheadExample, words: str = "") -> Image:
    """Query frames, tile, features of both, confidence and similarity in a row; (H, W, 3) uint8 RGB."""
    overhead, tile = feature_colors([example.overhead, example.tile_features], [example.visible, np.ones_like(example.visible)])
    half = 0.5 * example.grid.coverage_m
    with rc_context(_STYLE):
        figure = Figure(figsize=(15.0, 3.45), layout="constrained")
        parts = figure.add_gridspec(1, 6, width_ratios=[1.5, 1, 1, 1, 1.12, 1.12])
        _frames(figure, parts[0], example.frames)
        middle = [figure.add_subplot(parts[k]) for k in range(1, 4)]
        for axes, picture in zip(middle, (example.tile, overhead, tile), strict=True):
            centre = -example.truth_m if picture is overhead else np.zeros(2)
            extent = (-half - centre[0], half - centre[0], -half - centre[1], half - centre[1])
            axes.imshow(picture, extent=extent, interpolation="nearest" if picture is not example.tile else "bilinear")
            axes.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], facecolor=_UNSEEN / 255, anchor="N")
        _mark(middle[0], example, arrow_m=14.0)
        for axes in middle[1:]:
            axes.plot(*example.truth_m, "o", ms=7, mfc="none", mec="white", mew=1.6)
        reach = example.grid.shift_cells * example.grid.metres_per_cell
        if reach > 0:
            middle[0].add_patch(Rectangle((-reach, -reach), 2 * reach, 2 * reach, fill=False, ec="white", lw=1.0, ls="--"))
        _titles(middle, ["tile, the shifts tried", "video from above", "tile, same colours"])
        _shift_map(figure, figure.add_subplot(parts[4]), example, 1.0 / example.uncertainty, "confidence 1 / uncertainty", "cividis")
        _shift_map(figure, figure.add_subplot(parts[5]), example, example.scores, "similarity", _SCORES)
        if words:
            figure.suptitle(words, fontsize=10, x=0.01, ha="left")
        return _pixels(figure, 110)


def draw_retrieval(rows: Sequence[tuple[Image, Sequence[RetrievedTile]]], words: Sequence[str] = ()) -> Image:
    """The newest image of each query and its best tiles, best first: green border where right, red where wrong; (H, W, 3) uint8 RGB."""
    most = max(len(tiles) for _, tiles in rows)
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.7 + 1.75 * most, 2.08 * len(rows)), layout="constrained")
        parts = figure.add_gridspec(len(rows), most + 1, width_ratios=[2.1] + [1.0] * most)
        for r, (query, tiles) in enumerate(rows):
            axes = figure.add_subplot(parts[r, 0])
            axes.imshow(query)
            axes.set(xticks=[], yticks=[])
            axes.set_title(words[r] if r < len(words) else "", fontsize=9, loc="left")
            for k, tile in enumerate(tiles):
                _bordered(figure.add_subplot(parts[r, k + 1]), tile, k + 1)
        return _pixels(figure, 110)


def draw_beliefs(background: Image, bounds_m: Bounds, moments: Sequence[BeliefPicture], columns: int = 4) -> Image:
    """The belief over the imagery as the drive goes on, a panel per moment; (H, W, 3) uint8 RGB.

    Args:
        background: (H, W, 3) uint8 RGB imagery, north up, that covers `bounds_m` (west, south, east, north).
    """
    columns = min(columns, len(moments))
    rows = -(-len(moments) // columns)
    west, south, east, north = bounds_m
    aspect = (north - south) / (east - west)
    faded = (0.45 * background.mean(axis=2, keepdims=True).repeat(3, axis=2) + 0.55 * 250).astype(np.uint8)
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.3 * columns, rows * (3.3 * aspect + 0.35)), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(moments) :]:
            axes.set_axis_off()
        for axes, moment in zip(grid, moments, strict=False):
            axes.imshow(faded, extent=(west, east, south, north), interpolation="bilinear")
            _draw_belief(axes, moment)
            axes.set(xlim=(west, east), ylim=(south, north), xticks=[], yticks=[])
            axes.set_title(moment.words, fontsize=9, loc="left")
            if moment.estimate_m is not None:
                _zoom(axes, background, bounds_m, moment)
        return _pixels(figure, 110)


def _frames(figure: Figure, part: Any, frames: Sequence[Image]) -> None:
    shown = frames[:4]
    inner = part.subgridspec(len(shown), 1, hspace=0.05)
    for k, image in enumerate(shown):
        axes = figure.add_subplot(inner[k])
        axes.imshow(image)
        axes.set(xticks=[], yticks=[], anchor="N")
        if k == 0:
            more = f", {len(frames)} in all" if len(frames) > len(shown) else ""
            axes.set_title(f"query video, newest first{more}", fontsize=9, loc="left")


def _mark(axes: Axes, example: OverheadExample, arrow_m: float) -> None:
    (x, y), (u, v) = example.truth_m, example.estimate_m
    if arrow_m:
        tip = arrow_m * np.array([np.cos(example.yaw_rad), np.sin(example.yaw_rad)])
        axes.annotate("", (x + tip[0], y + tip[1]), (x, y), arrowprops={"arrowstyle": "-|>", "color": hex_color(GREEN), "lw": 1.8})
    axes.plot(x, y, "o", ms=8, mfc="none", mec=hex_color(GREEN), mew=2.2)
    axes.plot(u, v, "x", ms=7, color=hex_color(RED), mew=2.2)


def _shift_map(figure: Figure, axes: Axes, example: OverheadExample, values: Float32, title: str, colors: str) -> None:
    side = 0.5 * example.grid.num_shifts * example.grid.metres_per_cell
    shown = axes.imshow(values, extent=(-side, side, -side, side), cmap=colors, interpolation="nearest")
    _mark(axes, example, arrow_m=0.0)
    axes.set(xlim=(-side, side), ylim=(-side, side), anchor="N")
    axes.tick_params(labelsize=7, colors=hex_color(GRAY), length=2)
    axes.set_xlabel("m east", fontsize=8, color=hex_color(GRAY), labelpad=1)
    bar = figure.colorbar(shown, cax=axes.inset_axes((1.03, 0.0, 0.05, 1.0)))
    bar.ax.tick_params(labelsize=7, colors=hex_color(GRAY), length=2)
    bar.outline.set_visible(False)  # type: ignore[operator]
    _titles([axes], [title])


def _titles(axes: Sequence[Axes], titles: Sequence[str]) -> None:
    for a, title in zip(axes, titles, strict=True):
        a.set_title(title, fontsize=9, loc="left")


def _bordered(axes: Axes, tile: RetrievedTile, rank: int) -> None:
    color = hex_color(GREEN if tile.right else RED)
    axes.imshow(tile.image)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=4.0)
    far = f"{tile.distance_m:.0f} m" if tile.distance_m < 1000 else f"{tile.distance_m / 1000:.1f} km"
    axes.set_title(f"{rank}.  {far} off", fontsize=9, color=color, loc="left")


def _draw_belief(axes: Axes, moment: BeliefPicture) -> None:
    west, south, east, north = moment.bounds_m
    top = max(float(moment.probability.max(initial=0.0)), 1e-30)
    share = np.sqrt(moment.probability / top)
    drawn: Any = {"cmap": "plasma_r", "vmin": 0, "vmax": 1, "alpha": np.clip(1.6 * share, 0, 0.9), "interpolation": "nearest"}
    axes.imshow(share, extent=(west, east, south, north), **drawn)
    axes.plot(*moment.path_m.T, "-", color=hex_color(INK), lw=1.2)
    axes.plot(*moment.truth_m, "o", ms=7, mfc="none", mec=hex_color(GREEN), mew=2.0)
    if moment.estimate_m is not None and moment.covariance is not None:
        variances, directions = np.linalg.eigh(moment.covariance)
        width, height = 6.0 * np.sqrt(np.maximum(variances, 0))
        angle = float(np.degrees(np.arctan2(directions[1, 0], directions[0, 0])))
        axes.add_patch(Ellipse(tuple(moment.estimate_m), width, height, angle=angle, fill=False, ec=hex_color(BLUE), lw=1.8))
        axes.plot(*moment.estimate_m, "x", ms=6, color=hex_color(BLUE), mew=2.0)


def _zoom(axes: Axes, background: Image, bounds_m: Bounds, moment: BeliefPicture, half_m: float = 25.0) -> None:
    """The surroundings of the truth in the corner that is farthest from it."""
    west, south, east, north = bounds_m
    (x, y), side = moment.truth_m, 0.36
    left, low = (0.01 if x > 0.5 * (west + east) else 0.99 - side), (0.01 if y > 0.5 * (south + north) else 0.99 - side)
    corner = axes.inset_axes((left, low, side, side))
    corner.imshow(background, extent=(west, east, south, north), interpolation="bilinear")
    _draw_belief(corner, moment)
    corner.set(xlim=(x - half_m, x + half_m), ylim=(y - half_m, y + half_m), xticks=[], yticks=[])
    for spine in corner.spines.values():
        spine.set(color=hex_color(INK), linewidth=1.2)


def _pixels(figure: Figure, dpi: int) -> Image:
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
