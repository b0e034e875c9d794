"""One small town for all tests of the room: painted once, seen by a small camera."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.world.drive import Drive, make_drive, street_route
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording, demo_camera, demo_mounting
from ros2_loc.world.routes import district_drives
from ros2_loc.world.town import Town


@pytest.fixture(scope="session")
def town() -> Town:
    """One block, its four streets and what stands along them."""
    return Town.generate(5, TownSize.small())


@pytest.fixture(scope="session")
def camera() -> Camera:
    """320 x 200 px."""
    return demo_camera(320, 200)


@pytest.fixture(scope="session")
def drive(town: Town) -> Drive:
    """Half round the block."""
    return make_drive(street_route(town.plan, [(1, 1), (2, 1), (2, 2)], start=0.1, end=0.8), start_ns=5_000_000_000)


@pytest.fixture(scope="session")
def recording(town: Town, drive: Drive, camera: Camera) -> Recording:
    """That drive on a clear afternoon, an image per second."""
    return Recording(town, drive, Light.afternoon(), camera, image_rate_hz=1.0, seed=3)


@pytest.fixture(scope="session")
def map_from_camera(drive: Drive) -> Pose:
    """A pose on the way, looking along the street."""
    return drive.at(int(drive.stamps_ns[200])) @ demo_mounting()


@pytest.fixture(scope="session")
def district() -> Town:
    """200 m across: a few unlike blocks."""
    return Town.generate(4, TownSize.district(200.0, apron_m=30.0))


@pytest.fixture(scope="session")
def ride(district: Town) -> Recording:
    """A random drive of 250 m through it, seen by the small camera every 10 m."""
    return district_drives(district, 1, 250.0, image_step_m=10.0)[0]


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded."""
    return np.random.default_rng(0)
