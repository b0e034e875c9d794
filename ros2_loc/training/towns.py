"""Synthetic districts as drives to learn from: rendered once, each drive into a folder of its own, by several processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.io.files import atomic_path
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.perception.cross_view.views import level_camera, level_mounting
from ros2_loc.training.drives import CachedDrive, CrossViewDrive, Progress, cache_drive, is_cached, load_drive
from ros2_loc.world.imagery import Imagery, noon, town_mosaic
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording
from ros2_loc.world.routes import cross_view_camera, district_drives
from ros2_loc.world.town import Town

_FORMAT = 4
_AROUND_M = 50.0  # of imagery beyond the town: tiles of its outer streets are whole


class Towns:
    """Districts of consecutive seeds: the first ones to train, the last ones to validate.

    In those to train, camera, mounting and light differ from drive to drive, and the imagery from town to town; those to validate have
    `cross_view_camera`, the usual imagery, and the three weathers.
    """

    @dataclass(frozen=True)
    class Config:
        """What is rendered."""

        first_seed: int = 1000
        count: int = 16
        validation_count: int = 2
        extent_m: tuple[float, float] = (320.0, 480.0)  # range of the side of a town
        drives: int = 3  # of each town
        drive_length_m: float = 450.0
        image_step_m: float = 2.0
        metres_per_px: float = 0.4  # of the picture from above
        usual_camera: float = 0.5  # share of the drives that have the camera of the network's view, at a height of their own

        def __post_init__(self) -> None:
            object.__setattr__(self, "extent_m", tuple(self.extent_m))
            sizes = (self.extent_m[0], self.drive_length_m, self.image_step_m, self.metres_per_px)
            if min(self.count, self.validation_count, self.drives) < 1 or min(sizes) <= 0 or not 0 <= self.usual_camera <= 1:
                raise ConfigError(f"{self}: counts must be at least 1, lengths positive, usual_camera from 0 to 1")

    def __init__(self, config: Config, network: CVLNet.Config, cache: Path) -> None:
        """Nothing is rendered yet.

        Args:
            network: says how it takes images.
            cache: folder in which towns of several recipes may lie.
        """
        self.config, self._network, self._cache = config, network, cache

    def drives(self, workers: int = 1, progress: Progress | None = None) -> tuple[list[CachedDrive], list[CachedDrive]]:
        """Drives to train and to validate; those that the cache lacks are rendered now (a minute or two per town and process).

        Args:
            workers: processes that render, a town each.
            progress: called with (drives done, drives in all).
        """
        c = self.config
        view = _View(self._network.image_px, self._network.view)
        towns = [_TownOfDrives(c.first_seed + k, k >= c.count, c, view, self._cache) for k in range(c.count + c.validation_count)]
        done, total = 0, len(towns) * c.drives
        for finished in _rendered(towns, workers):
            done += finished
            if progress is not None:
                progress(done, total)
        found = [town.load() for town in towns]
        train, validate = found[: c.count], found[c.count :]
        return [drive for town in train for drive in town], [drive for town in validate for drive in town]


class _View(NamedTuple):
    """How the network takes images: (height, width), and "level" or "resized"."""

    image_px: tuple[int, int]
    kind: str


@dataclass(frozen=True, slots=True)
class _TownOfDrives:
    """One town and its place on disk; `plain`: as a town to validate with."""

    seed: int
    plain: bool
    config: Towns.Config
    view: _View
    cache: Path

    @property
    def folder(self) -> Path:
        what = {**asdict(self.config), "view": self.view, "plain": self.plain, "format": _FORMAT}
        for name in ("first_seed", "count", "validation_count", "drives"):
            del what[name]
        return self.cache / f"town_{self.seed}_{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]}"

    def render(self) -> Iterator[int]:
        """Makes what is lacking; 1 after each drive."""
        lacking = [k for k in range(self.config.drives) if not is_cached(self._drive(k))]
        yield from [1] * (self.config.drives - len(lacking))
        if not lacking:
            return
        cv2.setNumThreads(1)  # the workers are the parallelism
        extent = float(np.random.default_rng([self.seed, 47]).uniform(*self.config.extent_m))
        town = Town.generate(self.seed, TownSize.district(extent))
        if not self._mosaic.exists():
            save_mosaic(self._imagery(town), self._mosaic)
        imagery = load_mosaic(self._mosaic)
        for k in lacking:
            drive = CrossViewDrive(f"town {self.seed} drive {k}", self._recording(town, k).sequence(), imagery)
            cache_drive(drive, self._drive(k), self.view.image_px, self.view.kind)
            yield 1

    def load(self) -> list[CachedDrive]:
        """Its drives, which share the imagery."""
        imagery = load_mosaic(self._mosaic)
        return [load_drive(self._drive(k), imagery) for k in range(self.config.drives)]

    @property
    def _mosaic(self) -> Path:
        return self.folder / "mosaic.npz"

    def _drive(self, number: int) -> Path:
        return self.folder / f"drive_{number:02d}"

    def _imagery(self, town: Town) -> Mosaic:
        e0, n0, e1, n1 = town.bounds_m
        bounds = (e0 - _AROUND_M, n0 - _AROUND_M, e1 + _AROUND_M, n1 + _AROUND_M)
        if self.plain:
            return town_mosaic(town, self.config.metres_per_px, bounds_m=bounds)
        rng = np.random.default_rng([self.seed, 41])
        light = replace(noon(), sun_azimuth_rad=float(rng.uniform(0, 2 * np.pi)), sun_elevation_rad=float(rng.uniform(0.7, 1.2)))
        return town_mosaic(town, self.config.metres_per_px, light, bounds, Imagery.drawn(self.seed))

    def _recording(self, town: Town, number: int) -> Recording:
        c, rng = self.config, np.random.default_rng([self.seed, 43, number])
        recording = district_drives(town, number, c.drive_length_m, image_step_m=c.image_step_m)[0]
        if self.plain:
            return replace(recording, light=_WEATHERS[number % 3]())
        (height, width), usual, mounting = self.view.image_px, rng.random() < c.usual_camera, drawn_mounting(rng)
        usual_camera = level_camera(height, width) if self.view.kind == "level" else cross_view_camera(width, height)
        return replace(
            recording,
            camera=usual_camera if usual else drawn_camera(width, rng),
            base_from_camera=level_mounting(mounting) if usual and self.view.kind == "level" else mounting,
            light=drawn_light(rng),
        )


_WEATHERS = (Light.afternoon, Light.morning, Light.overcast)


def _rendered(towns: list[_TownOfDrives], workers: int) -> Iterator[int]:
    """How many drives were finished, each time that some were."""
    if workers <= 1:
        for town in towns:
            yield from town.render()
        return
    # spawn: forking a process that has threads (DDS, OpenCV, BLAS) can hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_render, towns)


def _render(town: _TownOfDrives) -> int:
    return sum(town.render())


def drawn_camera(width: int, rng: np.random.Generator) -> Camera:
    """A pinhole camera with square pixels: 75 to 100 degrees across, 30 to 62 high, a quarter to half of it above its axis."""
    across, high = np.radians(rng.uniform(75, 100)), np.radians(rng.uniform(30, 62))
    focal = width / 2 / np.tan(across / 2)
    height = round(2 * focal * np.tan(high / 2))
    return Camera.pinhole(width, height, focal, focal, width / 2, height * float(rng.uniform(0.25, 0.5)))


def drawn_mounting(rng: np.random.Generator) -> Pose:
    """base_from_camera: 1.4 to 1.9 m high, level to five degrees down."""
    pitch = np.radians(rng.uniform(0.0, 5.0))
    return Pose(so3_exp([0.0, pitch, 0.0]) @ BODY_FROM_OPTICAL, np.array([rng.uniform(0.0, 2.0), 0.0, rng.uniform(1.4, 1.9)]))


def drawn_light(rng: np.random.Generator) -> Light:
    """One of the three weathers with another sun, exposure and sky."""
    light = _WEATHERS[int(rng.integers(3))]()
    return replace(
        light,
        sun_azimuth_rad=float(rng.uniform(0, 2 * np.pi)),
        sun_elevation_rad=float(rng.uniform(0.4, 1.1)),
        exposure=light.exposure * float(rng.uniform(0.85, 1.15)),
        weather=int(rng.integers(100)),
    )


def save_mosaic(mosaic: Mosaic, path: Path) -> None:
    """Write a picture from above, compressed; raises DataError when it can't be written."""
    with atomic_path(path) as temporary:
        place = np.array([mosaic.west_m, mosaic.north_m, mosaic.metres_per_px])
        np.savez_compressed(temporary, rgb=mosaic.rgb, valid=mosaic.valid, place=place)


def load_mosaic(path: Path) -> Mosaic:
    """What `save_mosaic` wrote."""
    with np.load(path) as stored:
        west, north, metres_per_px = (float(v) for v in stored["place"])
        return Mosaic(stored["rgb"], stored["valid"], west, north, metres_per_px)
