"""Batches of videos and tiles: which queries, which frames, what is disturbed, and what is the right answer.

A batch is a function of its number and of the seed. The whole batch is turned (and mirrored) by one random angle, so that roads keep
their directions relative to each other: a wrong tile must not be told by its north.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.overhead import OverheadGrid, project_overhead
from ros2_loc.core.pose import Array, Pose, so3_exp
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.training.drives import CachedDrive

NUM_JITTERS = 6  # brightness, contrast, saturation, and the gain of each colour


@dataclass(frozen=True)
class FrameChoice:
    """Which earlier frames go with a query.

    Attributes:
        frames: N, the query among them.
        spacing_m: range of the distance driven from one to the next.
        stride: every Nth image instead, when it is above 0 (the paper: 3).
        known_tilt: whether roll, pitch and height of the frames are used; without, all stand level on a flat ground.
    """

    frames: int = 4
    spacing_m: tuple[float, float] = (2.0, 5.0)
    stride: int = 0
    known_tilt: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing_m", tuple(self.spacing_m))
        if self.frames < 1 or not 0 < self.spacing_m[0] <= self.spacing_m[1] or self.stride < 0:
            raise ConfigError(f"{self}: needs frames of at least 1, spacing_m as [least, most] above 0, stride of at least 0")

    def choose(self, travelled_m: Array, query: int, spacing_m: float) -> list[int]:
        """The query and up to N - 1 images before it, newest first; fewer at the beginning of a drive."""
        if self.stride:
            return [i for i in range(query, query - self.stride * self.frames, -self.stride) if i >= 0]
        wanted = travelled_m[query] - spacing_m * np.arange(1, self.frames)
        earlier = np.searchsorted(travelled_m, wanted[wanted >= 0.0], side="right") - 1
        return [query, *dict.fromkeys(int(i) for i in earlier if i < query)]


@dataclass(frozen=True, slots=True, eq=False)
class Disturbance:
    """What the robot has wrong about one video, and how the scene is turned; all zero and identity: nothing."""

    turn_rad: float = 0.0
    heading_rad: float = 0.0
    scale: float = 1.0
    tilt_rad: NDArray[np.float64] | None = None  # (N, 2) roll and pitch of each frame
    height_m: float = 0.0


def relative_poses(map_from_base: Array, known_tilt: bool, disturbance: Disturbance | None = None) -> list[Pose]:
    """query_from_base of each frame, the query first: the frame centred at the query's base_link, east and north turned by `turn_rad`.

    Args:
        map_from_base: (N, 4, 4), the query first.
        known_tilt: False levels all and puts them at one height.
    """
    d = disturbance or Disturbance()
    poses = []
    turn = so3_exp([0.0, 0.0, d.turn_rad + d.heading_rad])
    for k, matrix in enumerate(map_from_base):
        rotation, offset = matrix[:3, :3], (matrix[:3, 3] - map_from_base[0, :3, 3]) * d.scale
        if not known_tilt:
            rotation = so3_exp([0.0, 0.0, np.arctan2(rotation[1, 0], rotation[0, 0])])
            offset = offset * [1.0, 1.0, 0.0]
        if d.tilt_rad is not None:
            rotation = rotation @ so3_exp([*d.tilt_rad[k], 0.0])
        poses.append(Pose.from_matrix(np.column_stack([turn @ rotation, turn @ offset + [0.0, 0.0, d.height_m]])))
    return poses


class CrossViewBatches:
    """Batches for `CrossViewObjective`: B videos, video i belonging to tile i, and perhaps more tiles that belong to none.

    A batch has images (B, N, h, w, 3) uint8, sampling_px (B, N, S, S, 2), visible (B, N, S, S), tiles (M, t, t, 3) uint8, cells (B, 2) the
    true shift as (row, column), negative (M, B) which tile is wrong for which video, image_jitter (B, 6) and tile_jitter (M, 6).
    """

    @dataclass(frozen=True)
    class Config:
        """What is drawn at random; noise is of what the robot believes, never of the truth that the tiles are cut at."""

        batch_size: int = 16
        frames: FrameChoice = FrameChoice()
        drop_frame: float = 0.15  # share of earlier frames that are left out
        listed_tiles: bool = False  # the tiles of the published list; else cut at random around the query
        max_offset_m: float = 8.0  # of the query from the tile's centre, along each axis
        extra_tiles: int = 0  # near the videos, but not theirs
        group_size: int = 4  # videos of one neighbourhood; 1: from anywhere
        group_radius_m: float = 120.0
        min_separation_m: float = 15.0
        negative_margin_m: float = 4.0  # beyond the shifts that are searched; nearer tiles are neither right nor wrong
        rotate: bool = True
        mirror: bool = True
        heading_noise_deg: float = 2.0  # standard deviations
        scale_noise: float = 0.03
        tilt_noise_deg: float = 0.4
        height_noise_m: float = 0.03
        image_jitter: float = 0.2
        tile_jitter: float = 0.2
        seed: int = 0

        def __post_init__(self) -> None:
            if self.batch_size < 2 or not 1 <= self.group_size <= self.batch_size:
                raise ConfigError(f"batch_size {self.batch_size} must be at least 2, and group_size {self.group_size} from 1 to it")
            sizes = (self.max_offset_m, self.min_separation_m, self.image_jitter, self.tile_jitter, self.extra_tiles)
            if not 0 <= self.drop_frame < 1 or min(sizes) < 0:
                raise ConfigError("drop_frame must be in [0, 1); offsets, separation, jitter and extra_tiles not negative")

    def __init__(self, config: Config, grid: OverheadGrid, tile_px: int, drives: Sequence[CachedDrive]) -> None:
        """Nothing is read yet.

        Raises:
            DataError: no drives, or `listed_tiles` without a list.
        """
        if not drives:
            raise DataError("there is no drive to train on")
        missing = [drive.name for drive in drives if config.listed_tiles and drive.tile_centres_m is None]
        if missing:
            raise DataError(f"{missing[0]}: no list gives tiles to its images; set samples.listed_tiles=false")
        self.config, self.grid, self.tile_px, self.drives = config, grid, tile_px, tuple(drives)
        self._travelled = [drive.travelled_m for drive in drives]
        self._places = Places(drives)

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number`, on the CPU."""
        c, rng = self.config, np.random.default_rng([self.config.seed, 31, number])
        turn = float(rng.uniform(-np.pi, np.pi)) if c.rotate else 0.0
        chosen = self._places.choose(c.batch_size, c.group_size, c.group_radius_m, c.min_separation_m, rng)
        videos = [self._video(place, turn, rng) for place in chosen]
        centres = np.stack([self._tile_centre(place, turn, rng) for place in chosen])
        beside = rng.choice(chosen, c.extra_tiles)
        around = np.concatenate([chosen, beside])
        centres = np.concatenate([centres, self._places.positions_m[beside] + self._beside(rng)])
        tiles = np.stack([self._tile(place, centre, turn) for place, centre in zip(around, centres, strict=True)])
        offsets = _turned(self._places.positions_m[chosen][None] - centres[:, None], turn)  # (tiles, videos, 2)
        own = offsets[np.arange(len(chosen)), np.arange(len(chosen))]
        r, mpc = self.grid.shift_cells, self.grid.metres_per_cell
        batch = {
            "images": np.stack([video[0] for video in videos]),
            "sampling_px": np.stack([video[1] for video in videos]),
            "visible": np.stack([video[2] for video in videos]),
            "tiles": tiles,
            "cells": np.column_stack([r - own[:, 1] / mpc, r + own[:, 0] / mpc]).astype(np.float32),
            "negative": self._wrong(offsets, self._places.world[around], self._places.world[chosen]),
            "image_jitter": _jitter(c.image_jitter, len(chosen), rng),
            "tile_jitter": _jitter(c.tile_jitter, len(around), rng),
        }
        if c.mirror and rng.random() < 0.5:
            batch = mirrored(batch, self.grid)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.items()}

    def _video(self, place: int, turn_rad: float, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
        c, k = self.config, int(self._places.drive[place])
        spacing = float(rng.uniform(*c.frames.spacing_m))
        kept = c.frames.choose(self._travelled[k], int(self._places.image[place]), spacing)
        kept = [i for i in kept if i == kept[0] or rng.random() >= c.drop_frame]
        noise = Disturbance(
            turn_rad=turn_rad,
            heading_rad=float(rng.normal(0.0, np.radians(c.heading_noise_deg))),
            scale=float(1.0 + rng.normal(0.0, c.scale_noise)),
            tilt_rad=rng.normal(0.0, np.radians(c.tilt_noise_deg), (len(kept), 2)),
            height_m=float(rng.normal(0.0, c.height_noise_m)),
        )
        return video(self.drives[k], kept, c.frames, self.grid, noise)

    def _tile_centre(self, place: int, turn_rad: float, rng: np.random.Generator) -> Array:
        """In the map; the offset is drawn along the tile's own axes, which are turned."""
        offset = rng.uniform(-self.config.max_offset_m, self.config.max_offset_m, 2)
        if self.config.listed_tiles:
            return self._places.tile_centre_m[place]
        return self._places.positions_m[place] - _turned(offset, -turn_rad)

    def _tile(self, place: int, centre_m: Array, turn_rad: float) -> NDArray[np.uint8]:
        imagery = self.drives[int(self._places.drive[place])].imagery
        # what points up in the turned scene is the direction that the turn brings to north
        heading = np.pi / 2 - turn_rad if self.config.rotate else None
        return imagery.crop(centre_m, self.tile_px, self.grid.coverage_m / self.tile_px, heading)[0]

    def _beside(self, rng: np.random.Generator) -> Array:
        """(extra_tiles, 2) m, from just out of reach to the next streets."""
        angle = rng.uniform(-np.pi, np.pi, self.config.extra_tiles)
        radius = self._reach_m + rng.uniform(0.0, self.config.group_radius_m / 2, self.config.extra_tiles)
        return np.asarray(radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]))

    @property
    def _reach_m(self) -> float:
        """A tile further away along an axis is wrong."""
        searched = (self.grid.shift_cells + 0.5) * self.grid.metres_per_cell
        return max(searched, self.config.max_offset_m) + self.config.negative_margin_m

    def _wrong(self, offsets_m: Array, tile_worlds: NDArray[np.intp], video_worlds: NDArray[np.intp]) -> NDArray[np.bool_]:
        away = np.abs(offsets_m).max(axis=2) > self._reach_m
        away |= tile_worlds[:, None] != video_worlds[None]
        away[np.arange(len(video_worlds)), np.arange(len(video_worlds))] = False
        return away


