"""The tables of a cross-view evaluation as text cells, for a terminal and for a page alike."""

from __future__ import annotations

from dataclasses import dataclass

from ros2_loc.evaluation import cross_view_metrics as cv
from ros2_loc.evaluation.cross_view_paper import TABLES, Published
from ros2_loc.evaluation.cross_view_records import MEASURES, TESTS, CrossViewEvaluation, FilterCondition, SingleShot, rank_key

Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of cells; `note` says how to read it."""

    title: str
    header: Cells
    rows: tuple[Cells, ...]
    note: str = ""


def tables(evaluation: CrossViewEvaluation) -> list[TextTable]:
    """All tables that the evaluation has something for, in the order in which people ask."""
    found = []
    if evaluation.single or evaluation.ablation:
        found.append(recall_table(evaluation))
        found.append(recall_table(evaluation, measure="tile"))
        found.append(recall_table(evaluation, radius_m=25.0))
        found.append(displacement_table(evaluation.single))
        found.append(time_table(evaluation.single))
    if evaluation.filters:
        found.append(filter_table(evaluation.filters))
        found.append(filter_error_table(evaluation.filters))
    return [t for t in found if t.rows]


def recall_table(evaluation: CrossViewEvaluation, radius_m: float = 10.0, measure: str = MEASURES[0]) -> TextTable:
    """Recall in %; of an ablation the paper's numbers stand beside those that the paper measured the same way."""
    published = _published(evaluation) if (radius_m, measure) == (10.0, MEASURES[0]) else {}
    header = ("", *(f"Test-{test} r@{k}" for test in TESTS for k in cv.RECALL_AT))
    rows = [(s.label, *_recalls(s, radius_m, measure, published.get(s.label))) for s in evaluation.single]
    if published:
        order = list(published)
        rows += [(f"{name}: not there", *_absent(published[name])) for name in evaluation.missing]
        rows.sort(key=lambda row: order.index(row[0].removesuffix(": not there")))
    where = "by the tile's centre alone" if measure == "tile" else "by the tile's centre and its best shift"
    title = TABLES[evaluation.ablation].title if evaluation.ablation else "Recall"
    note = f"In %, {_sizes(evaluation)}. Test-1: only the nearest tile of each query is there; Test-2: all tiles.{_beside(published)}"
    return TextTable(f"{title}: within {radius_m:g} m {where}", header, tuple(rows), note)


def displacement_table(results: tuple[SingleShot, ...]) -> TextTable:
    """Errors in m, median and 90 %, after the shift has been applied."""
    header = ("", "of", "queries", "longitudinal", "lateral", "total", "heading")
    rows: list[Cells] = []
    for s in results:
        m = s.metrics
        if m.nearest is not None:
            rows.append((s.label, "nearest tile, not moved", str(m.nearest.count), "", "", f"{m.nearest.median:.1f}", ""))
        for name, d in (("nearest tile", m.aligned), ("best tile where it holds the place", m.top)):
            if d is not None:
                parts = ((d.longitudinal_median_m, d.longitudinal_p90_m), (d.lateral_median_m, d.lateral_p90_m))
                cells = (*(f"{a:.1f} | {b:.1f}" for a, b in parts), f"{d.total_median_m:.1f} | {d.total_p90_m:.1f}")
                turned = m.heading_error_deg if d is m.top else None
                rows.append((s.label, name, str(d.count), *cells, "" if turned is None else f"{turned.median:.1f} | {turned.p95:.1f} deg"))
    note = (
        "In m, median | 90 %, of the position that tile and best shift give; heading: median | 95 %. "
        f"A tile holds the place when its centre is within {cv.HOLDS_M:g} m."
    )
    return TextTable("Displacement", header, tuple(rows), note)


