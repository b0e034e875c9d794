"""The plots of an evaluation of detectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ros2_loc.evaluation.detection_errors import KINDS
from ros2_loc.evaluation.detection_metrics import CURVE_IOUS, FALSE_DISCOVERY_IOUS, SIZES
from ros2_loc.evaluation.detection_records import DetectionScores
from ros2_loc.evaluation.report.figures import legend_above, png
from ros2_loc.visualization.colors import AMBER, BLUE, GRAY, GREEN, INK, RED, hex_color

Named = Sequence[tuple[str, DetectionScores]]

_COLORS = [*map(hex_color, (BLUE, AMBER, GREEN, RED, INK)), "#7c3aed", "#0891b2", "#be185d", hex_color(GRAY), "#84cc16"]
_STYLES = ("-", "--")
_LEGEND_CHARACTERS = 26


def precision_recall(methods: Named) -> bytes:
    """Precision over recall, mean over labels; dashed at the higher IoU."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, (name, s) in zip(_COLORS, methods, strict=False):
            for style, iou in zip(_STYLES, CURVE_IOUS, strict=True):
                curve = s.box.curves[f"{iou:g}"]
                label = _short(name) if iou == CURVE_IOUS[0] else None
                axes.plot(np.linspace(0, 100, len(curve)), 100 * np.array(curve), color=color, ls=style, lw=1.6, label=label)
        axes.set(xlabel="recall [%]", ylabel="precision [%]", xlim=(0, 100), ylim=(0, 101))
        legend_above(axes)

    return png(3.6, draw)


def mistakes(methods: Named) -> bytes:
    """What each kind of mistakes costs, as bars."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        names = (*KINDS, "all false", "all missed")
        values = [[*(s.errors.gains[kind] for kind in KINDS), s.errors.false_positive, s.errors.false_negative] for _, s in methods]
        _bars(axes, names, values, methods)
        most = max((100 * v for row in values for v in row if v is not None), default=0.0)
        axes.set(ylabel="gain of AP 50 [%]", ylim=(0, max(1.0, 1.08 * most)))
        axes.tick_params(axis="x", labelsize=7.2)
        axes.axvline(len(KINDS) - 0.5, color="#e2e8f0", lw=0.9, zorder=0)

    return png(3.6, draw)


def false_discovery(methods: Named) -> bytes:
    """FD over IoU."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, (name, s) in zip(_COLORS, methods, strict=False):
            rates = [np.nan if (v := s.false_discovery.at[f"{iou:g}"]) is None else 100 * v for iou in FALSE_DISCOVERY_IOUS]
            axes.plot(FALSE_DISCOVERY_IOUS, rates, color=color, lw=1.6, marker="o", ms=3, label=_short(name))
        axes.set(xlabel="IoU", ylabel="false discovery rate [%]", ylim=(0, 101))
        legend_above(axes)

    return png(3.6, draw)


def by_size(methods: Named) -> bytes:
    """AP of small, medium and large objects."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _bars(axes, SIZES, [[s.box.by_size[size] for size in SIZES] for _, s in methods], methods)
        axes.set(ylabel="AP [%]", ylim=(0, 101))

    return png(3.6, draw)


def against_time(methods: Named) -> bytes:
    """AP over the time of an image."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, (name, s) in zip(_COLORS, methods, strict=False):
            if s.median_s is not None and s.box.ap is not None:
                axes.plot(1000 * s.median_s, 100 * s.box.ap, "o", color=color, ms=7, label=_short(name))
        times = [1000 * s.median_s for _, s in methods if s.median_s]
        axes.set_xscale("log")
        axes.set(xlabel="time of an image [ms]", ylabel="AP [%]", ylim=(0, 101), xlim=(min(times) / 2, 2 * max(times)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        legend_above(axes)

    return png(3.6, draw)


def _bars(axes, groups: Sequence[str], values: Sequence[Sequence[float | None]], methods: Named) -> None:  # type: ignore[no-untyped-def]
    """One bar a method in each group; none where there is no value."""
    width = 0.8 / max(len(methods), 1)
    for k, (color, (name, _), row) in enumerate(zip(_COLORS, methods, values, strict=False)):
        at = np.arange(len(groups)) + (k - (len(methods) - 1) / 2) * width
        axes.bar(at, [np.nan if v is None else 100 * v for v in row], width * 0.92, color=color, label=_short(name))
    axes.set(xticks=range(len(groups)), xticklabels=groups)
    legend_above(axes)


def _short(name: str) -> str:
    """A legend has no room for more."""
    return name if len(name) <= _LEGEND_CHARACTERS else f"{name[: _LEGEND_CHARACTERS - 1]}…"