class Places:
    """All queries of all drives in one table.

    Attributes:
        drive, image: (Q,) which image of which drive; world: (Q,) the same for drives that share their imagery.
        positions_m: (Q, 2) east and north; tile_centre_m: (Q, 2) of the list, or NaN.
    """

    def __init__(self, drives: Sequence[CachedDrive]) -> None:
        worlds = {key: i for i, key in enumerate(dict.fromkeys(id(drive.imagery) for drive in drives))}
        self.drive = np.concatenate([np.full(len(d.queries), i) for i, d in enumerate(drives)])
        self.image = np.concatenate([d.queries for d in drives]).astype(np.intp)
        self.world = np.concatenate([np.full(len(d.queries), worlds[id(d.imagery)]) for d in drives])
        self.positions_m = np.concatenate([d.map_from_base[d.queries, :2, 3] for d in drives])
        listed = [np.full((len(d.queries), 2), np.nan) if d.tile_centres_m is None else d.tile_centres_m for d in drives]
        self.tile_centre_m = np.concatenate(listed)
        self._weight = np.concatenate([_spread(d.travelled_m[d.queries]) for d in drives])

    def __len__(self) -> int:
        return len(self.drive)

    def choose(self, count: int, group_size: int, radius_m: float, separation_m: float, rng: np.random.Generator) -> NDArray[np.intp]:
        """(count,) rows, evenly over the way driven, in groups of neighbours; at least `separation_m` apart while there is room."""
        chosen: list[int] = []
        free = np.ones(len(self), dtype=bool)
        while len(chosen) < count:
            if not free.any():  # a place too small for the batch: the loss leaves out pairs that are too near
                free[:] = True
            anchor = self._draw(free, rng)
            near = free & (self.world == self.world[anchor])
            near &= np.abs(self.positions_m - self.positions_m[anchor]).max(axis=1) < radius_m
            for k in range(min(group_size, count - len(chosen))):
                if k and not near.any():
                    break
                row = self._draw(near, rng) if k else anchor
                chosen.append(row)
                taken = (self.world == self.world[row]) & (
                    np.linalg.norm(self.positions_m - self.positions_m[row], axis=1) <= separation_m
                )
                free &= ~taken
                near &= ~taken
        return np.array(chosen, dtype=np.intp)

    def _draw(self, allowed: NDArray[np.bool_], rng: np.random.Generator) -> int:
        total = np.cumsum(self._weight * allowed)
        return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def video(
    drive: CachedDrive, chosen: Sequence[int], frames: FrameChoice, grid: OverheadGrid, disturbance: Disturbance | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """Images (N, h, w, 3), where they see the cells (N, S, S, 2) and whether (N, S, S); zeros and False fill up to N frames."""
    n, s = frames.frames, grid.cells
    images = np.zeros((n, *drive.images.shape[1:]), np.uint8)
    sampling, visible = np.zeros((n, s, s, 2), np.float32), np.zeros((n, s, s), bool)
    poses = relative_poses(drive.map_from_base[list(chosen)], frames.known_tilt, disturbance)
    for k, (i, query_from_base) in enumerate(zip(chosen, poses, strict=True)):
        images[k] = drive.images[i]
        sampling[k], visible[k] = project_overhead(grid, drive.camera, drive.base_from_camera, query_from_base)
        column, row = np.floor(sampling[k]).astype(np.intp).transpose(2, 0, 1)
        visible[k] &= drive.mask[row.clip(max=drive.mask.shape[0] - 1), column.clip(max=drive.mask.shape[1] - 1)]
    return images, sampling, visible


def mirrored(batch: dict[str, NDArray], grid: OverheadGrid) -> dict[str, NDArray]:
    """The same scenes with east and west exchanged."""
    width = batch["images"].shape[3]
    sampling = batch["sampling_px"][:, :, :, ::-1] * np.float32([-1.0, 1.0]) + np.float32([width, 0.0])
    cells = np.column_stack([batch["cells"][:, 0], grid.num_shifts - 1 - batch["cells"][:, 1]])
    return {
        **batch,
        "images": batch["images"][:, :, :, ::-1],
        "sampling_px": sampling,
        "visible": batch["visible"][:, :, :, ::-1],
        "tiles": batch["tiles"][:, :, ::-1],
        "cells": cells,
    }


def _jitter(size: float, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    spread = size * np.array([0.5, 1.0, 1.5, 0.35, 0.35, 0.35])
    return (rng.uniform(-1.0, 1.0, (count, NUM_JITTERS)) * spread).astype(np.float32)


def _turned(offsets_m: Array, angle_rad: float) -> Array:
    """(..., 2) turned counter-clockwise."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return offsets_m @ np.array([[c, s], [-s, c]])


def _spread(travelled_m: Array) -> Array:
    """(Q,) m of the way that each query stands for, so that a vehicle that waits is not seen more often."""
    gaps = np.clip(np.diff(travelled_m), 0.0, 10.0)
    return np.convolve(gaps, [0.5, 0.5]) + 1e-3 if len(gaps) else np.ones(1)
