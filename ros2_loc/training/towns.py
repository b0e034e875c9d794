"""Synthetic towns as drives to learn from: rendered once, each drive into a folder of its own, by several processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.io.files import atomic_path
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.training.drives import CachedDrive, CrossViewDrive, cache_drive, is_cached, load_drive
from ros2_loc.world.drive import Vehicle, make_drive, street_route
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording
from ros2_loc.world.render import render_satellite
from ros2_loc.world.town import Town

Progress = Callable[[int, int], None]


class Towns:
    """Towns of consecutive seeds: the first ones to train, the last ones to validate."""

    @dataclass(frozen=True)
    class Config:
        """What is rendered. The cameras, their mounting, and the light differ from drive to drive."""

        first_seed: int = 1000
        count: int = 8
        validation_count: int = 1
        drives: int = 6  # of each town
        drive_length_m: float = 900.0
        image_rate_hz: float = 3.0  # at 6 m/s
        metres_per_px: float = 0.4  # of the picture from above

        def __post_init__(self) -> None:
            sizes = (self.drive_length_m, self.image_rate_hz, self.metres_per_px)
            if min(self.count, self.validation_count, self.drives) < 1 or min(sizes) <= 0:
                raise ConfigError(f"{self}: counts must be at least 1, lengths and rates positive")

    def __init__(self, config: Config, image_px: tuple[int, int], cache: Path) -> None:
        """Nothing is rendered yet.

        Args:
            image_px: (height, width) of the ground images.
            cache: folder in which towns of several recipes may lie.
        """
        self.config, self._image_px, self._cache = config, image_px, cache

    def drives(self, workers: int = 1, progress: Progress | None = None) -> tuple[list[CachedDrive], list[CachedDrive]]:
        """Drives to train and to validate; those that the cache lacks are rendered now (minutes per town).

        Args:
            workers: processes that render.
            progress: called with (drives done, drives in all).
        """
        seeds = range(self.config.first_seed, self.config.first_seed + self.config.count + self.config.validation_count)
        jobs = [(self.config, self._image_px, seed, number, self._folder(seed)) for seed in seeds for number in range(self.config.drives)]
        waiting = [job for job in jobs if not is_cached(job[4] / f"drive_{job[3]:02d}")]
        done = len(jobs) - len(waiting)
        for _ in _rendered(waiting, workers):
            done += 1
            if progress is not None:
                progress(done, len(jobs))
        found = [self._load(seed) for seed in seeds]
        train, validate = found[: self.config.count], found[self.config.count :]
        return [drive for town in train for drive in town], [drive for town in validate for drive in town]

    def _folder(self, seed: int) -> Path:
        what = {**asdict(self.config), "image_px": self._image_px, "format": 1}
        for name in ("first_seed", "count", "validation_count", "drives"):
            del what[name]
        return self._cache / f"town_{seed}_{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]}"

    def _load(self, seed: int) -> list[CachedDrive]:
        folder = self._folder(seed)
        imagery = load_mosaic(folder / "mosaic.npz")
        return [load_drive(folder / f"drive_{number:02d}", imagery) for number in range(self.config.drives)]


_Job = tuple[Towns.Config, tuple[int, int], int, int, Path]


def _rendered(jobs: list[_Job], workers: int):  # type: ignore[no-untyped-def]
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_render, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_render, jobs)


def _render(job: _Job) -> None:
    config, image_px, seed, number, folder = job
    cv2.setNumThreads(1)  # the workers are the parallelism
    town = _town(seed)
    mosaic_file = folder / "mosaic.npz"
    if not mosaic_file.exists():
        save_mosaic(_mosaic(town, config.metres_per_px), mosaic_file)
    drive = CrossViewDrive(f"town {seed} drive {number}", _recording(town, config, image_px, number).sequence(), load_mosaic(mosaic_file))
    cache_drive(drive, folder / f"drive_{number:02d}", image_px)


@lru_cache(maxsize=1)
def _town(seed: int) -> Town:
    return Town.generate(seed, TownSize(columns=6, rows=6, facade_px_per_m=12.0, ground_px_per_m=8.0))


def _mosaic(town: Town, metres_per_px: float) -> Mosaic:
    rng = np.random.default_rng([town.seed, 41])
    picture = render_satellite(town, metres_per_px, light=random_light(rng))
    return Mosaic(picture.rgb, np.ones(picture.rgb.shape[:2], bool), picture.bounds_m[0], picture.bounds_m[3], metres_per_px)


def _recording(town: Town, config: Towns.Config, image_px: tuple[int, int], number: int) -> Recording:
    rng = np.random.default_rng([town.seed, 43, number])
    camera, mounting = random_camera(image_px, rng), random_mounting(rng)
    drive = make_drive(_route(town, config.drive_length_m, rng), Vehicle(lane_m=-float(rng.uniform(1.2, 2.0))), 1_000_000_000, number)
    return Recording(town, drive, random_light(rng), camera, mounting, image_rate_hz=config.image_rate_hz, seed=number)


def _route(town: Town, length_m: float, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    nodes = town.plan.nodes
    nx, ny = nodes.shape[:2]
    way = [(int(rng.integers(1, nx - 1)), int(rng.integers(1, ny - 1)))]
    driven = 0.0
    while driven < length_m:
        i, j = way[-1]
        steps = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
        steps = [s for s in steps if 0 < s[0] < nx - 1 and 0 < s[1] < ny - 1 and (len(way) < 2 or s != way[-2])]
        way.append(steps[int(rng.integers(len(steps)))])
        driven += float(np.linalg.norm(nodes[way[-1]] - nodes[way[-2]]))
    return street_route(town.plan, way)


def random_camera(image_px: tuple[int, int], rng: np.random.Generator) -> Camera:
    """A pinhole camera that fills images of (height, width) px: 70 to 100 degrees across, 26 to 56 high."""
    height, width = image_px
    across, high = np.radians(rng.uniform(70, 100)), np.radians(rng.uniform(26, 56))
    fx, fy = width / 2 / np.tan(across / 2), height / 2 / np.tan(high / 2)
    return Camera.pinhole(width, height, fx, fy, width / 2, height * float(rng.uniform(0.44, 0.56)))


def random_mounting(rng: np.random.Generator) -> Pose:
    """base_from_camera: 1.3 to 1.9 m high, looking up by a degree to down by four."""
    pitch = np.radians(rng.uniform(-1.0, 4.0))
    return Pose(so3_exp([0.0, pitch, 0.0]) @ BODY_FROM_OPTICAL, np.array([rng.uniform(0.0, 2.0), 0.0, rng.uniform(1.3, 1.9)]))


def random_light(rng: np.random.Generator) -> Light:
    """One of the three weathers with another sun, haze and exposure."""
    light = [Light.afternoon(), Light.morning(), Light.overcast()][int(rng.integers(3))]
    return replace(
        light,
        sun_azimuth_rad=float(rng.uniform(0, 2 * np.pi)),
        sun_elevation_rad=float(rng.uniform(0.4, 1.1)),
        exposure=light.exposure * float(rng.uniform(0.85, 1.15)),
        weather=int(rng.integers(100)),
    )


def save_mosaic(mosaic: Mosaic, path: Path) -> None:
    """Write a picture from above, compressed."""
    with atomic_path(path) as temporary:
        place = np.array([mosaic.west_m, mosaic.north_m, mosaic.metres_per_px])
        np.savez_compressed(temporary, rgb=mosaic.rgb, valid=mosaic.valid, place=place)


def load_mosaic(path: Path) -> Mosaic:
    """What `save_mosaic` wrote."""
    with np.load(path) as stored:
        return Mosaic(stored["rgb"], stored["valid"], *(float(v) for v in stored["place"]))
