"""The page of an evaluation of retrieval: curves, pictures and numbers; one HTML file with all in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from ros2_loc.errors import DataError
from ros2_loc.evaluation.cross_view_tables import TextTable
from ros2_loc.evaluation.report import retrieval_figures as figures
from ros2_loc.evaluation.report.features import WIDE_TABLES, settings_rows
from ros2_loc.evaluation.report.page import Picture, card, jpeg, percent, plot_figure, text_table
from ros2_loc.evaluation.report.style import PAGE
from ros2_loc.evaluation.retrieval_records import RetrievalCell, RetrievalEvaluation, rerank_s, summary
from ros2_loc.evaluation.retrieval_tables import by_dataset, failures, is_adaptive, tables
from ros2_loc.io.files import atomic_path

_FOOTER = """Made by ros2_loc. R@N: share of the queries with a right place among the first N. Times are of this machine, of one query, and
without reading images."""


def write_retrieval_report(
    evaluation: RetrievalEvaluation, out_html: Path | str, pictures: Mapping[str, Picture] | None = None
) -> Path:
    """Writes the page; whole or not at all.

    Args:
        pictures: caption -> (H, W, 3) uint8 RGB, in the order of the page.

    Raises:
        DataError: an evaluation without results, or a place that can't be written to.
    """
    if not any(cell.results for cell in evaluation.cells):
        raise DataError(f"evaluation {evaluation.title!r} has no results: there is nothing to report")
    body = "\n".join([_headlines(evaluation), _plots(evaluation), _pictures(pictures or {}), _numbers(evaluation)])
    html = Template(PAGE).substitute(title=escape(evaluation.title), lead=escape(_lead(evaluation)), body=body, footer=_FOOTER)
    with atomic_path(Path(out_html)) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(out_html)


def best(cells: Sequence[RetrievalCell]) -> RetrievalCell | None:
    """The cell with the highest R@1 of a data set, of equal ones the fastest; None without truth."""
    known = [cell for cell in cells if cell.has_truth and not is_adaptive(cell)]
    return max(known, key=lambda c: (summary(c)["recall"][1], -rerank_s(summary(c)["seconds"])), default=None)


def _lead(evaluation: RetrievalEvaluation) -> str:
    said = []
    for dataset, cells in by_dataset(evaluation).items():
        first, winner = next((c for c in cells if c.has_truth), None), best(cells)
        if first is None or winner is None:
            continue
        before, after = (percent(summary(c)["recall"][1]) for c in (first, winner))
        if winner is first:
            said.append(f"On {dataset} no re-ranker is better than {first.method} alone ({before}).")
        else:
            ms = 1000 * rerank_s(summary(winner)["seconds"])
            said.append(f"On {dataset} {winner.method} finds {after} of the places first, {first.method} alone {before}, for {ms:.0f} ms.")
    return " ".join(said) or "No truth is known: places are shown, not judged."


def _headlines(evaluation: RetrievalEvaluation) -> str:
    cards = []
    for dataset, cells in by_dataset(evaluation).items():
        winner = best(cells)
        if winner is None:
            continue
        s = summary(winner)
        low, high = s["interval"]
        note = f"{winner.method}; {100 * low:.0f} to {100 * high:.0f} %; at best {percent(s['upper_bound'])}"
        cards.append(card(f"{dataset}: R@1", percent(s["recall"][1]), note))
    return f'<section class="cards">{"".join(cards)}</section>'


def _plots(evaluation: RetrievalEvaluation) -> str:
    out = []
    for dataset, cells in by_dataset(evaluation).items():
        measured = [cell for cell in cells if cell.results and not is_adaptive(cell)]
        if not any(cell.has_truth for cell in measured):
            continue
        if any(cell.facts.get("evidence_bytes") for cell in measured):
            words = "Dashed: the retriever alone. Thin lines: 95 % of R@1."
            out.append(plot_figure(f"{dataset}: R@1 and time", words, figures.recall_against_time(measured)))
            words = "As the paper counts: candidates are described for every query."
            out.append(plot_figure(f"{dataset}: R@1 and time, nothing stored", words, figures.recall_against_time(measured, True)))
            if summary(measured[-1])["sweep"]:
                words = "What is lost by re-ranking fewer candidates; the dashed line is what re-ranking K could reach."
                out.append(plot_figure(f"{dataset}: number of candidates", words, figures.recall_by_candidates(measured)))
        if len(measured[0].domains) > 1:
            out.append(plot_figure(f"{dataset}: domains", "R@1 with 95 % intervals.", figures.recall_by_domain(measured)))
        out.append(plot_figure(f"{dataset}: time", "Descriptions of places are stored.", figures.time_by_stage(measured)))
    return f'<section class="plots">{"".join(out)}</section>'


def _pictures(pictures: Mapping[str, Picture]) -> str:
    shown = [
        f'<figure class="wide"><p>{escape(words)}</p><img alt="{escape(words)}" src="{jpeg(picture)}"></figure>'
        for words, picture in pictures.items()
    ]
    words = (
        "Queries on which the methods differ most. Places: green frames are right, red ones wrong. Matches: green agree with one "
        "geometry, gray do not."
    )
    if not shown:
        return ""
    return f'<section><h2 class="section">Pictures</h2><p class="words">{words}</p>{"".join(shown)}</section>'


def _numbers(evaluation: RetrievalEvaluation) -> str:
    wrong = [failures(cells) for cells in by_dataset(evaluation).values()]
    shown = [_table(t) for t in (*tables(evaluation), *wrong) if t.rows]
    body = "".join(shown) + text_table("Settings", ("", ""), settings_rows(evaluation.settings))
    return f'{WIDE_TABLES}<section class="wide-tables"><h2 class="section">Numbers</h2>{body}</section>'


def _table(t: TextTable) -> str:
    return f'{text_table(t.title, t.header, t.rows)}<p class="words">{escape(t.note)}</p>'
