"""The small town's street as a folder of images and as a bag, and a way to call the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ros2_loc.cli.main import main
from ros2_loc.io.cameras import write_camera
from ros2_loc.io.convert import BagOutput, write_sequence
from ros2_loc.io.drifting_odometry import Drift
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import write_image
from ros2_loc.io.trajectories import Trajectory, write_tum


class Said(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Call `ros2-loc` with these words."""

    def run(*words: object) -> Said:
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def street_folder(town_sequence: ImageSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/, poses.tum (of the camera) and camera.yaml."""
    folder = tmp_path_factory.mktemp("street")
    for i, name in enumerate(town_sequence.names):
        write_image(folder / "images" / name, town_sequence.image(i))
    poses = [pose @ town_sequence.base_from_camera for pose in town_sequence.map_from_base if pose is not None]
    write_tum(folder / "poses.tum", Trajectory(town_sequence.stamps_ns, tuple(poses)))
    write_camera(folder / "camera.yaml", town_sequence.camera)
    return folder


@pytest.fixture(scope="session")
def street_bag(town_sequence: ImageSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a bag, with odometry."""
    bag = tmp_path_factory.mktemp("bags") / "street"
    write_sequence(town_sequence, bag, notes={"source": "test"}, odometry_from_truth=Drift(), output=BagOutput(progress=False))
    return bag
