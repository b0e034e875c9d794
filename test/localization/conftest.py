"""A world for the cross-view localizer without any network: its ground is a smooth random field, which images and tiles sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as default
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Frame, GroundFeatures, OverheadDescriptor, TileDescriptors
from ros2_loc.localization.cross_view_localizer import CrossViewLocalizer, CrossViewResult
from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig, VideoConfig
from ros2_loc.localization.tile_filter import TileFilter
from ros2_loc.localization.tile_likelihood import TileLikelihood
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.mapping.tile_database import TileDatabase

Array = NDArray[np.float64]
S = 1_000_000_000
LIKELIHOOD = TileLikelihood(0.21, 1.47, 0.01, 6.0)  # of a world with its default noise, by `fit_filter`
CAMERA = Camera.pinhole(8, 4, 4.0, 4.0, 4.0, 2.0)


@dataclass(frozen=True)
class FieldWorld:
    """Attributes:
    side_m: of the square whose south-western corner is the origin.
    seed: of the field.
    noise: how different the images see the field from the tiles, for each place always the same: standard deviation against the field's 1.
    query_noise: the same, new for every query.
    period_m: the field repeats itself east and north; 0: it does not.
    """

    side_m: float = 300.0
    seed: int = 0
    noise: float = 1.0
    query_noise: float = 1.0
    period_m: float = 0.0
    channels: int = 2
    grid: OverheadGrid = default(default_factory=lambda: OverheadGrid(cells=14, metres_per_cell=3.2, shift_cells=3))
    name: str = "field"
    tile_px: int = 8

    @property
    def fingerprint(self) -> str:
        return f"field-{self.seed}"

    def layer(self, stream: int) -> NDArray[np.float32]:
        """(C, side + 100, side + 100) at 1 m, standard deviation 1; [:, n, e] at north n - 50, east e - 50."""
        cells = round(self.side_m) + 100
        rng = np.random.default_rng([self.seed, stream])
        period = round(self.period_m) or cells
        white = rng.standard_normal((self.channels, period, period)).astype(np.float32)
        smooth = np.stack([gaussian_filter(w, 4.0, mode="wrap") for w in white])
        smooth /= smooth.std(axis=(1, 2), keepdims=True)
        repeats = -(-cells // period)
        return np.tile(smooth, (1, repeats, repeats))[:, :cells, :cells]

    def tiles(self, spacing_m: float = 10.0) -> TileDatabase:
        """Tiles over the whole square, described by the field itself."""
        rgb = np.full((round(self.side_m), round(self.side_m), 3), 128, dtype=np.uint8)
        mosaic = Mosaic(rgb, np.ones(rgb.shape[:2], dtype=bool), 0.0, self.side_m, 1.0)
        size_px = 8
        layout = TileDatabase.Layout(
            metres_per_px=self.grid.coverage_m / size_px, size_px=size_px, spacing_m=spacing_m, min_valid=0.3
        )
        tiles = TileDatabase.build(mosaic, GeoOrigin(48.0, 9.0), layout, {})
        ground, cells = self.layer(0), self.grid.cell_centres_m()
        features = np.stack([sample(ground, c + cells) for c in tiles.centres_m])
        features /= np.sqrt((features**2).sum(axis=(1, 2, 3), keepdims=True))
        k = self.grid.num_shifts
        return tiles.with_descriptors(TileDescriptors(features, np.ones((len(tiles), k, k), dtype=np.float32), self.fingerprint))


class FieldEncoder:
    """Says of a frame what the field is around it. A frame's features are its true pose, which `Drive.frame` hides in the mounting."""

    def __init__(self, world: FieldWorld) -> None:
        self.name, self.fingerprint, self.grid, self.tile_px = world.name, world.fingerprint, world.grid, world.tile_px
        self._world = world
        self._seen = world.layer(0) + world.noise * world.layer(1)
        self._random = np.random.default_rng([world.seed, 2])
        self.encoded = 0

    def encode_tiles(self, images: NDArray[np.uint8]) -> TileDescriptors:
        raise NotImplementedError("the world's tiles come with descriptors")

    def encode_frame(self, frame: Frame) -> GroundFeatures:
        self.encoded += 1
        pose = frame.base_from_camera
        east, north, _ = pose.translation
        truth = np.array([east, north, pose.yaw_rad], dtype=np.float32).reshape(3, 1, 1)
        return GroundFeatures(truth, frame.camera, pose, self.fingerprint)

    def describe(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Pose]) -> OverheadDescriptor:
        return self.describe_many(features, [query_from_base])[0]

    def describe_many(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Sequence[Pose]]) -> list[OverheadDescriptor]:
        new = self._world.query_noise * self._random.standard_normal((self._world.channels, self.grid.cells, self.grid.cells))
        return [self._describe(features, poses, new) for poses in query_from_base]

    def _describe(self, features: Sequence[GroundFeatures], poses: Sequence[Pose], noise: Array) -> OverheadDescriptor:
        """What lies at a cell, by the poses that are believed, is taken from where the frame truly was."""
        cells = self.grid.cell_centres_m()
        visible = np.zeros(cells.shape[:2], dtype=bool)
        total = np.zeros((self._world.channels, *visible.shape))
        for frame, pose in zip(features, poses, strict=True):
            east, north, yaw = frame.features.ravel()
            turn = yaw - pose.yaw_rad
            ahead = rotated(cells - pose.translation[:2], -pose.yaw_rad)
            seen = (ahead[..., 0] > 2.0) & (ahead[..., 0] < 18.0) & (np.abs(ahead[..., 1]) < 0.8 * ahead[..., 0]) & ~visible
            places = np.array([east, north]) + rotated(cells - pose.translation[:2], turn)
            total[:, seen] = sample(self._seen, places[seen])
            visible |= seen
        total = np.where(visible, total + noise, 0.0).astype(np.float32)
        return OverheadDescriptor(total / max(float(np.linalg.norm(total)), 1e-9), visible, self.fingerprint)


