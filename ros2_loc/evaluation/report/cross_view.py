"""The page of a cross-view evaluation: numbers, curves, pictures of what was retrieved and believed; one HTML file with all in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from ros2_loc.errors import DataError
from ros2_loc.evaluation import cross_view_metrics as cv
from ros2_loc.evaluation.cross_view_records import MEASURES, CrossViewEvaluation, FilterCondition, SingleShot, rank_key
from ros2_loc.evaluation.cross_view_tables import TextTable, tables
from ros2_loc.evaluation.report import cross_view_figures as figures
from ros2_loc.evaluation.report.page import Picture, card, jpeg, percent, plot_figure, text_table
from ros2_loc.evaluation.report.style import PAGE
from ros2_loc.io.files import atomic_path

_FOOTER = """Made by ros2_loc. Recall counts a query when the position that one of the best k tiles and its best shift give is within the
radius of base_link's true one. Confidently wrong: a pose off by more than 10 m whose claimed 99.73 % ellipse leaves the truth out."""


def write_cross_view_report(evaluation: CrossViewEvaluation, out_html: Path | str, pictures: Mapping[str, Picture] | None = None) -> Path:
    """Writes the page; whole or not at all.

    Args:
        pictures: caption -> (H, W, 3) uint8 RGB, in the order of the page.

    Raises:
        DataError: an evaluation without results, or a place that can't be written to.
    """
    if not evaluation.filters and not any(s.queries for s in evaluation.single):
        raise DataError(f"evaluation {evaluation.title!r} has no results: there is nothing to report")
    body = "\n".join([_headlines(evaluation), _plots(evaluation), _pictures(pictures or {}), _numbers(evaluation)])
    html = Template(PAGE).substitute(title=escape(evaluation.title), lead=escape(_lead(evaluation)), body=body, footer=_FOOTER)
    with atomic_path(Path(out_html)) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(out_html)


def _lead(evaluation: CrossViewEvaluation) -> str:
    sentences = []
    best = _best(evaluation)
    if best is not None:
        found = best.metrics.recalls[rank_key(2, cv.ARRIVED_M, MEASURES[0])][0]
        sentences.append(f"{best.label}: the best of {best.tiles[1]} tiles gives the place to 10 m for {percent(found)} of queries.")
    if evaluation.filters:
        m = evaluation.filters[0].metrics
        after = ", ".join(f"{100 * share:.0f} % after {d:g} m" for d, share in zip(cv.FILTER_DISTANCES_M, m.within, strict=True))
        sentences.append(f"The filter, from anywhere in the area, knows its place to 10 m in {after}; {_wrong(evaluation.filters)}.")
    if evaluation.missing:
        sentences.append(f"There is no network for: {', '.join(evaluation.missing)}.")
    return " ".join(sentences)


def _wrong(conditions: Sequence[FilterCondition]) -> str:
    wrong, runs = sum(c.metrics.runs_wrong for c in conditions), sum(c.metrics.runs for c in conditions)
    return f"{wrong or 'none'} of {runs} runs {'was' if wrong <= 1 else 'were'} ever confidently wrong"


def _best(evaluation: CrossViewEvaluation) -> SingleShot | None:
    """The last row: that of the most frames, or the table's "Ours"."""
    asked = [s for s in evaluation.single if s.queries]
    return asked[-1] if asked else None


def _headlines(evaluation: CrossViewEvaluation) -> str:
    cards, best = [], _best(evaluation)
    if best is not None:
        m = best.metrics
        at = m.recalls[rank_key(2, cv.ARRIVED_M, MEASURES[0])]
        cards += [card(f"Test-2 r@{k}", percent(v), f"{best.label}, within 10 m") for k, v in zip(cv.RECALL_AT[:3], at, strict=False)]
        if m.aligned is not None and m.nearest is not None:
            value, note = f"{m.aligned.total_median_m:.1f} m", f"median in the nearest tile; its centre: {m.nearest.median:.1f} m"
            cards.append(card("displacement", value, note))
    if evaluation.filters:
        f = evaluation.filters[0].metrics
        cards += [card(f"after {d:g} m", percent(v), "of runs within 10 m") for d, v in zip(cv.FILTER_DISTANCES_M, f.within, strict=True)]
        wrong = sum(c.metrics.runs_wrong for c in evaluation.filters)
        cards.append(card("confidently wrong", str(wrong), "runs, all conditions", "bad" if wrong else "good"))
    return f'<section class="cards">{"".join(cards)}</section>'


def _plots(evaluation: CrossViewEvaluation) -> str:
    out, results = [], [s for s in evaluation.single if s.queries]
    if results:
        words = "Queries with a position within 10 m among the best k tiles. Full: all tiles (Test-2); dashed: the nearest ones (Test-1)."
        out.append(plot_figure("Recall", words, figures.recall_curves(results)))
        words = "Error of the position within the nearest tile after the best shift; gray: without a shift."
        out.append(plot_figure("Displacement", words, figures.displacement_curves(results)))
    if len({s.frames for s in results}) > 1:
        words = "Recall among all tiles against the length of the video; the paper's figure 6."
        out.append(plot_figure("Length of the video", words, figures.recall_over_frames(results)))
    if any(run.travelled_m for c in evaluation.filters for run in c.runs):
        words = "Share of runs that give a pose within 10 m of the truth, from a uniform prior."
        out.append(plot_figure("How soon the filter knows", words, figures.runs_within(evaluation.filters)))
        words = f"{evaluation.filters[0].label}: a line per run; blue where it gave a pose, red where that was confidently wrong."
        out.append(plot_figure("Error along the way", words, figures.error_over_way(evaluation.filters[0])))
    return f'<section class="plots">{"".join(out)}</section>'


def _pictures(pictures: Mapping[str, Picture]) -> str:
    shown = [
        f'<figure class="wide"><p>{escape(words)}</p><img alt="{escape(words)}" src="{jpeg(picture)}"></figure>'
        for words, picture in pictures.items()
    ]
    return f'<section><h2 class="section">Pictures</h2>{"".join(shown)}</section>' if shown else ""


def _numbers(evaluation: CrossViewEvaluation) -> str:
    shown = [_with_note(table) for table in tables(evaluation)]
    settings = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in _flat(evaluation.settings)]
    return f'<section><h2 class="section">Numbers</h2>{"".join(shown)}{text_table("Settings", ("", ""), settings)}</section>'


def _with_note(table: TextTable) -> str:
    return f'{text_table(table.title, table.header, table.rows)}<p class="words">{escape(table.note)}</p>'


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as rows "queries.frames", value."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return rows
