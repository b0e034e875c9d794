"""What every test has: the checkout on the path of child processes, a DDS domain and log folder of its own, and the real data."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # each test file pays for what it uses only
    from ros2_loc.io.image_sequence import ImageSequence
    from ros2_loc.localization.pipeline import PipelineConfig
    from ros2_loc.mapping.sparse_map import SparseMap

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent / "models"))  # random_networks

# no deadlines: a busy machine is slow, not wrong
settings.register_profile("quick", max_examples=40, deadline=None)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, because pytest asks only the outermost conftest before it reads its command line."""
    parser.addoption("--parity", metavar="DIR", help="golden outputs to hold the networks to (default: ../shared/parity)")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any module that reads it is imported."""
    path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    os.environ.setdefault("MPLBACKEND", "Agg")
    # Neither a robot on the network nor another run of the tests on this machine may answer these nodes.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_LOG_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="ros2_loc_log_", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ["ROS_LOG_DIR"] = folder.name


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def is_alive() -> Callable[[int], bool]:
    """Whether there is a process of this number."""

    def answer(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return answer


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings: $ROS2_LOC_SHARED/data, or shared/data beside the checkout. Read-only."""
    folder = Path(os.environ.get("ROS2_LOC_SHARED", CHECKOUT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set ROS2_LOC_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The weight file, without any training, of a plugin that needs one (see `random_networks`)."""
    pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
    import random_networks

    folder = tmp_path_factory.mktemp("weights")
    return cache(lambda name: random_networks.write(name, folder))


@pytest.fixture
def painted_movers(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a detector for tests, which finds what `painted_movers.paint` paints."""
    from ros2_loc import registry

    monkeypatch.syspath_prepend(str(Path(__file__).parent / "localization"))
    monkeypatch.setitem(registry.TABLE["detector"], "painted", registry.Component("painted_movers:PaintedMovers", "for tests"))
    return "painted"


@pytest.fixture(scope="session")
def town_sequence() -> ImageSequence:
    """20 images, 320 x 200 px, about 1.5 m apart, along a street of a small synthetic town, with their true poses."""
    from ros2_loc.world.drive import make_drive, street_route
    from ros2_loc.world.layout import TownSize
    from ros2_loc.world.light import Light
    from ros2_loc.world.recording import Recording, demo_camera
    from ros2_loc.world.town import Town

    town = Town.generate(5, TownSize.small())
    drive = make_drive(street_route(town.plan, [(1, 1), (2, 1), (2, 2)], start=0.05, end=0.6), start_ns=1_000_000_000)
    return Recording(town, drive, Light.afternoon(), demo_camera(320, 200), image_rate_hz=4.0, seed=1).sequence().subset(range(20))


@pytest.fixture(scope="session")
def small_pipeline() -> PipelineConfig:
    """The default with fewer keypoints and a small codebook."""
    from ros2_loc.localization.pipeline import PipelineConfig

    return PipelineConfig(extractor={"name": "sift", "max_keypoints": 800}, encoder={"name": "vlad", "num_words": 16})


@pytest.fixture(scope="session")
def town_map(town_sequence: ImageSequence, small_pipeline: PipelineConfig, tmp_path_factory: pytest.TempPathFactory) -> SparseMap:
    """Built from every second image of `town_sequence`. Copy its folder before changing anything in it."""
    from ros2_loc.localization.build_map import build_map

    folder = tmp_path_factory.mktemp("map") / "town"
    return build_map(town_sequence.subset(range(0, 20, 2)), small_pipeline, folder, source="test", show_progress=False)
