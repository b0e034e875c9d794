"""The plots of an evaluation of retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ros2_loc.evaluation import retrieval_metrics as rm
from ros2_loc.evaluation.report.figures import legend_above, png
from ros2_loc.evaluation.retrieval_records import RetrievalCell, parts_s, rerank_s, summary
from ros2_loc.evaluation.retrieval_tables import all_described_s, is_adaptive
from ros2_loc.visualization.colors import AMBER, BLUE, GRAY, GREEN, INK, RED, hex_color

COLORS = [*map(hex_color, (BLUE, AMBER, GREEN, RED, INK)), "#7c3aed", "#0891b2", "#be185d", "#84cc16", "#a16207", "#0d9488", "#4338ca"]
_MARKERS = "osD^vP*X"
_NOTHING_S = 1e-6


def style_of(k: int) -> tuple[str, str]:
    """Colour and marker of the k-th method: no two of the first 96 are alike."""
    return COLORS[k % len(COLORS)], _MARKERS[(k // len(COLORS) + k) % len(_MARKERS)]


def recall_against_time(cells: Sequence[RetrievalCell], nothing_stored: bool = False) -> bytes:
    """R@1 over the time of a query, as figure 4.7; with `nothing_stored` candidates are described for each query, as the paper counts.

    A retriever alone is a line: what there is to be gained on.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for k, cell in enumerate(_measured(cells)):
            s, (color, marker) = summary(cell), style_of(k)
            if not cell.facts.get("evidence_bytes"):
                axes.axhline(100 * s["recall"][1], color=color, lw=1.2, ls="--", label=f"{cell.method} alone")
                continue
            seconds = all_described_s(cell) if nothing_stored else rerank_s(s["seconds"])
            low, high = (100 * v for v in s["interval"])
            value = 100 * s["recall"][1]
            axes.plot([1000 * seconds] * 2, [low, high], color=color, lw=1, alpha=0.45)
            axes.plot(1000 * seconds, value, marker, color=color, ms=7, label=cell.method)
        _time_axis(axes)
        counted = "with the description of each" if nothing_stored else "descriptions stored"
        axes.set(xlabel=f"re-ranking of {cells[0].candidates} candidates, {counted}", ylabel="R@1 [%]")
        _legend_beside(axes)

    return png(3.8, draw)


def recall_by_candidates(cells: Sequence[RetrievalCell]) -> bytes:
    """R@1 over the number of re-ranked candidates, with R@K of the retrievers as the bound, as figure 4.8."""
    counts = rm.sweep_counts(cells[0].candidates)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for k, cell in enumerate(_measured(cells)):
            color, marker = style_of(k)
            if cell.facts.get("evidence_bytes"):
                shares = [100 * summary(cell)["sweep"][count] for count in counts]
                axes.plot(counts, shares, marker=marker, ms=4, color=color, lw=1.5, label=cell.method)
            else:
                bound = [100 * float(rm.recall_at([r.right for r in cell.results], count) or 0.0) for count in counts]
                axes.plot(counts, bound, color=hex_color(GRAY), lw=1.2, ls="--", label=f"bound: R@K of {cell.method}")
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(c) for c in counts])
        axes.minorticks_off()
        axes.set(xlabel="re-ranked candidates K", ylabel="R@1 [%]", ylim=(None, 101))
        _legend_beside(axes)

    return png(3.8, draw)


def recall_by_domain(cells: Sequence[RetrievalCell]) -> bytes:
    """R@1 of each domain as bars with Wilson's intervals."""
    measured = _measured(cells)
    domains = measured[0].domains

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        width = 0.84 / len(measured)
        for k, cell in enumerate(measured):
            sums = [summary(cell, domain) for domain in domains]
            shares = np.array([100 * s["recall"][1] for s in sums])
            bounds = np.array([[100 * v for v in s["interval"]] for s in sums])
            at = np.arange(len(domains)) + (k - (len(measured) - 1) / 2) * width
            axes.bar(at, shares, width * 0.9, color=style_of(k)[0], label=cell.method)
            axes.vlines(at, bounds[:, 0], bounds[:, 1], color=hex_color(INK), lw=0.7, alpha=0.6)
        axes.set(xticks=range(len(domains)), xticklabels=domains, ylabel="R@1 [%]", ylim=(0, 101))
        axes.grid(False, axis="x")
        _legend_beside(axes)

    return png(3.4, draw)


def time_by_stage(cells: Sequence[RetrievalCell]) -> bytes:
    """Of each method: retrieval, extraction, matching and scoring of a query, side by side on a logarithmic axis."""
    measured = _measured(cells)
    times = [parts_s(summary(cell)["seconds"]) for cell in measured]
    colors = [hex_color(c) for c in (GRAY, BLUE, AMBER, GREEN)]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        height = 0.8 / len(colors)
        for j, (part, color) in enumerate(zip(times[0], colors, strict=True)):
            shown = [(row, 1000 * t[part]) for row, t in enumerate(times) if t[part] > _NOTHING_S]
            at = [row + (j - (len(colors) - 1) / 2) * height for row, _ in shown]
            axes.barh(at, [ms for _, ms in shown], height * 0.9, color=color)
            axes.plot([], [], "s", ms=7, color=color, label=part)  # a legend that does not hang on the first bar
        _time_axis(axes)
        axes.set(yticks=range(len(measured)), yticklabels=[cell.method for cell in measured], xlabel="median of a query")
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        legend_above(axes)

    return png(1.2 + 0.5 * len(measured), draw)


def _time_axis(axes: Axes) -> None:
    """Milliseconds, logarithmic; labels at 1, 2, 5 where these are few."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 10 * low:  # room for two labels at least
        low, high = low / 2, 2 * high
        axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _measured(cells: Sequence[RetrievalCell]) -> list[RetrievalCell]:
    """Cells with results, without adaptive re-ranking."""
    return [cell for cell in cells if cell.results and not is_adaptive(cell)]


def _legend_beside(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=1.6, borderaxespad=0.2)
