"""The page of an evaluation of local features: curves, matches and numbers; one HTML file with all in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from ros2_loc.errors import DataError
from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.features_records import Cell, FeaturesEvaluation, summary
from ros2_loc.evaluation.features_tables import tables
from ros2_loc.evaluation.report import features_figures as figures
from ros2_loc.evaluation.report.page import Picture, card, jpeg, percent, plot_figure, text_table
from ros2_loc.evaluation.report.style import PAGE
from ros2_loc.io.files import atomic_path

_FOOTER = """Made by ros2_loc. Keypoints and matches are of whole images at full size. A match is right when it is within 3 px of where the
homography puts it, or of its true epipolar line."""
# A table of ten columns and more has no room beside another one.
WIDE_TABLES = """<style>.wide-tables td, .wide-tables th { white-space: nowrap; }
.side-by-side { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 16px; }</style>"""


def write_features_report(evaluation: FeaturesEvaluation, out_html: Path | str, pictures: Mapping[str, Picture] | None = None) -> Path:
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


def headline(cell: Cell) -> tuple[str, float] | None:
    """The one number by which cells of a data set are ordered: its name and value; None where it has none."""
    s = summary(cell)
    if cell.protocol == "homography" and s["mma"]:
        return f"MMA at {fm.REPEATABILITY_PX:g} px", s["mma"][2]
    if cell.protocol == "two-view" and s["auc"]:
        return f"AUC at {fm.POSE_THRESHOLDS_DEG[1]:g} deg", s["auc"][1]
    if cell.protocol == "localization" and s["within"]:
        return "within 0.5 m, 2 deg", s["within"][0]
    return None


def _by_dataset(evaluation: FeaturesEvaluation) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in evaluation.cells:
        found.setdefault(cell.dataset, []).append(cell)
    return found


def _best(cells: Sequence[Cell]) -> tuple[list[str], str, float] | None:
    """The methods with the highest headline of a data set (more than one where they are equal), its name and value."""
    known = [(cell.method, *number) for cell in cells if (number := headline(cell)) is not None]
    if not known:
        return None
    highest = max(value for _, _, value in known)
    return [method for method, _, value in known if value == highest], known[0][1], highest


def _lead(evaluation: FeaturesEvaluation) -> str:
    methods = list(dict.fromkeys(cell.method for cell in evaluation.cells))
    best = [found for cells in _by_dataset(evaluation).values() if (found := _best(cells)) is not None]
    said = f"{', '.join(methods)} on the same images and pairs."
    wins = {method: sum(names == [method] for names, _, _ in best) for method in methods}
    if len(methods) > 1 and any(wins.values()):
        said += " Best: " + ", ".join(f"{method} on {n} of {len(best)}" for method, n in wins.items() if n) + " data sets."
    return said


def _headlines(evaluation: FeaturesEvaluation) -> str:
    cards = []
    for dataset, cells in _by_dataset(evaluation).items():
        best = _best(cells)
        if best is not None:
            names, name, value = best
            cards.append(card(dataset, percent(value), f"{name}: {', '.join(names)}"))
    return f'<section class="cards">{"".join(cards)}</section>'


def _plots(evaluation: FeaturesEvaluation) -> str:
    out = []
    for dataset, cells in _by_dataset(evaluation).items():
        measured = [cell for cell in cells if cell.results]
        if measured:
            out.append(_plot(dataset, measured))
    return f'<section class="plots">{"".join(out)}</section>'


def _plot(dataset: str, cells: Sequence[Cell]) -> str:
    if cells[0].protocol == "homography":
        words = "Share of the matches within so many pixels, mean over pairs. Full: viewpoint; dashed: illumination."
        return plot_figure(dataset, words, figures.matching_accuracy(cells))
    if cells[0].protocol == "localization":
        return plot_figure(dataset, "Queries registered to within both limits.", figures.localized(cells))
    if any(r.has_truth for cell in cells for r in cell.poses()):
        return plot_figure(dataset, "Pairs whose relative pose is better than so many degrees.", figures.pose_recall(cells))
    return plot_figure(dataset, "Matches that agree with one fundamental matrix; no truth is known.", figures.verified_matches(cells))


def _pictures(pictures: Mapping[str, Picture]) -> str:
    shown = [
        f'<figure class="wide"><p>{escape(words)}</p><img alt="{escape(words)}" src="{jpeg(picture)}"></figure>'
        for words, picture in pictures.items()
    ]
    words = "Pairs on which the methods differ most. Green: right to 3 px, or without truth as the caption says; red: not. 150 lines."
    if not shown:
        return ""
    head = f'<h2 class="section">Matches</h2><p class="words">{words}</p>'
    return f'<section>{head}<div class="side-by-side">{"".join(shown)}</div></section>'


def _numbers(evaluation: FeaturesEvaluation) -> str:
    shown = [f'{text_table(t.title, t.header, t.rows)}<p class="words">{escape(t.note)}</p>' for t in tables(evaluation)]
    body = "".join(shown) + text_table("Settings", ("", ""), settings_rows(evaluation.settings))
    return f'{WIDE_TABLES}<section class="wide-tables"><h2 class="section">Numbers</h2>{body}</section>'


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested settings as rows of a table."""
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in _flat(settings)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as rows "methods.sift", value."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return rows
