"""The plots of an evaluation of local features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.features_records import LOCALIZATION_THRESHOLDS, Cell, summary
from ros2_loc.evaluation.report.figures import legend_above, png
from ros2_loc.visualization.colors import AMBER, BLUE, GRAY, GREEN, INK, RED, hex_color

_COLORS = [*map(hex_color, (BLUE, AMBER, GREEN, RED, INK)), "#7c3aed", "#0891b2", "#be185d", hex_color(GRAY), "#84cc16"]
_STYLES = {"viewpoint": "-", "illumination": "--", "": "-"}
_MOST_DEG = 20.0


def matching_accuracy(cells: Sequence[Cell]) -> bytes:
    """MMA over the threshold; dashed: illumination, where there are both groups."""
    groups = list(dict.fromkeys(r.group for cell in cells for r in cell.homographies()))
    groups = [g for g in groups if g in _STYLES] if len(groups) > 1 else [""]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, cell in zip(_COLORS, cells, strict=False):
            for group in groups:
                shares = [100 * v for v in summary(cell, group)["mma"] or ()]
                label = cell.method if group == groups[0] else None
                axes.plot(fm.MATCHING_THRESHOLDS_PX[: len(shares)], shares, color=color, lw=1.6, ls=_STYLES[group], label=label)
        axes.set(xlabel="threshold [px]", ylabel="mean matching accuracy [%]", ylim=(0, 101), xlim=(1, 10))
        legend_above(axes)

    return png(3.6, draw)


def pose_recall(cells: Sequence[Cell]) -> bytes:
    """Share of pairs whose pose is better than x degrees: the curve whose area is the AUC."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, cell in zip(_COLORS, cells, strict=False):
            errors = np.sort([r.error_deg for r in cell.poses() if r.has_truth])
            share = 100 * np.arange(1, len(errors) + 1) / max(len(errors), 1)
            axes.step(np.append(0.0, errors), np.append(0.0, share), where="post", color=color, lw=1.6, label=cell.method)
        for threshold in fm.POSE_THRESHOLDS_DEG[:-1]:
            axes.axvline(threshold, color="#e2e8f0", lw=0.9, zorder=0)
        axes.set(xlabel="larger of rotation and translation error [deg]", ylabel="pairs [%]", ylim=(0, 101), xlim=(0, _MOST_DEG))
        legend_above(axes)

    return png(3.6, draw)


def verified_matches(cells: Sequence[Cell]) -> bytes:
    """Inliers of each pair, sorted, where no truth is known."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, cell in zip(_COLORS, cells, strict=False):
            inliers = np.sort([r.inliers for r in cell.poses()])[::-1]
            axes.plot(np.arange(1, len(inliers) + 1), np.maximum(inliers, 0.5), color=color, lw=1.6, label=cell.method)
        axes.set_yscale("log")
        axes.set(xlabel="pairs, best first", ylabel="matches that agree")
        legend_above(axes)

    return png(3.6, draw)


def localized(cells: Sequence[Cell]) -> bytes:
    """Queries within each pair of limits, as bars."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        width = 0.8 / len(cells)
        for k, (color, cell) in enumerate(zip(_COLORS, cells, strict=False)):
            shares = [100 * v for v in summary(cell)["within"] or (0.0,) * len(LOCALIZATION_THRESHOLDS)]
            axes.bar(np.arange(len(shares)) + (k - (len(cells) - 1) / 2) * width, shares, width * 0.92, color=color, label=cell.method)
        names = [f"{m:g} m, {deg:g}°" for m, deg in LOCALIZATION_THRESHOLDS]
        axes.set(xticks=range(len(names)), xticklabels=names, ylabel="queries [%]", ylim=(0, 101))
        legend_above(axes)

    return png(3.6, draw)
