"""Recordings over tiles: KITTI raw by a published list, and poses that fixes lay onto the earth."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.geodesy import GeoFix, GeoOrigin, enu_from_geodetic, geodetic_from_enu
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import DataError
from ros2_loc.io.oxts import IMU_HEIGHT_M
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.training.recorded_drives import between_origins, georeferenced, imagery_of, kitti_cvl, kitti_poses

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from flat_world import flat_mosaic, flat_sequence
from recordings import raw_drive

ORIGIN = GeoOrigin(49.0105, 8.4195, 100.0)
NETWORK = CVLNet.Config(image_px=(24, 32), view="resized")
FRAMES = (2, 3, 6)


@pytest.fixture
def tiles() -> TileDatabase:
    return TileDatabase.build(flat_mosaic(1), ORIGIN, TileDatabase.Layout(metres_per_px=0.5, size_px=64, spacing_m=10.0), {})


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw_drive(tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    drive = "2011_09_26/2011_09_26_drive_0001_sync"
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, frames in (("train", FRAMES), ("test1", FRAMES[:1])):
        lines = [f"{drive}/{k:010d}.png {49.0101 + 1e-5 * k} 8.4202" for k in reversed(frames)]
        (folder / f"{name}_files_with_sat_GPS.txt").write_text("\n".join(lines))
    return folder


def test_kitti_by_its_list(raw: Path, lists: Path, tiles: TileDatabase, tmp_path: Path) -> None:
    source = kitti_cvl(raw, lists, tiles, NETWORK, tmp_path / "cache")
    told: list[tuple[int, int]] = []
    (train,), (validate,) = source.drives(progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    assert train.queries.tolist() == list(FRAMES) and validate.queries.tolist() == [2]
    assert train.images.shape == (8, 24, 32, 3), "frames before the queries are there too"
    assert train.imagery is validate.imagery
    expected = enu_from_geodetic(ORIGIN, [49.0101 + 1e-5 * k for k in FRAMES], 8.4202, 100.0)[:, :2]
    np.testing.assert_allclose(train.tile_centres_m, expected, atol=1e-6)
    with pytest.raises(DataError, match="lacks 1 of 1 drives"):
        kitti_cvl(raw / "gone", lists, tiles, NETWORK, tmp_path / "cache")


def test_poses_of_kitti_lie_where_each_record_says(raw: Path) -> None:
    drive = raw / "2011_09_26" / "2011_09_26_drive_0001_sync"
    trajectory = kitti_poses(drive, ORIGIN)
    for k, pose in enumerate(trajectory.poses):
        lat, lon, alt, _, _, yaw = (float(n) for n in (drive / "oxts" / "data" / f"{k:010d}.txt").read_text().split()[:6])
        imu = enu_from_geodetic(ORIGIN, lat, lon, alt)
        np.testing.assert_allclose(pose.apply([0.0, 0.0, IMU_HEIGHT_M]), imu, atol=1e-6)
        assert pose.yaw_rad == pytest.approx(yaw, abs=1e-4)


def test_between_two_origins() -> None:
    other = GeoOrigin(49.03, 8.40, 130.0)
    points = np.array([[100.0, 20.0, 3.0], [-500.0, 900.0, -10.0]])
    lat, lon, alt = geodetic_from_enu(other, points)
    np.testing.assert_allclose(between_origins(ORIGIN, other).apply(points), enu_from_geodetic(ORIGIN, lat, lon, alt), atol=1e-6)


def test_fixes_lay_the_poses_onto_the_earth() -> None:
    """Poses in a map of their own, turned and moved against east and north; fixes with noise."""
    mosaic = flat_mosaic(2)
    true = flat_sequence(mosaic, 4)
    own_from_enu = Pose(so3_exp([0.0, 0.0, 1.1]), np.array([300.0, -70.0, 5.0]))
    rng = np.random.default_rng(0)
    fixes = []
    for stamp, pose in zip(true.stamps_ns, true.map_from_base, strict=True):
        lat, lon, alt = geodetic_from_enu(ORIGIN, pose.translation + rng.normal(0, 0.3, 3))
        fixes.append(GeoFix(int(stamp), float(lat), float(lon), float(alt)))
    own = replace(true, map_from_base=tuple(own_from_enu @ pose for pose in true.map_from_base), fixes=tuple(fixes))
    drive = georeferenced(own, "bag", ORIGIN, mosaic)
    error = [found.difference(pose) for found, pose in zip(drive.sequence.map_from_base, true.map_from_base, strict=True)]
    assert np.abs(np.array(error)[:, :2]).max() < 0.3 and np.abs(np.array(error)[:, 5]).max() < 0.01
    e0, n0, e1, n1 = mosaic.bounds_m
    over = [k for k, pose in enumerate(true.map_from_base) if e0 < pose.translation[0] < e1 and n0 < pose.translation[1] < n1]
    assert abs(len(drive.queries) - len(over)) <= 1 and 0 < len(over) < len(true), "what leaves the imagery is not asked for"


def test_recordings_that_can_not_be_placed_are_refused() -> None:
    mosaic = flat_mosaic(2)
    sequence = flat_sequence(mosaic, 4, images=10)
    with pytest.raises(DataError, match="needs at least 5 fixes"):
        georeferenced(sequence, "bag", ORIGIN, mosaic)
    with pytest.raises(DataError, match="no true poses"):
        georeferenced(replace(sequence, map_from_base=(None,) * 10), "bag", ORIGIN, mosaic)
    far = [GeoFix(int(s), 48.0, 8.0 + 1e-4 * k, 100.0) for k, s in enumerate(sequence.stamps_ns)]
    with pytest.raises(DataError, match="outside of the imagery"):
        georeferenced(replace(sequence, fixes=tuple(far)), "bag", ORIGIN, mosaic)


def test_the_imagery_of_stored_tiles_is_taken_into_memory(tiles: TileDatabase, tmp_path: Path) -> None:
    tiles.save(tmp_path / "tiles")
    stored = TileDatabase.load(tmp_path / "tiles")
    imagery = imagery_of(stored)
    assert isinstance(imagery, Mosaic) and imagery.rgb.shape == tiles.mosaic.rgb.shape
    np.testing.assert_array_equal(imagery.crop((3.0, 4.0), 32, 0.5)[0], stored.mosaic.crop((3.0, 4.0), 32, 0.5)[0])
