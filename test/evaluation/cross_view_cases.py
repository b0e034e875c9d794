"""Cross-view results small enough to be checked by hand."""

from __future__ import annotations

from typing import Any

from ros2_loc.evaluation.cross_view_records import (
    RANK_KEYS,
    CrossViewEvaluation,
    FilterCondition,
    FilterRun,
    QueryResult,
    SingleShot,
    TopTile,
)


def query(i: int, rank: int | None = None) -> QueryResult:
    """Query 0 is found at once, query 1 at rank 3, query 2 at rank 40, its best tile far off."""
    rank = (0, 3, 40)[i] if rank is None else rank
    top = tuple(TopTile(7 + k, 0.9 - 0.1 * k, (4.0, 9.0, 300.0)[i] + k, 2.0 + k) for k in range(3))
    return QueryResult(
        drive="town:3",
        name=f"{i:06d}.png",
        stamp_ns=1_000_000_000 * i,
        frames=4,
        truth_m=(10.0 * i, -3.0),
        yaw_rad=0.5,
        ranks=dict.fromkeys(RANK_KEYS, rank),
        top=top,
        nearest_m=4.0 + i,
        aligned_error_m=(2.0 * i, -1.0),
        top_error_m=(3.0, 0.5),
    )


def single(label: str = "4 frames", model: dict[str, Any] | None = None) -> SingleShot:
    """Three queries."""
    seconds = {"encode tile": 0.002, "encode frame": 0.01, "describe": 0.004, "match 1000 tiles": 0.05}
    return SingleShot(label, 4, model or {"name": "small", "sha256": "ab" * 32}, (3, 90), tuple(query(i) for i in range(3)), seconds)


def run(accepted: bool = True) -> FilterRun:
    """Four frames; poses from the third on, or none."""
    return FilterRun(
        drive="town:3",
        start_ns=5,
        travelled_m=(0.0, 60.0, 110.0, 198.0),
        accepted=(False, False, accepted, accepted),
        error_m=(None, 40.0, 3.0, 2.0),
        nees=(None, None, *((1.5, 2.5) if accepted else (None, None))),
        sigma_m=(None, None, *((3.0, 2.0) if accepted else (None, None))),
        mass=(0.01, 0.3, 0.95, 0.99),
        reason=("ambiguous", "ambiguous", *(("", "") if accepted else ("ambiguous", "ambiguous"))),
    )


def evaluation() -> CrossViewEvaluation:
    """Single shots and runs of a filter."""
    settings = {"weights": "small", "drives": ["town:3"], "seed": 0, "queries": {"frames": 4, "frame_spacing_m": 4.0}}
    filters = (FilterCondition("as measured", (run(), run(accepted=False))), FilterCondition("odometry 5 % long", (run(),)))
    return CrossViewEvaluation("town:3, 90 tiles", settings, (single(), single("8 frames")), filters)
