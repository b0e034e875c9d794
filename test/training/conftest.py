"""Drives through the flat world."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ros2_loc.training.drives import CachedDrive

sys.path.insert(0, str(Path(__file__).parent))
from flat_world import cached, flat_mosaic


@pytest.fixture(scope="session")
def flat_drives(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[CachedDrive]]:
    """So many drives, each through a world of its own unless `shared`."""
    folder = tmp_path_factory.mktemp("drives")

    def make(count: int, seed: int = 0, tilt_rad: float = 0.0, shared: bool = False) -> list[CachedDrive]:
        mosaics = [flat_mosaic(seed)] * count if shared else [flat_mosaic(seed + k) for k in range(count)]
        return [cached(mosaics[k], seed + k, folder / f"{seed}_{count}_{tilt_rad}_{shared}_{k}", tilt_rad) for k in range(count)]

    return make
