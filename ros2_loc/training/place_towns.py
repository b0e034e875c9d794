"""Synthetic places: views of districts in several domains, rendered once and kept as arrays."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.io.files import atomic_path
from ros2_loc.training.place_images import PlaceData, PlaceImages, PlaceQueries, joined, of_poses
from ros2_loc.world.domains import domain_light
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording, demo_camera
from ros2_loc.world.render import render
from ros2_loc.world.routes import district_drives
from ros2_loc.world.town import Town

Progress = Callable[[int, int], None]
_FORMAT = 1


class PlaceTowns:
    """Districts of consecutive seeds; the last ones are held out: their views of the first domain are the database, the others ask."""

    @dataclass(frozen=True)
    class Config:
        """What is rendered: a fiftieth of a second for each image of 160 x 100.

        Attributes:
            count, validation_count: districts to learn from, and to validate with.
            extent_m: side of a district.
            drives: through each; each is driven once in every domain, on another day.
            drive_length_m, step_m: of a drive, and from one view to the next.
            size_px: width and height of the images.
            domains: see `world.domains`.
            aside_m, turn_deg: how far views of one place lie beside each other and look beside each other: standard deviations.
        """

        first_seed: int = 3000
        count: int = 10
        validation_count: int = 1
        extent_m: float = 300.0
        drives: int = 2
        drive_length_m: float = 360.0
        step_m: float = 4.0
        size_px: tuple[int, int] = (160, 100)
        domains: tuple[str, ...] = ("day", "overcast", "night", "fog", "rain")
        aside_m: float = 0.6
        turn_deg: float = 5.0

        def __post_init__(self) -> None:
            object.__setattr__(self, "size_px", tuple(self.size_px))
            object.__setattr__(self, "domains", tuple(self.domains))
            lengths = (self.extent_m, self.drive_length_m, self.step_m)
            if min(self.count, self.validation_count, self.drives) < 1 or min(lengths) <= 0 or len(self.domains) < 2:
                raise ConfigError(f"{self}: counts must be at least 1, lengths positive, and two domains at least be given")
            if min(self.size_px) < 32 or min(self.aside_m, self.turn_deg) < 0:
                raise ConfigError(f"{self}: images have 32 px at least, aside_m and turn_deg are not negative")
            for name in self.domains:
                domain_light(name)

    def __init__(self, config: Config, cache: Path) -> None:
        """Nothing is rendered yet; `cache` is a folder in which places of several recipes may lie."""
        self.config, self._cache = config, cache

    def data(self, progress: Progress | None = None) -> PlaceData:
        """What the cache lacks is rendered now. `progress` gets (drives done, drives in all), a drive in each domain."""
        c = self.config
        seeds = range(c.first_seed, c.first_seed + c.count + c.validation_count)
        parts: dict[tuple[int, str], list[PlaceImages]] = {}
        done, total = 0, len(seeds) * c.drives * len(c.domains)
        for seed in seeds:
            for drive in range(c.drives):
                for domain in c.domains:
                    parts.setdefault((seed, domain), []).append(self._views(seed, drive, domain))
                    done += 1
                    if progress is not None:
                        progress(done, total)
        held = set(seeds[c.count :])
        train = [part for (seed, _), views in parts.items() for part in views if seed not in held]
        database = [part for (seed, domain), views in parts.items() for part in views if seed in held and domain == c.domains[0]]
        queries = [part for (seed, domain), views in parts.items() for part in views if seed in held and domain != c.domains[0]]
        return PlaceData(joined(train), PlaceQueries(joined(database), joined(queries)))

    def _views(self, seed: int, drive: int, domain: str) -> PlaceImages:
        what = {**asdict(self.config), "format": _FORMAT, "light": asdict(domain_light(domain))}
        for name in ("first_seed", "count", "validation_count", "drives", "domains"):
            del what[name]
        folder = self._cache / f"places_{seed}_{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]}" / f"{drive}_{domain}"
        if not folder.is_dir():
            self._render(seed, drive, domain, folder)
        images = np.load(folder / "images.npy", mmap_mode="r")
        poses = [Pose.from_matrix(matrix) for matrix in np.load(folder / "poses.npy")]
        return of_poses(poses, Pose.identity(), lambda i: np.array(images[i]), area=seed)

    def _render(self, seed: int, drive: int, domain: str, folder: Path) -> None:
        c, number = self.config, zlib.crc32(domain.encode())
        rng = np.random.default_rng([seed, 83, drive, number])
        town = Town.generate(seed, TownSize.district(c.extent_m)).on_day(number % 365)
        recording = district_drives(town, drive, c.drive_length_m, camera=demo_camera(*c.size_px), image_step_m=c.step_m)[0]
        light = _varied(domain_light(domain), rng)
        poses = list(_poses(recording, c, rng))
        images = [render(town, recording.camera, pose, light, rng).rgb for pose in poses]
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            np.save(temporary / "images.npy", np.stack(images))
            np.save(temporary / "poses.npy", np.stack([pose.matrix for pose in poses]))


def _poses(recording: Recording, config: PlaceTowns.Config, rng: np.random.Generator) -> Iterator[Pose]:
    """Those of the camera along a drive: each somewhat beside the lane, looking somewhat aside."""
    for stamp in recording.stamps_ns.tolist():
        aside, turn = rng.normal(0.0, config.aside_m), rng.normal(0.0, np.radians(config.turn_deg))
        yield recording.drive.at(stamp) @ Pose(so3_exp([0.0, 0.0, turn]), np.array([0.0, aside, 0.0])) @ recording.base_from_camera


def _varied(light: Light, rng: np.random.Generator) -> Light:
    """The same domain with another sun, other clouds, another exposure."""
    azimuth = float(rng.uniform(0, 2 * np.pi))
    return replace(light, sun_azimuth_rad=azimuth, weather=int(rng.integers(100)), exposure=light.exposure * float(rng.uniform(0.8, 1.2)))
