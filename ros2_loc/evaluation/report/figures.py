"""The plots of the report, each a PNG made to be read at 380 px of width as well as at 1000."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from scipy.special import gammaln

from ros2_loc.core.types import PoseEstimate
from ros2_loc.evaluation.metrics import nees_values
from ros2_loc.evaluation.records import Evaluation, FrameResult
from ros2_loc.visualization.colors import AMBER, BLUE, GRAY, GREEN, INK, LIGHT_GRAY, RED, hex_color
from ros2_loc.visualization.trajectory import TopView, draw_top_view

Array = NDArray[np.float64]

_WIDTH_IN = 6.0
_DPI = 180
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": hex_color(GRAY),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": hex_color(GRAY),
    "ytick.color": hex_color(GRAY),
    "text.color": hex_color(INK),
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def png(height_in: float, draw: Callable[[Figure], None]) -> bytes:
    """A PNG of what `draw` puts on a figure; global matplotlib settings stay as they are."""
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=_DPI, format="png")
        return buffer.getvalue()


def trajectory(evaluation: Evaluation) -> bytes:
    """Top view: truth, estimates coloured by error, rejected frames, places of the map."""
    view = _top_view(evaluation)
    everything = np.concatenate([view.truth_m, view.estimates_m, view.places_m])[:, :2]
    span = np.nanmax(everything, axis=0) - np.nanmin(everything, axis=0)
    height = float(np.clip(_WIDTH_IN * 0.8 * span[1] / max(span[0], 1e-6) + 1.2, 3.2, 6.5))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        draw_top_view(axes, view)
        legend_above(axes)

    return png(height, draw)


def _top_view(evaluation: Evaluation) -> TopView:
    scored = evaluation.scored
    posed = [f for f in evaluation.frames if f.estimate is not None]
    estimates = scored or posed
    positions = [f.estimate.map_from_base.translation for f in estimates if f.estimate is not None]
    return TopView(
        truth_m=_rows([f.truth.translation if f.truth else np.full(3, np.nan) for f in evaluation.frames]),
        estimates_m=_rows(positions),
        errors_m=np.array([f.error_m for f in scored], dtype=np.float64) if scored else None,
        rejected_m=_rows([f.truth.translation for f in evaluation.frames if f.truth is not None and f.estimate is None]),
        places_m=np.asarray(evaluation.places_m, dtype=np.float64).reshape(-1, 3),
    )


def errors_over_time(evaluation: Evaluation) -> bytes:
    """Translation and rotation error of each frame; rejected frames as red marks below."""
    scored, start = evaluation.scored, _start_ns(evaluation)
    seconds = np.array([(f.stamp_ns - start) * 1e-9 for f in scored])
    rejected = _rejected_seconds(evaluation)
    errors = (
        ("translation error", "m", np.array([f.error_m for f in scored], dtype=np.float64)),
        ("rotation error", "°", np.degrees(np.array([f.error_rad for f in scored], dtype=np.float64))),
    )

    def draw(figure: Figure) -> None:
        first, second = figure.subplots(2, 1, sharex=True)
        for axes, (name, unit, values) in zip((first, second), errors, strict=True):
            _draw_errors(axes, seconds, values, name, unit)
            _mark_rejected(axes, rejected)
        second.set_xlabel("time [s]")
        legend_above(first)

    return png(4.4, draw)


def _draw_errors(axes: Axes, seconds: Array, values: Array, name: str, unit: str) -> None:
    median = float(np.median(values)) if len(values) else 1.0
    factor = 100.0 if unit == "m" and median < 0.5 else 1.0
    unit = "cm" if factor == 100.0 else unit
    axes.plot(seconds, factor * values, ".", color=hex_color(BLUE), ms=4, label="frame")
    axes.axhline(factor * median, color=hex_color(INK), lw=0.9, ls="--", label="median")
    axes.set_ylabel(f"{name} [{unit}]")
    if len(values) and values.max() > 25 * max(median, 1e-12):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    else:
        axes.set_ylim(bottom=0)


def inliers_over_time(evaluation: Evaluation) -> bytes:
    """2D-3D matches given to the solver, and how many agreed with the pose."""
    start = _start_ns(evaluation)
    seconds = np.array([(f.stamp_ns - start) * 1e-9 for f in evaluation.frames])
    matches, inliers = (np.array([getattr(f, name) for f in evaluation.frames]) for name in ("num_matches", "num_inliers"))
    posed = np.array([f.estimate is not None for f in evaluation.frames])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        if matches.any():
            axes.plot(seconds, matches, ".", color=hex_color(LIGHT_GRAY), ms=4, label="matches")
        axes.plot(seconds[posed], inliers[posed], ".", color=hex_color(GREEN), ms=4, label="inliers")
        axes.set_ylim(bottom=0)
        _mark_rejected(axes, _rejected_seconds(evaluation))
        axes.set_xlabel("time [s]")
        axes.set_ylabel("correspondences")
        legend_above(axes)

    return png(2.9, draw)


def errors_within_sigma(evaluation: Evaluation, rotation: bool) -> bytes:
    """Signed error per axis within the claimed three-sigma band; the share inside stands in the titles (99.7 % when the claim is true)."""
    scored, start = evaluation.scored, _start_ns(evaluation)
    seconds = np.array([(f.stamp_ns - start) * 1e-9 for f in scored])
    errors, sigmas = _signed_errors(scored)
    part = slice(3, 6) if rotation else slice(0, 3)
    scale, unit = (np.degrees(1.0), "°") if rotation else (100.0, "cm")
    if not rotation and np.median(sigmas[:, :3]) > 0.5:
        scale, unit = 1.0, "m"
    errors, sigmas = scale * errors[:, part], scale * sigmas[:, part]
    names = ("rotation about x", "rotation about y", "rotation about z") if rotation else ("x", "y", "z")

    def draw(figure: Figure) -> None:
        rows = figure.subplots(3, 1, sharex=True)
        for i, axes in enumerate(rows):
            _draw_band(axes, seconds, errors[:, i], sigmas[:, i])
            inside = 100 * float(np.mean(np.abs(errors[:, i]) <= 3 * sigmas[:, i]))
            axes.set_title(f"{names[i]} [{unit}]: {inside:.1f} % within 3σ")
        rows[-1].set_xlabel("time [s]")

    return png(5.2, draw)


def _draw_band(axes: Axes, seconds: Array, errors: Array, sigmas: Array) -> None:
    limit = 1.25 * float(np.percentile(3 * sigmas, 97))
    axes.fill_between(seconds, -3 * sigmas, 3 * sigmas, color=hex_color(BLUE), alpha=0.16, lw=0, step="mid")
    outside = np.abs(errors) > 3 * sigmas
    axes.plot(seconds[~outside], errors[~outside], ".", color=hex_color(BLUE), ms=3)
    if outside.any():  # an empty line that is not clipped would confuse the layout
        axes.plot(seconds[outside], np.clip(errors[outside], -limit, limit), ".", color=hex_color(RED), ms=4.5, clip_on=False)
    axes.axhline(0, color=hex_color(GRAY), lw=0.6)
    axes.set_ylim(-limit, limit)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def nees_histogram(evaluation: Evaluation) -> bytes:
    """NEES of the full pose against the chi-square density with 6 degrees of freedom that true covariances give."""
    pairs = [(f.estimate, f.truth) for f in evaluation.scored if f.estimate is not None and f.truth is not None]
    values = nees_values([e for e, _ in pairs], [t for _, t in pairs])["pose"]
    top = 30.0
    x = np.linspace(0.01, top, 300)
    density = np.exp(2.0 * np.log(x) - 0.5 * x - 3.0 * np.log(2.0) - gammaln(3.0))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        bins = np.arange(0.0, top + 1.0, 1.0)
        shares = np.full(len(values), 1.0 / len(values))
        axes.hist(np.minimum(values, top - 0.5), bins=bins.tolist(), weights=shares, color="#93b4f5", label="frames")
        axes.plot(x, density, color=hex_color(INK), lw=1.4, label="chi-square, 6 d.o.f.")
        axes.axvline(float(values.mean()), color=hex_color(AMBER), lw=1.4, ls="--", label=f"mean {values.mean():.2f}")
        axes.set_xlim(0, top)
        axes.set_xlabel("NEES (last bar: all above 29)")
        axes.set_ylabel("share of frames")
        legend_above(axes)

    return png(3.2, draw)


def latency_bars(evaluation: Evaluation) -> bytes:
    """Median (bar) and 95th percentile (line) per stage."""
    latency = evaluation.metrics.latency_s
    names = list(latency)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        y = np.arange(len(names))
        medians, p95 = (np.array([1000 * getattr(latency[n], k) for n in names]) for k in ("median_s", "p95_s"))
        axes.barh(y, medians, height=0.55, color=[hex_color(INK) if n == "total" else hex_color(BLUE) for n in names])
        axes.hlines(y, np.minimum(medians, p95), p95, color=hex_color(AMBER), lw=2.2)
        axes.plot(p95, y, "|", color=hex_color(AMBER), ms=11, mew=2.2)
        for i, (median, upper) in enumerate(zip(medians, p95, strict=True)):
            words, at = f"{median:.3g} | {upper:.3g} ms", (max(median, upper), i)
            axes.annotate(words, at, (7, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_yticks(y, names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.38 * max(float(p95.max()), 1e-3))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("ms: median | 95th percentile")

    return png(1.0 + 0.36 * len(names), draw)


def _signed_errors(frames: Sequence[FrameResult]) -> tuple[Array, Array]:
    """(N, 6) truth minus estimate and (N, 6) claimed standard deviations, m and rad, map axes."""
    pairs: list[tuple[PoseEstimate, FrameResult]] = [(f.estimate, f) for f in frames if f.estimate is not None]
    errors = [f.truth.difference(e.map_from_base) for e, f in pairs if f.truth is not None]
    return np.array(errors), np.array([np.sqrt(np.diag(e.covariance)) for e, _ in pairs])


def _rows(positions: Sequence[Array]) -> Array:
    return np.array(positions, dtype=np.float64).reshape(-1, 3)


def _start_ns(evaluation: Evaluation) -> int:
    return min(f.stamp_ns for f in evaluation.frames)


def _rejected_seconds(evaluation: Evaluation) -> Array:
    start = _start_ns(evaluation)
    return np.array([(f.stamp_ns - start) * 1e-9 for f in evaluation.frames if f.estimate is None])


def _mark_rejected(axes: Axes, seconds: Array) -> None:
    if len(seconds):
        at_the_bottom: Any = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(seconds, np.full(len(seconds), 0.025), "x", color=hex_color(RED), ms=5, mew=1.4, label="rejected", **at_the_bottom)


def legend_above(axes: Axes) -> None:
    """The legend in a row over the plot."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        tight: Any = {"borderaxespad": 0.1, "handletextpad": 0.3, "columnspacing": 1.2}
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, **tight)
