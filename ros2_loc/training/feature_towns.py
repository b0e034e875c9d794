"""Synthetic scenes to learn features from: streets of districts under two lights, with exact depth, in folders as of 7-Scenes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.errors import ConfigError
from ros2_loc.io.depth import write_depth
from ros2_loc.io.files import atomic_path
from ros2_loc.io.images import read_image, write_image
from ros2_loc.training.feature_pairs import PairData
from ros2_loc.training.feature_scenes import DepthPairs, DepthView, scene_views
from ros2_loc.training.towns import drawn_light
from ros2_loc.world.layout import TownSize
from ros2_loc.world.recording import Recording, demo_camera
from ros2_loc.world.routes import district_drives
from ros2_loc.world.town import Town

Progress = Callable[[int, int], None]
_FORMAT = 1


class TownScenes:
    """Districts of consecutive seeds; the last one is held out."""

    @dataclass(frozen=True)
    class Config:
        """What is rendered: seconds for each image.

        Attributes:
            count: districts, the one to validate with among them.
            views: places in each; each is rendered under two lights.
            step_m: from one to the next.
            size_px: width and height of the images.
        """

        first_seed: int = 2000
        count: int = 4
        views: int = 40
        step_m: float = 2.0
        extent_m: float = 240.0
        size_px: tuple[int, int] = (480, 320)

        def __post_init__(self) -> None:
            object.__setattr__(self, "size_px", tuple(self.size_px))
            if self.count < 2 or self.views < 2 or min(self.step_m, self.extent_m) <= 0 or min(self.size_px) < 64:
                raise ConfigError(f"{self}: needs count and views of at least 2, positive lengths, and images of at least 64 px")

    def __init__(self, config: Config, cache: Path) -> None:
        """Nothing is rendered yet; `cache` is a folder in which scenes of several recipes may lie."""
        self.config, self._cache = config, cache

    def pairs(self, progress: Progress | None = None) -> PairData:
        """Pairs of all districts but the last; what the cache lacks is rendered now. `progress` gets (images done, images in all)."""
        c = self.config
        scenes = []
        for k in range(c.count):
            done = 2 * c.views * k
            report = None if progress is None else partial(_report, progress, done, 2 * c.views * c.count)
            scenes.append(self._scene(c.first_seed + k, report))
        held = scenes[-1]
        return PairData(DepthPairs([view for scene in scenes[:-1] for view in scene]), [partial(read_image, view.image) for view in held])

    def _scene(self, seed: int, report: Callable[[int], None] | None) -> list[DepthView]:
        what = {**asdict(self.config), "format": _FORMAT}
        for name in ("first_seed", "count"):
            del what[name]
        folder = self._cache / f"scene_{seed}_{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]}"
        for light in range(2):
            recording = self._recording(seed, light)
            _render(recording, self.config.views, folder / f"light_{light}", light * self.config.views, report)
        return [view for light in range(2) for view in scene_views(folder / f"light_{light}", f"town {seed}")]

    def _recording(self, seed: int, light: int) -> Recording:
        c = self.config
        town = Town.generate(seed, TownSize.district(c.extent_m))
        drawn = drawn_light(np.random.default_rng([seed, 71, light]))
        length = (c.views + 2) * c.step_m
        return district_drives(town, 0, length, light=drawn, camera=demo_camera(*c.size_px), image_step_m=c.step_m)[0]


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _render(recording: Recording, views: int, folder: Path, before: int, report: Callable[[int], None] | None) -> None:
    """Images 0 to `views` of a recording; what is there already stays."""
    stamps = recording.stamps_ns[:views]
    for i, stamp in enumerate(stamps.tolist()):
        pose = folder / f"frame-{i:06d}.pose.txt"  # written last: an image that has one is whole
        if not pose.is_file():
            view = recording.view(i)
            write_image(folder / f"frame-{i:06d}.color.png", view.rgb)
            write_depth(folder / f"frame-{i:06d}.depth.png", view.depth_m)
            _write_matrix(pose, (recording.drive.at(stamp) @ recording.base_from_camera).matrix)
        if report is not None:
            report(before + i + 1)
    _write_intrinsics(folder / "camera-intrinsics.txt", recording.camera)


def _write_intrinsics(path: Path, camera: Camera) -> None:
    _write_matrix(path, camera.to_ros()[0])


def _write_matrix(path: Path, matrix: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(" ".join(f"{value:.12g}" for value in row) for row in matrix) + "\n")
