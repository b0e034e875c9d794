"""setup.py as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def setup_module_of_package(checkout: Path) -> ModuleType:
    """setup.py, loaded and not run."""
    spec = importlib.util.spec_from_file_location("ros2_loc_setup", checkout / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
