"""Maps on the earth: from fixes, from odometry, from nothing."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix, GeoOrigin, geodetic_from_enu
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.mapping.georeference import locate_posed_map, place_free_structure
from ros2_loc.mapping.sfm import Structure

ORIGIN = GeoOrigin(49.011, 8.417, 112.0)
STAMPS = np.arange(20, dtype=np.int64) * 500_000_000
ENU = np.array([[8 * np.cos(0.2 * k), 8 * np.sin(0.2 * k), 0.3 * k] for k in range(20)])


def sequence(map_from_base: list[Pose | None], fixes: bool, odometry: list[Pose] | None = None) -> ImageSequence:
    records = []
    if fixes:
        lat, lon, alt = geodetic_from_enu(ORIGIN, ENU)
        records = [GeoFix(int(s), float(a), float(o), float(h)) for s, a, o, h in zip(STAMPS, lat, lon, alt, strict=True)]
    none: list[Pose | None] = [None] * 20
    camera = Camera.pinhole(64, 48, 50, 50, 32, 24)
    blank = np.zeros((48, 64, 3), np.uint8)
    names = tuple(str(k) for k in range(20))
    return ImageSequence(
        names, STAMPS, camera, Pose.identity(), tuple(map_from_base), tuple(odometry or none), tuple(records), lambda i: blank
    )


def test_a_posed_map_finds_its_place_on_earth() -> None:
    enu_from_map = Pose(so3_exp([0, 0, 0.7]), np.array([100.0, -20.0, 3.0]))
    poses: list[Pose | None] = [Pose(np.eye(3), enu_from_map.inverse().apply(p)) for p in ENU]
    found = locate_posed_map(sequence(poses, fixes=True))
    assert found.origin is not None and found.metric
    first = ENU[0]
    assert found.enu_from_map.apply(poses[5].translation) == pytest.approx(ENU[5] - first, abs=1e-3)  # type: ignore[union-attr]
    assert locate_posed_map(sequence(poses, fixes=False)).origin is None


@pytest.mark.parametrize("reference", ["fixes", "odometry", "nothing"])
def test_structure_from_motion_gets_its_scale(reference: str) -> None:
    free_from_enu_scale, turn = 0.25, so3_exp([0.3, -0.2, 1.0])
    poses = [Pose(turn, turn @ (free_from_enu_scale * p)).inverse() for p in ENU]
    point = np.array([[3.0, 2.0, 1.0]])
    structure = Structure(
        np.arange(20), poses, (free_from_enu_scale * point) @ turn.T, np.array([0, 1]), np.array([0, 0]), np.array([0, 0])
    )
    odometry = [Pose(np.eye(3), p) for p in ENU] if reference == "odometry" else None
    georeference, placed = place_free_structure(sequence([None] * 20, reference == "fixes", odometry), structure)
    assert georeference.metric == (reference != "nothing")
    assert (georeference.origin is not None) == (reference == "fixes")
    length = np.linalg.norm(placed.camera_from_map[0].inverse().translation - placed.camera_from_map[9].inverse().translation)
    expected = np.linalg.norm(ENU[0] - ENU[9])
    assert length == pytest.approx(expected * (1.0 if georeference.metric else free_from_enu_scale), rel=1e-4)
    distance = np.linalg.norm(placed.points_m[0] - placed.camera_from_map[0].inverse().translation)
    assert distance == pytest.approx(np.linalg.norm(point[0] - ENU[0]) * (1.0 if georeference.metric else free_from_enu_scale), rel=1e-4)
