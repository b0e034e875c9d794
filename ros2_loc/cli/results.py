"""The numbers of an evaluation in a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from ros2_loc.cli.console import length, milliseconds, percent, table
from ros2_loc.evaluation.metrics import ErrorStatistics, Latency, Nees
from ros2_loc.evaluation.records import Metrics
from ros2_loc.evaluation.stretches import Worth

Row = tuple[str, str]


def metrics_table(m: Metrics) -> str:
    """Recalls, errors, rejections, consistency and latency, one a line."""
    return table(metrics_rows(m))


def metrics_rows(m: Metrics) -> list[Row]:
    """(what, value), in the order in which people ask."""
    rows = [("localized", f"{m.accepted} of {m.queries}"), ("rejected", str(m.rejected))]
    rows += [(f"  {reason.replace('_', ' ')}", str(count)) for reason, count in m.rejections.items()]
    if m.scored:
        rows += [(f"within {length(r.threshold_m)}, {r.threshold_deg:g} deg", _recall(r.of_all, r.of_accepted)) for r in m.recalls]
    rows += error_rows(m.translation_m, m.rotation_deg, "error")
    rows += error_rows(m.relative_translation_m, m.relative_rotation_deg, "step to step")
    if m.scored:
        wrong = m.wrong_and_confident
        rows.append(("wrong by > 1 m, sigma < 0.3 m", str(len(wrong)) + (f": {', '.join(wrong[:3])}" if wrong else "")))
    rows += [row for row in (_nees("NEES pose", m.nees_pose), _nees("NEES position", m.nees_position)) if row]
    rows += [(f"time: {name}", _latency(t, m.queries)) for name, t in m.latency_s.items()]
    return rows


def comparison_table(columns: Mapping[str, Metrics]) -> str:
    """Several evaluations side by side."""
    found = {name: dict(metrics_rows(metrics)) for name, metrics in columns.items()}
    whats = list(dict.fromkeys(what for rows in found.values() for what in rows))
    return table([(what, *(rows.get(what, "") for rows in found.values())) for what in whats], ("", *columns))


def worth_table(stretches: Mapping[str, Mapping[str, Worth]]) -> str:
    """Localizers side by side, stretch by stretch."""
    rows: list[tuple[str, ...]] = []
    for stretch, worths in stretches.items():
        rows.append((stretch,))
        rows += [(f"  {name}", *_worth_cells(worth)) for name, worth in worths.items()]
    header = ("", "answered", "position: median (95 %)", "heading: median (95 %)", "NEES of x, y, heading", "wrong and confident")
    return table(rows, header)


def _worth_cells(worth: Worth) -> tuple[str, ...]:
    share = percent(worth.answered / worth.asked if worth.asked else None)
    answered = f"{worth.answered} of {worth.asked} ({share})"
    if worth.position_m is None or worth.heading_deg is None or worth.nees is None:
        return answered, "-", "-", "-", "-"
    position, heading, nees = worth.position_m, worth.heading_deg, worth.nees
    return (
        answered,
        f"{length(position.median)} ({length(position.p95)})",
        f"{heading.median:.2f} deg ({heading.p95:.2f})",
        f"{nees.mean:.2f}, {nees.verdict.value} ({nees.lower:.2f} to {nees.upper:.2f})",
        str(worth.wrong_and_confident),
    )


def error_rows(translation_m: ErrorStatistics | None, rotation_deg: ErrorStatistics | None, name: str) -> list[Row]:
    """Median, 95th percentile, largest and root mean square of both parts of an error."""
    if translation_m is None or rotation_deg is None:
        return []
    return [
        (f"{name} median", f"{length(translation_m.median)}, {rotation_deg.median:.3f} deg"),
        (f"{name} 95 %", f"{length(translation_m.p95)}, {rotation_deg.p95:.3f} deg"),
        (f"{name} max", f"{length(translation_m.max)}, {rotation_deg.max:.3f} deg"),
        (f"{name} rmse", f"{length(translation_m.rmse)}, {rotation_deg.rmse:.3f} deg"),
    ]


def _recall(of_all: float | None, of_accepted: float | None) -> str:
    return percent(of_all) if of_all == of_accepted else f"{percent(of_all)} ({percent(of_accepted)} of localized)"


def _nees(name: str, nees: Nees | None) -> Row | None:
    if nees is None:
        return None
    return name, f"{nees.mean:.2f}, {nees.verdict.value} ({nees.lower:.2f} to {nees.upper:.2f})"


def _latency(latency: Latency, queries: int) -> str:
    part = "" if latency.count == queries else f", in {latency.count} of {queries}"
    return f"{milliseconds(latency.median_s)} (95 %: {milliseconds(latency.p95_s)}{part})"