@dataclass(frozen=True)
class Drive:
    """A drive at 10 m/s with an image every metre.

    Attributes:
        poses: (N, 3) true east, north, yaw.
        scale: of the odometry, 1 is right.
        heading_bias_rad, heading_noise_rad: measured minus true yaw.
    """

    poses: Array
    scale: float = 1.0
    heading_bias_rad: float = 0.0
    heading_noise_rad: float = np.radians(0.5)
    start_ns: int = 10 * S

    def __len__(self) -> int:
        return len(self.poses)

    def stamp_ns(self, i: int) -> int:
        return self.start_ns + i * S // 10

    def truth(self, i: int) -> Pose:
        east, north, yaw = self.poses[i]
        return Pose(so3_exp([0, 0, yaw]), np.array([east, north, 0.0]))

    def odometry(self) -> Iterator[Pose]:
        """odom_from_base: another origin, another north."""
        current = Pose(so3_exp([0, 0, 1.0]), np.array([5.0, -7.0, 0.3]))
        yield current
        for i in range(1, len(self)):
            step = self.truth(i - 1).inverse() @ self.truth(i)
            current = current @ Pose(step.rotation, self.scale * step.translation)
            yield current

    def frame(self, i: int) -> Frame:
        return Frame(self.stamp_ns(i), np.zeros((4, 8, 3), dtype=np.uint8), CAMERA, self.truth(i))

    def headings(self, seed: int) -> Array:
        noise = np.random.default_rng(seed).standard_normal(len(self)) * self.heading_noise_rad
        return self.poses[:, 2] + self.heading_bias_rad + noise


def sample(layer: NDArray[np.float32], places_m: Array) -> NDArray[np.float32]:
    """(C, ...) of a layer at (..., 2) east, north."""
    at = [places_m[..., 1] + 50.0, places_m[..., 0] + 50.0]
    return np.stack([map_coordinates(c, at, order=1, mode="nearest") for c in layer]).astype(np.float32)


def rotated(vectors: Array, angle_rad: float) -> Array:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return vectors @ np.array([[c, s], [-s, c]])


def wander(side_m: float, seed: int, length_m: int = 150, border_m: float = 40.0) -> Array:
    """(N, 3) true poses, one per metre: straight on for some way, then a curve, never nearer to the edge than `border_m`."""
    rng = np.random.default_rng([seed, 9])
    while True:
        position, yaw = rng.uniform(border_m, side_m - border_m, 2), rng.uniform(-np.pi, np.pi)
        poses, rate, left = [], 0.0, 0
        for _ in range(length_m + 1):
            poses.append([*position, yaw])
            if left == 0:
                left = int(rng.integers(20, 50))
                rate = 0.0 if rate else float(rng.choice([-1, 1])) * rng.uniform(0.02, 0.08)
            left -= 1
            yaw += rate
            position = position + np.array([np.cos(yaw), np.sin(yaw)])
        result = np.array(poses)
        if (result[:, :2] > border_m).all() and (result[:, :2] < side_m - border_m).all():
            return result


def run(localizer: CrossViewLocalizer, drive: Drive, seed: int = 0, first: int = 0, last: int | None = None) -> list[CrossViewResult]:
    """The results of a drive's images, as a node would get them: odometry and headings before each image."""
    headings, results = drive.headings(seed), []
    for i, pose in enumerate(drive.odometry()):
        if i < first or (last is not None and i >= last):
            continue
        localizer.add_odometry(drive.stamp_ns(i), pose)
        localizer.add_heading(drive.stamp_ns(i), float(headings[i]), 0.05)
        results.append(localizer.localize(drive.frame(i)))
    return results


def localizer(world: FieldWorld, spacing_m: float = 10.0, **settings: Any) -> CrossViewLocalizer:
    """On the tiles of a world; settings as `filter_min_mass=0.9`, `localizer_frames=2`."""
    sections: dict[str, dict[str, Any]] = {"filter": {}, "localizer": {}}
    for name, value in settings.items():
        section, _, key = name.partition("_")
        sections[section][key] = value
    config = CrossViewPipelineConfig(
        filter=replace(TileFilter.Config(), **{"likelihood": LIKELIHOOD, **sections["filter"]}),
        localizer=replace(VideoConfig(), **sections["localizer"]),
    )
    return CrossViewLocalizer(config, world.tiles(spacing_m), FieldEncoder(world))


@pytest.fixture(scope="session")
def field() -> SimpleNamespace:
    """The parts of this file."""
    parts = (FieldWorld, FieldEncoder, Drive, wander, run, localizer, rotated)
    return SimpleNamespace(**{part.__name__: part for part in parts})
