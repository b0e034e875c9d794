"""What two localizers said along one drive, on the imagery of the place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from ros2_loc.io.files import atomic_path
from ros2_loc.visualization.colors import AMBER, BLUE, GREEN, INK, VIOLET, hex_color

Array = NDArray[np.float64]
Bounds = tuple[float, float, float, float]

_SIGMAS = 2.0
_MARGIN_M = 25.0


def _none() -> Array:
    return np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class LocalizersView:
    """Positions in the map, m, (N, 2) each.

    Attributes:
        imagery: (H, W, 3) uint8 RGB from above, its first row the northmost.
        imagery_from_map: (2, 3): (east, north) in the imagery of (x, y) in the map.
        bounds_m: west, south, east, north of the imagery.
        truth_m: true path in order of time; off_map (N,) True where no place of the map looks.
        places_m: places of the map.
        map_poses_m, tile_poses_m, fused_m: of map_localizer, of cross_view_localizer, of the fusion (in order of time).
        tile_covariances_m2: (N, 2, 2) of tile_poses_m.
    """

    imagery: NDArray[np.uint8]
    imagery_from_map: Array
    bounds_m: Bounds
    truth_m: Array = field(default_factory=_none)
    off_map: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    places_m: Array = field(default_factory=_none)
    map_poses_m: Array = field(default_factory=_none)
    tile_poses_m: Array = field(default_factory=_none)
    tile_covariances_m2: Array = field(default_factory=lambda: np.zeros((0, 2, 2)))
    fused_m: Array = field(default_factory=_none)


def draw_localizers(axes: Axes, view: LocalizersView) -> None:
    """Draws on matplotlib axes, east to the right and north up, cut to the drive."""
    west, south, east, north = view.bounds_m
    axes.imshow(view.imagery, extent=(west, east, south, north), interpolation="antialiased", alpha=0.85)
    truth = _placed(view, view.truth_m)
    axes.plot(*np.where(view.off_map, truth.T, np.nan), "-", color=hex_color(AMBER), lw=16, alpha=0.5, label="off the map", zorder=2)
    axes.plot(*_placed(view, view.places_m).T, "o", color="white", mec=hex_color(INK), mew=0.7, ms=4.5, label="images of the map", zorder=3)
    axes.plot(*truth.T, "-", color="white", lw=3.2, zorder=3)
    axes.plot(*truth.T, "-", color=hex_color(INK), lw=1.4, label="truth", zorder=4)
    axes.plot(*_placed(view, view.fused_m).T, "-", color=hex_color(GREEN), lw=1.4, label="pose_fusion", zorder=5)
    _draw_ellipses(axes, view)
    axes.plot(*_placed(view, view.map_poses_m).T, ".", color=hex_color(BLUE), ms=6, label="map_localizer", zorder=7)
    seen = np.vstack([truth, _placed(view, view.tile_poses_m)])
    if len(seen):
        axes.set_xlim(max(seen[:, 0].min() - _MARGIN_M, west), min(seen[:, 0].max() + _MARGIN_M, east))
        axes.set_ylim(max(seen[:, 1].min() - _MARGIN_M, south), min(seen[:, 1].max() + _MARGIN_M, north))
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("east [m]")
    axes.set_ylabel("north [m]")


def _draw_ellipses(axes: Axes, view: LocalizersView) -> None:
    turn = view.imagery_from_map[:, :2]
    for centre, covariance in zip(_placed(view, view.tile_poses_m), view.tile_covariances_m2, strict=True):
        values, vectors = np.linalg.eigh(turn @ covariance @ turn.T)
        width, height = 2 * _SIGMAS * np.sqrt(np.maximum(values, 0.0))
        angle_deg = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
        ellipse = Ellipse((centre[0], centre[1]), width, height, angle=angle_deg, fill=False, ec=hex_color(VIOLET))
        ellipse.set(linewidth=1.1, alpha=0.65, zorder=5)
        axes.add_patch(ellipse)
    label = f"cross_view_localizer, {_SIGMAS:g} sigma"
    axes.plot(*_placed(view, view.tile_poses_m).T, "P", color=hex_color(VIOLET), mec="white", mew=0.6, ms=7, label=label, zorder=6)


def _placed(view: LocalizersView, points_m: Array) -> Array:
    return np.asarray(points_m[:, :2] @ view.imagery_from_map[:, :2].T + view.imagery_from_map[:, 2])


def write_localizers(path: Path | str, view: LocalizersView, title: str = "") -> None:
    """A PNG with a legend below."""
    figure = Figure(figsize=(9.0, 9.0), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    draw_localizers(axes, view)
    axes.set_title(title, fontsize=11, color=hex_color(INK))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, markerscale=0.9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
