"""A recording through both localizers without ROS: where the map says nothing, the tiles carry the pose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.localization.fusion import FusionState, PoseFusion
from ros2_loc.localization.map_localizer import Localization
from ros2_loc.localization.offline import OverTiles, localize_offline

MAP_FROM_TILES = Pose(so3_exp([0.0, 0.0, 0.8]), np.array([300.0, -40.0, 2.0]))
KNOWN = 40  # images that lie in the map


class Recorded:
    """A drive as an image sequence."""

    def __init__(self, drive: Any) -> None:
        self.stamps_ns = np.array([drive.stamp_ns(i) for i in range(len(drive))])
        self.odom_from_base = tuple(drive.odometry())
        self.frame = drive.frame

    def __len__(self) -> int:
        return len(self.stamps_ns)


class MapOfTheFirstStreet:
    """Knows the pose of the first images, to centimetres."""

    def __init__(self, drive: Any) -> None:
        self._drive, self.asked = drive, 0

    def localize(self, frame: Any, prior: Any = None) -> Localization:
        i, self.asked = self.asked, self.asked + 1
        if i >= KNOWN:
            return Localization(Rejection(frame.stamp_ns, RejectionReason.TOO_FEW_INLIERS, ""))
        covariance = np.diag([0.02**2] * 3 + [0.002**2] * 3)
        return Localization(PoseEstimate(frame.stamp_ns, MAP_FROM_TILES @ self._drive.truth(i), covariance, 100, "map"))


@pytest.mark.parametrize("with_tiles", [True, False])
def test_off_the_map_the_tiles_bound_the_error_of_the_odometry(field: SimpleNamespace, with_tiles: bool) -> None:
    world = field.FieldWorld(side_m=240.0, seed=3, noise=0.3, query_noise=0.3)
    drive = field.Drive(field.wander(240.0, 1, 190, border_m=30.0), scale=1.05)
    sequence = Recorded(drive)
    headings = [(int(ns), float(yaw), 0.05) for ns, yaw in zip(sequence.stamps_ns, drive.headings(0), strict=True)]
    tiles = OverTiles(field.localizer(world, filter_independent_m=5.0), headings, MAP_FROM_TILES) if with_tiles else None
    steps = list(localize_offline(sequence, MapOfTheFirstStreet(drive), PoseFusion(), over_tiles=tiles))  # type: ignore[arg-type]
    truth = [MAP_FROM_TILES @ drive.truth(i) for i in range(len(drive))]
    given = [step for step in steps if isinstance(step.over_tiles, PoseEstimate)]
    if not with_tiles:
        assert not given and steps[-1].state is FusionState.LOST
        return
    errors_m = [np.linalg.norm((s.over_tiles.map_from_base.translation - truth[s.index].translation)[:2]) for s in given]  # type: ignore[union-attr]
    assert len(given) > 10 and max(errors_m) < 6.0
    last = steps[-1].fused
    assert last is not None and steps[-1].state is FusionState.TRACKING
    assert np.linalg.norm((last.map_from_base.translation - truth[-1].translation)[:2]) < 4.0
    assert last.sigma_m < 6.0 and last.map_from_base.translation[2] == pytest.approx(2.0, abs=1.0)
