"""The plots of a cross-view evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from ros2_loc.evaluation import cross_view_metrics as cv
from ros2_loc.evaluation.cross_view_records import MEASURES, TESTS, FilterCondition, SingleShot, rank_key
from ros2_loc.evaluation.report.figures import legend_above, png
from ros2_loc.visualization.colors import AMBER, BLUE, GRAY, GREEN, INK, RED, hex_color

Array = NDArray[np.float64]

_COLORS = [*map(hex_color, (BLUE, AMBER, GREEN, RED, INK, GRAY)), "#7c3aed", "#0891b2", "#be185d"]
_MOST_K = 100


def recall_curves(results: Sequence[SingleShot]) -> bytes:
    """Recall within 10 m over k: full lines Test-2, dashed Test-1."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, s in zip(_COLORS, results, strict=False):
            for test in TESTS:
                ranks = np.array([q.ranks[rank_key(test, cv.ARRIVED_M, MEASURES[0])] for q in s.queries])
                k = np.arange(1, _MOST_K + 1)
                shares = 100 * (ranks[:, None] < k).mean(axis=0)
                axes.plot(k, shares, color=color, lw=1.6, ls="-" if test == 2 else "--", label=s.label if test == 2 else None)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.set(xlabel="k", ylabel="recall at k [%]", ylim=(0, 101), xlim=(1, _MOST_K))
        legend_above(axes)

    return png(3.6, draw)


def recall_over_frames(results: Sequence[SingleShot]) -> bytes:
    """Recall of Test-2 against the number of frames (the paper's figure 6)."""
    ordered = sorted(results, key=lambda s: s.frames)
    frames = [s.frames for s in ordered]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, (i, k) in zip(_COLORS, enumerate(cv.RECALL_AT), strict=False):
            shares = [s.metrics.recalls[rank_key(2, cv.ARRIVED_M, MEASURES[0])][i] for s in ordered]
            axes.plot(frames, [np.nan if v is None else 100 * v for v in shares], "o-", color=color, ms=4, lw=1.6, label=f"r@{k}")
        axes.set(xlabel="frames in the video", ylabel="recall, Test-2 [%]", ylim=(0, 101), xticks=frames)
        legend_above(axes)

    return png(3.2, draw)


def displacement_curves(results: Sequence[SingleShot]) -> bytes:
    """Share of queries whose position in the nearest tile is better than x; gray: the tile's centre itself."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _cumulative(axes, np.array([q.nearest_m for q in results[0].queries]), hex_color(GRAY), "tile's centre", "--")
        for color, s in zip(_COLORS, results, strict=False):
            _cumulative(axes, np.array([np.hypot(*q.aligned_error_m) for q in s.queries]), color, s.label)
        axes.set(xlabel="error in the nearest tile [m]", ylabel="share of queries [%]", xlim=(0, 15), ylim=(0, 101))
        legend_above(axes)

    return png(3.2, draw)


def runs_within(conditions: Sequence[FilterCondition]) -> bytes:
    """Share of runs that give a pose within 10 m, over the way since the start."""
    way = np.linspace(0.0, max(max(run.travelled_m, default=0.0) for c in conditions for run in c.runs), 120)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, c in zip(_COLORS, conditions, strict=False):
            shares = [100 * np.mean([cv.within_after(run.track, w, accepted_only=True) for run in c.runs]) for w in way]
            axes.plot(way, shares, color=color, lw=1.6, label=c.label)
        axes.axhline(95, color=hex_color(GRAY), lw=0.8, ls=":")
        axes.set(xlabel="way since the start [m]", ylabel="runs within 10 m [%]", xlim=(0, way[-1]), ylim=(0, 101))
        legend_above(axes)

    return png(3.4, draw)


def error_over_way(condition: FilterCondition) -> bytes:
    """Distance of the answer to the truth over the way, a line per run: thin where it is a mode only, red where confidently wrong."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for run in condition.runs:
            track = run.track
            if not len(track.travelled_m):
                continue
            shown = np.clip(track.error_m, 0.3, 2000.0)
            axes.plot(track.travelled_m, shown, color="#cbd5e1", lw=0.7, zorder=1)
            given, wrong = track.accepted, cv.confidently_wrong(track)
            axes.plot(track.travelled_m[given], shown[given], ".", color=hex_color(BLUE), ms=3, zorder=2)
            axes.plot(track.travelled_m[wrong], shown[wrong], "x", color=hex_color(RED), ms=6, mew=1.6, zorder=3)
        axes.axhline(cv.ARRIVED_M, color=hex_color(GREEN), lw=0.9, ls="--")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.set(xlabel="way since the start [m]", ylabel="error [m]")

    return png(3.6, draw)


def _cumulative(axes: Axes, values: Array, color: str, label: str, style: str = "-") -> None:
    share = 100 * np.arange(1, len(values) + 1) / max(len(values), 1)
    axes.step(np.sort(values), share, where="post", color=color, lw=1.6, ls=style, label=label)
