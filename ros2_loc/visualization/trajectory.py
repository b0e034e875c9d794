"""Where the vehicle was and where the localizer says it was, from above."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ros2_loc.io.files import atomic_path
from ros2_loc.visualization.colors import AMBER, BLUE, GRAY, INK, LIGHT_GRAY, RED, hex_color

Array = NDArray[np.float64]

ERROR_COLORS = LinearSegmentedColormap.from_list("error", [hex_color(BLUE), "#7c3aed", hex_color(AMBER), hex_color(RED)])


def _none() -> Array:
    return np.zeros((0, 3))


@dataclass(frozen=True, eq=False)
class TopView:
    """Positions in the map, m, z unused.

    Attributes:
        truth_m: (N, 3) true path in order of time; a row of NaN breaks the line.
        estimates_m: (M, 3) estimated positions; errors_m (M,) colours them, None: one colour.
        rejected_m: (R, 3) true positions of frames without a pose.
        places_m: (P, 3) places of the map.
    """

    truth_m: Array = field(default_factory=_none)
    estimates_m: Array = field(default_factory=_none)
    errors_m: Array | None = None
    rejected_m: Array = field(default_factory=_none)
    places_m: Array = field(default_factory=_none)


def draw_top_view(axes: Axes, view: TopView) -> None:
    """Draws on matplotlib axes, x east to the right and y north up, same scale."""
    if len(view.places_m):
        axes.plot(*view.places_m[:, :2].T, "o", color=hex_color(LIGHT_GRAY), mfc="none", ms=8, mew=1.0, label="map places", zorder=1)
    if len(view.truth_m):
        axes.plot(*view.truth_m[:, :2].T, "-", color=hex_color(INK), lw=1.0, label="truth", zorder=2)
    if len(view.estimates_m):
        _draw_estimates(axes, view)
    if len(view.rejected_m):
        axes.plot(*view.rejected_m[:, :2].T, "x", color=hex_color(RED), ms=6, mew=1.6, label="rejected (at the truth)", zorder=4)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    axes.set_xlabel("x [m]")
    axes.set_ylabel("y [m]")
    axes.grid(color="#e5e7eb", lw=0.6)
    axes.set_axisbelow(True)


def _draw_estimates(axes: Axes, view: TopView) -> None:
    x, y = view.estimates_m[:, 0], view.estimates_m[:, 1]
    if view.errors_m is None:
        axes.scatter(x, y, s=9, color=hex_color(BLUE), label="estimates", zorder=3, lw=0)
        return
    worst_first = np.argsort(view.errors_m)  # the worst are drawn last, on top
    top = max(float(np.percentile(view.errors_m, 98)), 1e-3)
    unit, factor = ("cm", 100.0) if top < 1 else ("m", 1.0)
    points = axes.scatter(
        x[worst_first],
        y[worst_first],
        c=factor * view.errors_m[worst_first],
        cmap=ERROR_COLORS,
        vmin=0,
        vmax=factor * top,
        s=12,
        lw=0,
        label="estimates",
        zorder=3,
    )
    bar = axes.figure.colorbar(points, ax=axes, fraction=0.035, pad=0.02, extend="max")
    bar.set_label(f"error [{unit}]", color=hex_color(GRAY))
    bar.outline.set_visible(False)  # type: ignore[operator]


def write_top_view(path: Path | str, view: TopView, title: str = "") -> None:
    """A PNG, 1600 px wide."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.add_subplot()
    draw_top_view(axes, view)
    axes.set_title(title)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best", frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, format="png")
