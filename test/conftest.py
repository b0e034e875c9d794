"""What every test has: the checkout on the path of child processes, a DDS domain and log folder of its own, and the real data."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

CHECKOUT = Path(__file__).resolve().parents[1]

# no deadlines: a busy machine is slow, not wrong
settings.register_profile("quick", max_examples=40, deadline=None)
settings.load_profile("quick")


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
def shared_data() -> Path:
    """The folder of real recordings: $ROS2_LOC_SHARED/data, or shared/data beside the checkout. Read-only."""
    folder = Path(os.environ.get("ROS2_LOC_SHARED", CHECKOUT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set ROS2_LOC_SHARED to the folder that holds data/")
    return folder
