"""Drives on disk: interrupted and taken up again, loaded without their source, refused when they are of something else."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.errors import DataError
from ros2_loc.perception.cross_view.views import level_camera
from ros2_loc.training.drives import CrossViewDrive, cache_drive, is_cached, load_drive

sys.path.insert(0, str(Path(__file__).parent))
from flat_world import IMAGE_PX, flat_mosaic, flat_sequence

MOSAIC = flat_mosaic(3)
SEQUENCE = flat_sequence(MOSAIC, 3, images=100)


def test_round_trip(tmp_path: Path) -> None:
    listed = CrossViewDrive("a drive", SEQUENCE, MOSAIC, np.array([4, 9]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    written = cache_drive(listed, tmp_path / "drive", IMAGE_PX)
    read = load_drive(tmp_path / "drive", MOSAIC)
    for drive in (written, read):
        np.testing.assert_array_equal(drive.images, np.stack([SEQUENCE.image(i) for i in range(100)]))
        np.testing.assert_array_equal(drive.map_from_base[7], SEQUENCE.map_from_base[7].matrix)
        np.testing.assert_allclose(drive.base_from_camera.matrix, SEQUENCE.base_from_camera.matrix, atol=1e-12)
        assert drive.camera == SEQUENCE.camera and drive.imagery is MOSAIC and drive.name == "a drive"
        assert drive.queries.tolist() == [4, 9] and drive.tile_centres_m.tolist() == [[1, 2], [3, 4]]
    assert read.travelled_m[-1] == pytest.approx(2.0 * 99)


def test_an_interrupted_drive_is_taken_up_where_it_was(tmp_path: Path) -> None:
    asked: list[int] = []

    def load(i: int, last: int = 80) -> np.ndarray:
        asked.append(i)
        if i == last:
            raise KeyboardInterrupt
        return SEQUENCE.load(i)

    with pytest.raises(KeyboardInterrupt):
        cache_drive(CrossViewDrive("d", replace(SEQUENCE, load=load), MOSAIC), tmp_path / "d", IMAGE_PX)
    assert not is_cached(tmp_path / "d")
    first_part = len(asked)
    drive = cache_drive(CrossViewDrive("d", replace(SEQUENCE, load=lambda i: load(i, -1)), MOSAIC), tmp_path / "d", IMAGE_PX)
    assert set(asked[first_part:]) == {0, *range(64, 100)}, "what lies on disk is not made again (the first one tells the camera)"
    np.testing.assert_array_equal(drive.images, np.stack([SEQUENCE.image(i) for i in range(100)]))


def test_a_folder_of_another_size_or_drive_is_refused(tmp_path: Path) -> None:
    cache_drive(CrossViewDrive("d", SEQUENCE, MOSAIC), tmp_path / "d", IMAGE_PX)
    with pytest.raises(DataError, match="another drive or size"):
        cache_drive(CrossViewDrive("d", SEQUENCE, MOSAIC), tmp_path / "d", (16, 48))
    with pytest.raises(DataError, match="another drive or size"):
        cache_drive(CrossViewDrive("d", SEQUENCE.subset(range(5)), MOSAIC), tmp_path / "d", IMAGE_PX)


def test_damage_is_told(tmp_path: Path) -> None:
    cache_drive(CrossViewDrive("d", SEQUENCE, MOSAIC), tmp_path / "d", IMAGE_PX)
    whole = (tmp_path / "d" / "images.npy").read_bytes()
    (tmp_path / "d" / "images.npy").write_bytes(whole[:1000])
    with pytest.raises(DataError, match="remove the folder"):
        load_drive(tmp_path / "d", MOSAIC)


def test_images_without_a_true_pose_are_refused(tmp_path: Path) -> None:
    lacking = replace(SEQUENCE, map_from_base=(None, *SEQUENCE.map_from_base[1:]))
    with pytest.raises(DataError, match="1 images have no true pose"):
        cache_drive(CrossViewDrive("d", lacking, MOSAIC), tmp_path / "d", IMAGE_PX)


def test_a_level_view_keeps_the_mask_of_the_real_camera(tmp_path: Path) -> None:
    narrow = replace(SEQUENCE.subset(range(3)), camera=Camera.pinhole(96, 32, 80.0, 26.0, 48.0, 12.0))
    drive = cache_drive(CrossViewDrive("d", narrow, MOSAIC), tmp_path / "d", (32, 128), "level")
    assert drive.camera == level_camera(32, 128)
    assert abs(drive.base_from_camera.rotation[2, 2]) < 1e-9, "its axis is level"
    assert 0.3 < drive.mask.mean() < 1.0 and not drive.images[:, ~drive.mask].any()
    assert load_drive(tmp_path / "d", MOSAIC).mask.tolist() == drive.mask.tolist()
