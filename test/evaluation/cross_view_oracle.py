"""A place of coloured noise, a drive through it, and an encoder that sees it from above: what a perfect network would say."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.core.types import Frame, GroundFeatures, OverheadDescriptor, TileDescriptors
from ros2_loc.evaluation.cross_view_queries import Area, AreaDrive, yaw_of
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.mapping.tile_database import TileDatabase

ORIGIN = GeoOrigin(48.5, 9.05, 340.0)
S = 1_000_000_000
CAMERA = Camera.pinhole(8, 4, 5.0, 5.0, 4.0, 2.0)


def mosaic(extent_m: float = 320.0, seed: int = 0) -> Mosaic:
    """Noise with detail of some metres, around the origin."""
    side = round(extent_m / 1.6)
    noise = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3)).astype(np.uint8)
    rgb = np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    return Mosaic(rgb, np.ones(rgb.shape[:2], bool), -extent_m / 2, extent_m / 2, 1.6)


def drive(length_m: float = 160.0, start_m: tuple[float, float] = (-80.0, -60.0), step_m: float = 2.0) -> ImageSequence:
    """North-eastwards in a bow, an image every 2 m, with odometry that begins at the identity; image i is filled with i."""
    count = round(length_m / step_m) + 1
    yaws = 0.9 + 0.6 * np.sin(np.arange(count) * step_m / 40.0)
    steps = step_m * np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
    places = np.array(start_m) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], axis=0)])
    poses = tuple(Pose(so3_exp([0, 0, yaw]), np.array([*place, 0.0])) for yaw, place in zip(yaws, places, strict=True))
    return ImageSequence(
        names=tuple(f"{i:04d}.png" for i in range(count)),
        stamps_ns=S + np.arange(count) * (S // 2),
        camera=CAMERA,
        base_from_camera=Pose(BODY_FROM_OPTICAL, np.array([0.0, 0.0, 1.5])),
        map_from_base=poses,
        odom_from_base=tuple(poses[0].inverse() @ pose for pose in poses),
        fixes=(),
        load=lambda i: np.full((4, 8, 3), i % 256, np.uint8),
    )


def area(sequence: ImageSequence | None = None, extent_m: float = 320.0) -> Area:
    """That place with tiles every 10 m that lie wholly on it."""
    picture = mosaic(extent_m)
    tiles = TileDatabase.build(picture, ORIGIN, TileDatabase.Layout(1.6, 64, 10.0, min_valid=0.99), {})
    return Area("noise", ORIGIN, picture, tiles.centres_m, 10.0, (AreaDrive("bow", sequence or drive()),))


class Oracle:
    """Colours from above at 3.2 m: of tiles, and, knowing the truth, around the vehicle, turned by the error of the given heading."""

    name = "oracle"
    fingerprint = "oracle:0"

    def __init__(self, place: Area, shift_cells: int = 3) -> None:
        self.grid = OverheadGrid(32, 3.2, shift_cells)
        self.tile_px = 64
        self.passes = 0
        self.frames_seen: list[int] = []
        self._imagery = place.imagery
        self._truth = {int(s): p for d in place.drives for s, p in zip(d.sequence.stamps_ns, d.sequence.map_from_base, strict=True)}

    def encode_tiles(self, images: NDArray[np.uint8]) -> TileDescriptors:
        """Mean colours of the cells."""
        cells = images.reshape(len(images), 32, 2, 32, 2, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
        k = self.grid.num_shifts
        return TileDescriptors(_unit(cells), np.ones((len(images), k, k), np.float32), self.fingerprint)

    def encode_frame(self, frame: Frame) -> GroundFeatures:
        """Its stamp: the oracle knows the rest."""
        self.passes += 1
        return GroundFeatures(np.array([[[frame.stamp_ns / S]]], np.float32), frame.camera, frame.base_from_camera, self.fingerprint)

    def describe(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Pose]) -> OverheadDescriptor:
        """What lies around the truth, turned by the heading's error."""
        self.frames_seen.append(len(features))
        truth = self._truth[round(float(features[0].features[0, 0, 0]) * S)]
        assert truth is not None
        error = yaw_of(query_from_base[0]) - yaw_of(truth)
        rgb, valid = self._imagery.crop(truth.translation[:2], 32, 3.2, np.pi / 2 - error)
        return OverheadDescriptor(_unit(rgb.transpose(2, 0, 1)[None].astype(float))[0] * valid, valid, self.fingerprint)

    def describe_many(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Sequence[Pose]]) -> list[OverheadDescriptor]:
        """One by one."""
        return [self.describe(features, poses) for poses in query_from_base]


def _unit(colours: np.ndarray) -> NDArray[np.float32]:
    centred = colours - 127.5
    length = np.sqrt((centred**2).sum(axis=(1, 2, 3), keepdims=True))
    return (centred / length).astype(np.float32)