def time_table(results: tuple[SingleShot, ...]) -> TextTable:
    """What the work costs on this machine, and the cost of a new frame against one backbone pass."""
    stages = list(dict.fromkeys(stage for s in results for stage in s.seconds))
    rows = []
    for s in results:
        frame, described = s.seconds.get("encode frame", 0.0), s.seconds.get("describe", 0.0)
        ratio = f"{(frame + described) / frame:.2f}" if frame > 0 else ""
        rows.append((s.label, *(f"{1000 * s.seconds[stage]:.1f}" if stage in s.seconds else "" for stage in stages), ratio))
    note = "In ms: of a tile, of a new frame's backbone pass, of a video from cached features, of a video against 1000 tiles."
    return TextTable("Time", ("", *stages, "new frame / backbone"), tuple(rows), note)


def filter_table(conditions: tuple[FilterCondition, ...]) -> TextTable:
    """How soon and how surely runs find their place."""
    header = ("", "runs", *(f"after {d:g} m" for d in cv.FILTER_DISTANCES_M), "wrong runs", "wrong poses", "first pose", "never")
    rows: list[Cells] = []
    for c in conditions:
        m = c.metrics
        shares = (f"{100 * a:.0f} ({100 * b:.0f})" for a, b in zip(m.within, m.mode_within, strict=True))
        first = "-" if m.first_fix_m is None else f"{m.first_fix_m[1]:.0f} m ({m.first_fix_m[0]:.0f} to {m.first_fix_m[2]:.0f})"
        rows.append((c.label, str(m.runs), *shares, str(m.runs_wrong), f"{m.poses_wrong} of {m.poses}", first, str(m.never)))
    note = (
        f"% of runs, from a uniform prior, whose pose at that way is within {cv.ARRIVED_M:g} m; in brackets their strongest mode, given "
        f"as a pose or not. Wrong: a pose off by more than {cv.ARRIVED_M:g} m whose claimed 99.73 % ellipse leaves the truth out. "
        "First pose: median way (quartiles)."
    )
    return TextTable("Filter", header, tuple(rows), note)


def filter_error_table(conditions: tuple[FilterCondition, ...]) -> TextTable:
    """How far poses are off, and whether their covariances say so."""
    header = ("", "poses", "error median", "90 %", "in 95 % ellipse", "NEES (2 if true)")
    rows: list[Cells] = []
    for c in conditions:
        m = c.metrics
        if m.nees is None or m.coverage is None:
            continue
        nees = f"{m.nees.mean:.2f}, {m.nees.verdict.value} ({m.nees.lower:.2f} to {m.nees.upper:.2f})"
        rows.append((c.label, str(m.poses), f"{m.error_median_m:.1f} m", f"{m.error_p90_m:.1f} m", f"{100 * m.coverage:.1f} %", nees))
    note = "Poses of one run are not independent: the bounds of NEES, which take them for that, are too narrow."
    return TextTable("Poses of the filter", header, tuple(rows), note)


def _published(evaluation: CrossViewEvaluation) -> dict[str, Published | None]:
    return {row.name: row.published for row in TABLES[evaluation.ablation].rows} if evaluation.ablation else {}


def _recalls(result: SingleShot, radius_m: float, measure: str, published: Published | None) -> Cells:
    values = [v for test in TESTS for v in result.metrics.recalls[rank_key(test, radius_m, measure)]]
    ours = ["-" if v is None else f"{100 * v:.1f}" for v in values]
    return tuple(ours) if published is None else tuple(f"{a} ({b:.1f})" for a, b in zip(ours, published, strict=True))


def _sizes(evaluation: CrossViewEvaluation) -> str:
    sizes = {(len(s.queries), *s.tiles) for s in evaluation.single}
    return "; ".join(f"{q} queries, {one} tiles in Test-1, {two} in Test-2" for q, one, two in sorted(sizes)) or "no queries"


def _absent(published: Published | None) -> Cells:
    return ("-",) * 8 if published is None else tuple(f"- ({p:.1f})" for p in published)


def _beside(published: dict[str, Published | None]) -> str:
    return " In brackets: the paper's, with its networks on KITTI-CVL." if any(published.values()) else ""
