"""Runs of the filter on a place of coloured noise: what is fed, what is noted, and that a good encoder finds its place."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import cross_view_filter as cf
from ros2_loc.evaluation.cross_view_pictures import BeliefRecorder
from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig

sys.path.insert(0, str(Path(__file__).parent))
from cross_view_oracle import Oracle, area, drive

SHORT = cf.FilterRunsConfig(runs=1, length_m=56.0)


def test_an_encoder_that_knows_brings_every_run_to_its_place_and_never_lies() -> None:
    place = area(drive(length_m=120.0))
    oracle, recorder = Oracle(place), BeliefRecorder(at_m=(0.0, 30.0))
    conditions = (cf.CONDITIONS[0], cf.Condition("heading +5 deg", heading_deg=5.0))
    found = cf.filter_runs([place], oracle, CrossViewPipelineConfig(), SHORT, conditions, recorder)
    assert [c.label for c in found] == ["as measured", "heading +5 deg"] and all(len(c.runs) == 1 for c in found)
    for c in found:
        m = c.metrics
        assert m.within[0] == 1.0 and m.runs_wrong == 0 and m.never == 0
        assert m.error_median_m is not None and m.error_median_m < 5.0
    same = [tuple(run.start_ns for run in c.runs) for c in found]
    assert same[0] == same[1]  # the same places under every condition
    assert oracle.passes <= len(place.drives[0].sequence)
    assert len(recorder.moments) == 2 and isinstance(recorder.moments[1].result, PoseEstimate)
    picture = recorder.picture(place)
    assert picture.ndim == 3 and picture.dtype == np.uint8


@pytest.mark.parametrize("scale", [1.0, 1.05, 0.95])
def test_a_wrong_scale_lengthens_every_step_and_keeps_turns(scale: float) -> None:
    poses = list(drive().odom_from_base)
    start = Pose(so3_exp([0, 0, 0.7]), np.array([4.0, 5.0, 0.0]))
    out = cf.distorted_odometry([start @ pose for pose in poses if pose is not None], scale, "bow")
    np.testing.assert_allclose(out[0].matrix, np.eye(4), atol=1e-12)
    for a, b, c, d in zip(out[:-1], out[1:], poses[:-1], poses[1:], strict=True):
        found, true = a.inverse() @ b, c.inverse() @ d
        np.testing.assert_allclose(found.translation, scale * true.translation, atol=1e-9)
        np.testing.assert_allclose(found.rotation, true.rotation, atol=1e-9)


def test_runs_begin_where_there_is_room_for_them() -> None:
    place = area(drive(length_m=120.0))
    starts = cf.choose_starts(place, replace(SHORT, length_m=100.0), 20, 0)
    assert len(starts) == 20 and all(way <= 11 for _, way in starts)
    with pytest.raises(DataError, match="longest drive has 120 m"):
        cf.choose_starts(place, replace(SHORT, length_m=500.0), 3, 0)


def test_without_odometry_there_are_no_runs() -> None:
    with pytest.raises(DataError, match="without odometry"):
        cf.distorted_odometry([Pose.identity(), None], 1.0, "bow")
    with pytest.raises(ConfigError, match="at least one run"):
        cf.FilterRunsConfig(runs=0)
