"""The words and tables of the report. Every string that comes from outside is escaped; nothing is loaded from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from string import Template

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.evaluation.metrics import Consistency, ErrorStatistics, Nees
from ros2_loc.evaluation.records import Evaluation, FrameResult, Metrics
from ros2_loc.evaluation.report import figures
from ros2_loc.evaluation.report.style import FOOTER, PAGE

Picture = NDArray[np.uint8]

_VERDICTS = {
    Consistency.CONSISTENT: ("good", "consistent: the covariances are true"),
    Consistency.CONSERVATIVE: ("fair", "conservative: errors are smaller than claimed"),
    Consistency.OVERCONFIDENT: ("bad", "overconfident: errors are larger than claimed"),
    Consistency.UNKNOWN: ("none", "too few frames to tell"),
}


def page(evaluation: Evaluation, matches_picture: Callable[[FrameResult], Picture | None]) -> str:
    """The whole page as HTML."""
    if not evaluation.frames:
        raise DataError(f"evaluation {evaluation.title!r} has no frames: there is nothing to report")
    parts = [_headlines(evaluation.metrics), _plots(evaluation), _matches(evaluation, matches_picture), _tables(evaluation)]
    return Template(PAGE).substitute(title=escape(evaluation.title), lead=_lead(evaluation.metrics), body="\n".join(parts), footer=FOOTER)


def _lead(m: Metrics) -> str:
    sentence = f"{m.accepted} of {m.queries} query images were localized"
    if m.accepted == 0:
        return escape(f"None of {m.queries} query images was localized: all were rejected.")
    if m.translation_m is None or m.rotation_deg is None:
        return escape(f"{sentence}, {_count(m.rejected, 'was', 'were')} rejected. No truth is known to measure them against.")
    sentence += f", half of them to within {_length(m.translation_m.median)} and {_angle(m.rotation_deg.median)}"
    return escape(f"{sentence}; {_count(m.rejected, 'was', 'were')} rejected rather than guessed.")


def _headlines(m: Metrics) -> str:
    cards = [_recall_card(m, 0.1, 0.5), _recall_card(m, 0.25, 2.0)]
    if m.translation_m and m.rotation_deg:
        cards.append(card("median error", f"{_length(m.translation_m.median)} · {_angle(m.rotation_deg.median)}", "of accepted frames"))
        cards.append(card("95 % of errors below", f"{_length(m.translation_m.p95)} · {_angle(m.rotation_deg.p95)}", "of accepted frames"))
    cards.append(card("rejected", str(m.rejected), f"of {m.queries} queries", "none"))
    wrong = len(m.wrong_and_confident)
    cards.append(card("wrong and confident", str(wrong), "off by > 1 m, claiming σ < 0.3 m", "bad" if wrong else "good"))
    if m.nees_pose:
        grade, words = _VERDICTS[m.nees_pose.verdict]
        note = f"{m.nees_pose.lower:.2f} to {m.nees_pose.upper:.2f}; {words.split(':')[0]}"
        cards.append(card("NEES (6 if true)", f"{m.nees_pose.mean:.{0 if m.nees_pose.mean > 100 else 2}f}", note, grade))
    if "total" in m.latency_s:
        total = m.latency_s["total"]
        cards.append(card("time per frame", f"{1000 * total.median_s:.0f} ms", f"95 %: {1000 * total.p95_s:.0f} ms"))
    return f'<section class="cards">{"".join(cards)}</section>'


def _recall_card(m: Metrics, threshold_m: float, threshold_deg: float) -> str:
    value = m.recall(threshold_m, threshold_deg).of_all
    name = f"within {_length(threshold_m)}, {threshold_deg:g}°"
    return card(name, percent(value), "of all queries") if value is not None else ""


def card(name: str, value: str, note: str, grade: str = "none") -> str:
    """A headline: what, how much, of what."""
    return (
        f'<div class="card {grade}"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="note">{escape(note)}</div></div>'
    )


def _plots(evaluation: Evaluation) -> str:
    m, out = evaluation.metrics, []
    if evaluation.scored or any(f.truth for f in evaluation.frames):
        words = "From above. Colour is the distance between estimate and truth; gray rings are the images of the map."
        out.append(plot_figure("Trajectory", words, figures.trajectory(evaluation)))
    if evaluation.scored:
        words = "Against the truth, in the map frame, not aligned."
        out.append(plot_figure("Error over time", words, figures.errors_over_time(evaluation)))
    if evaluation.scored and m.nees_pose:
        words = f"Normalized estimation error squared of {m.nees_pose.count} poses: {_VERDICTS[m.nees_pose.verdict][1]}."
        out.append(plot_figure("Is the covariance true?", words, figures.nees_histogram(evaluation)))
    words = "What the solver was given, and what agreed with its pose."
    out.append(plot_figure("Inliers over time", words, figures.inliers_over_time(evaluation)))
    if evaluation.scored and m.nees_pose:
        words = "Blue band: three claimed standard deviations. Red: errors outside, drawn at the rim where they are beyond it."
        out.append(plot_figure("Position error and claimed covariance", words, figures.errors_within_sigma(evaluation, rotation=False)))
        out.append(plot_figure("Rotation error and claimed covariance", words, figures.errors_within_sigma(evaluation, rotation=True)))
    if m.latency_s:
        out.append(plot_figure("Time per stage", "Wall clock on the machine of this evaluation.", figures.latency_bars(evaluation)))
    return f'<section class="plots">{"".join(out)}</section>'


def plot_figure(title: str, words: str, png: bytes) -> str:
    """A plot with its title and what it shows."""
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return f'<figure><h2>{escape(title)}</h2><p>{escape(words)}</p><img alt="{escape(title)}" src="{source}"></figure>'


def _matches(evaluation: Evaluation, matches_picture: Callable[[FrameResult], Picture | None]) -> str:
    out = []
    for label, frame in telling_frames(evaluation):
        picture = matches_picture(frame)
        if picture is not None:
            out.append(
                f'<figure class="wide"><h3>{escape(label)}</h3><p>{escape(_caption(frame))}</p>'
                f'<img alt="{escape(label)}" src="{jpeg(picture)}"></figure>'
            )
    if not out:
        return ""
    words = "The query image and the image of the map it was found with. Lines join what agreed: green fits well, red barely."
    return f'<section><h2 class="section">Matches</h2><p class="words">{words}</p>{"".join(out)}</section>'


def telling_frames(evaluation: Evaluation) -> list[tuple[str, FrameResult]]:
    """The best, the median and the worst frame by error, or by inliers where no truth is known; each once."""
    scored = sorted(evaluation.scored, key=lambda f: f.error_m or 0.0)
    ranked = scored or sorted((f for f in evaluation.frames if f.estimate), key=lambda f: -f.num_inliers)
    chosen: dict[str, tuple[str, FrameResult]] = {}
    by = "error" if scored else "number of inliers"
    for label, i in ((f"Best {by}", 0), (f"Median {by}", (len(ranked) - 1) // 2), (f"Worst {by}", len(ranked) - 1)):
        if ranked:
            chosen.setdefault(ranked[i].name, (label, ranked[i]))
    return list(chosen.values())


def _caption(frame: FrameResult) -> str:
    parts = [frame.name]
    if frame.error_m is not None and frame.error_rad is not None:
        parts.append(f"off by {_length(frame.error_m)} and {_angle(np.degrees(frame.error_rad))}")
    if frame.estimate is not None:
        matches = f" of {frame.num_matches} matches" if frame.num_matches else ""
        parts += [f"claimed σ {_length(frame.estimate.sigma_m)}", f"{frame.num_inliers} inliers{matches}"]
    return " · ".join([*parts, f"place {frame.place}"] if frame.place else parts)


def jpeg(picture: Picture) -> str:
    """A picture as the source of an image in the page, at most 1400 px wide."""
    if picture.shape[1] > 1400:
        size = (1400, round(picture.shape[0] * 1400 / picture.shape[1]))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _tables(evaluation: Evaluation) -> str:
    m = evaluation.metrics
    recalls = [(f"{_length(r.threshold_m)}, {r.threshold_deg:g}°", percent(r.of_all), percent(r.of_accepted)) for r in m.recalls]
    tables = [text_table("Recall", ("within", "of all queries", "of accepted"), recalls)] if m.scored else []
    errors = [
        _error_row("translation", m.translation_m, _length),
        _error_row("rotation", m.rotation_deg, _angle),
        _error_row("translation, frame to frame", m.relative_translation_m, _length),
        _error_row("rotation, frame to frame", m.relative_rotation_deg, _angle),
    ]
    tables.append(text_table("Trajectory error", ("", "rmse", "median", "95 %", "max"), filter(None, errors)))
    consistency = [_nees_row("pose", m.nees_pose), _nees_row("position", m.nees_position), _nees_row("rotation", m.nees_rotation)]
    tables.append(text_table("NEES", ("", "mean", "95 % bounds", "verdict"), filter(None, consistency)))
    latency = [(name, _ms(t.median_s), _ms(t.p95_s), _ms(t.max_s)) for name, t in m.latency_s.items()]
    tables.append(text_table("Time [ms]", ("stage", "median", "95 %", "max"), latency))
    rejections = [(reason.replace("_", " "), str(n)) for reason, n in m.rejections.items()]
    tables.append(text_table("Rejected because", ("reason", "frames"), rejections))
    tables.append(text_table("Wrong and confident", ("frame",), [(name,) for name in m.wrong_and_confident[:20]]))
    tables.append(text_table("Settings", ("", ""), [(k, str(v)) for k, v in evaluation.settings.items()]))
    return f'<section><h2 class="section">Numbers</h2><div class="tables">{"".join(tables)}</div></section>'


def text_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, or nothing where it has no rows."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    if not body:
        return ""
    head = f"<thead><tr>{''.join(f'<th>{escape(c)}</th>' for c in header)}</tr></thead>" if any(header) else ""
    return f'<div class="table"><h3>{escape(title)}</h3><div class="scroll"><table>{head}<tbody>{body}</tbody></table></div></div>'


def _error_row(name: str, s: ErrorStatistics | None, unit: Callable[[float], str]) -> tuple[str, ...] | None:
    return None if s is None else (name, unit(s.rmse), unit(s.median), unit(s.p95), unit(s.max))


def _nees_row(name: str, n: Nees | None) -> tuple[str, ...] | None:
    if n is None:
        return None
    return (f"{name} ({n.degrees_of_freedom})", f"{n.mean:.2f}", f"{n.lower:.2f} to {n.upper:.2f}", n.verdict.value)


def _length(metres: float) -> str:
    return f"{100 * metres:.{0 if metres >= 0.1 else 1}f} cm".replace(".0 cm", " cm") if metres < 1 else f"{metres:.3g} m"


def _angle(degrees: float) -> str:
    return f"{degrees:.2f}°" if degrees < 10 else f"{degrees:.3g}°"


def percent(fraction: float | None) -> str:
    """Never rounded up to 100."""
    if fraction is None:
        return "–"
    return "100 %" if fraction == 1 else f"{min(100 * fraction, 99.9):.1f} %"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
