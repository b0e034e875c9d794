"""The page of an evaluation of detectors: curves, pictures and numbers; one HTML file with all in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from ros2_loc.errors import DataError
from ros2_loc.evaluation.detection_metrics import mean_of
from ros2_loc.evaluation.detection_pictures import Shown
from ros2_loc.evaluation.detection_records import DetectionEvaluation, DetectionScores, JudgedOn
from ros2_loc.evaluation.detection_tables import headline, tables
from ros2_loc.evaluation.report import detection_figures as figures
from ros2_loc.evaluation.report.features import WIDE_TABLES, settings_rows
from ros2_loc.evaluation.report.page import card, jpeg, percent, plot_figure, text_table
from ros2_loc.evaluation.report.style import PAGE
from ros2_loc.io.files import atomic_path

_FOOTER = """Made by ros2_loc. AP: average precision by pycocotools, mean over IoU 0.5 to 0.95 and over the labels that have objects.
Times are of this machine, of one image, without reading it."""

_METHODS = "<style>.side-by-side.methods { grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); }</style>"


def write_detection_report(
    evaluation: DetectionEvaluation, out_html: Path | str, pictures: Sequence[Shown] = ()
) -> Path:
    """Writes the page; whole or not at all.

    Args:
        pictures: those of one image stand beside each other.

    Raises:
        DataError: no method was run, or a place that can't be written to.
    """
    methods = [(cell.method, cell.scores) for cell in evaluation.cells if cell.scores is not None]
    if not methods:
        raise DataError(f"evaluation {evaluation.title!r} has no results: there is nothing to report")
    best = max(methods, key=lambda m: headline(m[1]))
    body = "\n".join([_headlines(*best), _plots(evaluation, methods), _pictures(pictures), _numbers(evaluation)])
    lead = escape(_lead(evaluation.judged_on, best[0], best[1], len(methods)))
    html = Template(PAGE).substitute(title=escape(evaluation.title), lead=lead, body=body, footer=_FOOTER)
    with atomic_path(Path(out_html)) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(out_html)


def told(judged_on: JudgedOn) -> str:
    """What was judged, in a line for terminal and page."""
    parts = [f"{judged_on.images} images, {judged_on.objects} objects"]
    counts = sorted(((n, label) for label, n in judged_on.counts.items() if n), key=lambda row: -row[0])
    parts += [f"{n} {label}" for n, label in counts[:6]] if len(judged_on.labels) > 1 else []
    said = ", ".join(parts) + (", ..." if len(counts) > 6 and len(judged_on.labels) > 1 else "")
    said += f"; {judged_on.ignored} ignored regions" if judged_on.ignored else ""
    said += f"; {judged_on.left_out} without an area left out" if judged_on.left_out else ""
    said += f"; not judged: {', '.join(judged_on.unjudged[:6])}" if judged_on.unjudged else ""
    return said + (", ..." if len(judged_on.unjudged) > 6 else "")


def _lead(judged_on: JudgedOn, method: str, scores: DetectionScores, count: int) -> str:
    if scores.box.ap is None:
        return f"{told(judged_on).removesuffix('.')}. There are no objects to find: nothing is judged but what was made up."
    first = f"{method} is the best of {count}: " if count > 1 else f"{method}: "
    masks = f", of masks {percent(scores.mask.ap)}" if scores.mask is not None else ""
    return f"{first}AP of boxes {percent(scores.box.ap)}{masks}. {told(judged_on).removesuffix('.')}."


def _headlines(method: str, s: DetectionScores) -> str:
    cards = [card("AP of boxes", percent(s.box.ap), method), card("AP at IoU 0.5", percent(s.box.ap_at["0.5"]), "of boxes")]
    if s.mask is not None:
        cards.append(card("AP of masks", percent(s.mask.ap), f"at IoU 0.5: {percent(s.mask.ap_at['0.5'])}"))
    cards.append(card("false discovery", percent(s.false_discovery.mean), "1 - AP at IoU 0.05 to 0.5"))
    if s.operating is not None:
        note = f"precision {percent(s.operating.precision)}, recall {percent(s.operating.recall)}"
        cards.append(card(f"F1 from score {s.operating.min_score:.2f}", percent(s.operating.f1), note))
    pascal = mean_of({label: row["all"] for label, row in s.pascal.items()})
    cards.append(card("PASCAL's AP, IoU 0.7", percent(pascal), "as UAVDT counts"))
    if s.median_s is not None and s.p95_s is not None:
        cards.append(card("time per image", f"{1000 * s.median_s:.0f} ms", f"95 %: {1000 * s.p95_s:.0f} ms"))
    return f'<section class="cards">{"".join(cards)}</section>'


def _plots(evaluation: DetectionEvaluation, methods: figures.Named) -> str:
    out = []
    if evaluation.judged_on.objects:
        words = "Mean over labels, of boxes. Full: IoU 0.5; dashed: 0.75."
        out.append(plot_figure("Precision and recall", words, figures.precision_recall(methods)))
        words = "What AP at IoU 0.5 would gain were each kind of mistakes put right."
        out.append(plot_figure("Mistakes", words, figures.mistakes(methods)))
        words = "1 - AP: how much of what is found is not there, even by a low standard."
        out.append(plot_figure("False discovery", words, figures.false_discovery(methods)))
        out.append(plot_figure("Size", "Small: to 32 x 32 px; medium: to 96 x 96 px.", figures.by_size(methods)))
    if sum(s.median_s is not None for _, s in methods) > 1:
        out.append(plot_figure("Time", "Median of an image on this machine.", figures.against_time(methods)))
    return f'<section class="plots">{"".join(out)}</section>'


def _pictures(pictures: Sequence[Shown]) -> str:
    if not pictures:
        return ""
    groups = ""
    for image in dict.fromkeys(p.image for p in pictures):
        shown = "".join(
            f'<figure class="wide"><p>{escape(p.caption)}</p><img alt="{escape(p.caption)}" src="{jpeg(p.picture)}"></figure>'
            for p in pictures
            if p.image == image
        )
        groups += f'<p class="words">{escape(image)}</p><div class="side-by-side methods">{shown}</div>'
    words = "Green: right at IoU 0.5; red: wrong; amber: missed; gray: regions that are not judged. Numbers: scores in %."
    return f'{_METHODS}<section><h2 class="section">Pictures</h2><p class="words">{words}</p>{groups}</section>'


def _numbers(evaluation: DetectionEvaluation) -> str:
    shown = [f'{text_table(t.title, t.header, t.rows)}<p class="words">{escape(t.note)}</p>' for t in tables(evaluation)]
    body = "".join(shown) + text_table("Settings", ("", ""), settings_rows(evaluation.settings))
    return f'{WIDE_TABLES}<section class="wide-tables"><h2 class="section">Numbers</h2>{body}</section>'
