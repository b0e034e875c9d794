"""A drive as a sequence in memory and as a bag: the same images, stamps, poses and odometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.io.sequences import open_sequence
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording, demo_camera, write_bags


@pytest.fixture(scope="module")
def tiny(recording: Recording) -> Recording:
    return replace(recording, camera=demo_camera(128, 80), image_rate_hz=0.5)


def test_a_sequence_knows_where_its_images_were_taken(tiny: Recording) -> None:
    recording = tiny
    sequence = recording.sequence()
    assert len(sequence) == len(recording.stamps_ns) > 3
    np.testing.assert_array_equal(sequence.image(2), recording.view(2).rgb)
    for i, pose in enumerate(sequence.map_from_base):
        truth = recording.drive.at(int(sequence.stamps_ns[i]))
        assert pose is not None and pose.difference(truth) == pytest.approx(np.zeros(6), abs=1e-9)
    assert all(pose is not None for pose in sequence.odom_from_base)
    frame = sequence.frame(1)
    assert frame.stamp_ns == sequence.stamps_ns[1] and frame.odom_from_base is sequence.odom_from_base[1]
    assert len(sequence.fixes) == int(recording.drive.duration_s) + 1


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_holds_the_same(tmp_path: Path, tiny: Recording, storage: str) -> None:
    seen: list[tuple[int, int]] = []
    write_bags({tmp_path / "bag": tiny}, storage=storage, progress=lambda done, total: seen.append((done, total)))  # type: ignore[arg-type]
    direct, read = tiny.sequence(), open_sequence(tmp_path / "bag")
    assert seen == [(k + 1, len(direct)) for k in range(len(direct))]
    np.testing.assert_array_equal(read.stamps_ns, direct.stamps_ns)
    assert read.camera == direct.camera
    assert read.base_from_camera.difference(direct.base_from_camera) == pytest.approx(np.zeros(6), abs=1e-9)
    for i in range(len(direct)):
        np.testing.assert_array_equal(read.image(i), direct.image(i))
        for ours, theirs in ((direct.map_from_base[i], read.map_from_base[i]), (direct.odom_from_base[i], read.odom_from_base[i])):
            assert ours is not None and theirs is not None
            assert theirs.difference(ours) == pytest.approx(np.zeros(6), abs=1e-6)
    assert [f.lat_deg for f in read.fixes] == [f.lat_deg for f in direct.fixes]


@pytest.mark.slow
def test_workers_render_the_same(tmp_path: Path, tiny: Recording) -> None:
    write_bags({tmp_path / "one": tiny, tmp_path / "other": replace(tiny, light=Light.overcast())}, workers=2)
    one, other = (open_sequence(tmp_path / name) for name in ("one", "other"))
    for i in range(len(one)):
        np.testing.assert_array_equal(one.image(i), tiny.view(i).rgb)
        assert (one.image(i) != other.image(i)).any()
