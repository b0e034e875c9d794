"""Is there a ROS 2 to run nodes with? Asked without importing rclpy, which restarts the interpreter it comes into."""

from __future__ import annotations

import importlib.util

from ros2_loc.errors import MissingDependencyError

_INSTALL = "source a ROS 2 (Jazzy or later), or on Linux x86-64: pip install ros2_loc into a venv, which brings ROS 2 from PyPI"


def has_package(name: str) -> bool:
    """Whether a Python package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def require_ros() -> None:
    """Raise MissingDependencyError when nodes can't be started here, saying why and what to do."""
    if not has_package("rclpy"):
        raise MissingDependencyError(f"nodes need ROS 2, and there is no rclpy here: {_INSTALL}")
    if not has_package("ros2_loc.msg"):
        raise MissingDependencyError(
            "ros2_loc was installed without its messages: install a C compiler, then pip install . again (or colcon build)"
        )
