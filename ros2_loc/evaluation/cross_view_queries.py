"""Which videos a cross-view evaluation asks about: newest frames along drives, the frames before them, and their relative poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.mapping.mosaic import Mosaic, StoredMosaic

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class AreaDrive:
    """Images with true poses in the frame of an area's tiles; `queries`: indices of those that may be asked about, None: all."""

    name: str
    sequence: ImageSequence
    queries: NDArray[np.intp] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """A place with its tiles and drives through it; all in one ENU frame.

    Attributes:
        name: for people.
        origin: of the frame.
        imagery: from above.
        centres_m: (T, 2) of the tiles, east and north.
        spacing_m: between neighbours.
        drives: through it.
    """

    name: str
    origin: GeoOrigin
    imagery: Mosaic | StoredMosaic
    centres_m: Array
    spacing_m: float
    drives: tuple[AreaDrive, ...]

    def covers(self, point_m: Array) -> bool:
        """Whether a point (2,) lies between its tiles' centres."""
        return float(np.linalg.norm(self.centres_m - point_m, axis=1).min()) <= self.spacing_m * np.sqrt(0.5) + 0.01


@dataclass(frozen=True)
class QueryConfig:
    """Which videos are asked about.

    Attributes:
        frames: of a video, its newest included.
        frame_spacing_m: way between two of them.
        queries: over all drives, evenly along them; the same for every number of frames up to `most_frames`.
        most_frames: no query is nearer to its drive's start than a video of this many frames is long (nor than half of the drive).
        relative_poses: of the video's frames, from odometry as a robot has them, or from the truth as in the paper.
        heading_sigma_deg: standard deviation of the error of the given heading, drawn per query from `seed`.
        search_heading_deg: headings up to this far from the given one are tried, in steps of `search_step_deg`; 0: none but it.
        seed: of the errors.
    """

    frames: int = 4
    frame_spacing_m: float = 4.0
    queries: int = 500
    most_frames: int = 16
    relative_poses: Literal["odometry", "truth"] = "odometry"
    heading_sigma_deg: float = 0.0
    search_heading_deg: float = 0.0
    search_step_deg: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.frames, self.queries, self.most_frames) < 1 or min(self.frame_spacing_m, self.search_step_deg) <= 0:
            raise ConfigError(f"frames {self.frames}, queries {self.queries} and the spacing {self.frame_spacing_m} m must be positive")
        if min(self.heading_sigma_deg, self.search_heading_deg) < 0 or self.search_heading_deg > 180:
            raise ConfigError("the error of the heading and the range of its search are not negative, the range at most 180 degrees")


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One video: indices of its images in the drive, newest first, and the poses of their base_link in the query's north-up frame.

    query_from_base has the error of the given heading; `truth` is that of the newest frame, heading_error_rad given minus true.
    """

    drive: int
    images: tuple[int, ...]
    query_from_base: tuple[Pose, ...]
    truth: Pose
    heading_error_rad: float

    @property
    def yaw_rad(self) -> float:
        """True heading, 0 east, counter-clockwise."""
        return yaw_of(self.truth)

    def turned(self, angle_rad: float) -> tuple[Pose, ...]:
        """query_from_base for a heading that is larger by this angle."""
        if angle_rad == 0.0:
            return self.query_from_base
        turn = Pose(so3_exp([0.0, 0.0, angle_rad]), np.zeros(3))
        return tuple(turn @ pose for pose in self.query_from_base)


def yaw_of(pose: Pose) -> float:
    """Heading of the x axis, rad, 0 east, counter-clockwise."""
    return float(np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]))


def travelled_m(sequence: ImageSequence) -> Array:
    """(N,) true way up to each image; images without truth stay where the last one with truth was."""
    way, last, out = 0.0, None, []
    for pose in sequence.map_from_base:
        if pose is not None:
            way += 0.0 if last is None else float(np.linalg.norm(pose.translation - last.translation))
            last = pose
        out.append(way)
    return np.array(out)


def choose_queries(area: Area, config: QueryConfig, count: int) -> tuple[list[Query], int]:
    """`count` queries evenly along all drives of an area, and how many of them were left out as they lie outside of its tiles.

    Raises:
        DataError: a drive without truth, without the odometry that is asked for, or none of the queries within the tiles.
    """
    chosen, outside = [], 0
    rng = np.random.default_rng([config.seed, 31])
    for drive, image in _newest_images(area, config, count):
        sequence = area.drives[drive].sequence
        truth = sequence.map_from_base[image]
        error = np.radians(config.heading_sigma_deg) * rng.standard_normal()
        if truth is None or not area.covers(truth.translation[:2]):
            outside += 1
            continue
        images = frames_before(travelled_m(sequence), image, config.frames, config.frame_spacing_m)
        poses = relative_poses(sequence, images, config.relative_poses, area.drives[drive].name)
        chosen.append(Query(drive, images, _in_query_frame(poses, truth, float(error)), truth, float(error)))
    if not chosen:
        raise DataError(f"{area.name}: none of {outside} queries lies between its tiles; give tiles of the place of the drives")
    return chosen, outside


def _newest_images(area: Area, config: QueryConfig, count: int) -> list[tuple[int, int]]:
    """(drive, image), evenly by way along the drives one after the other, or evenly among those that a drive allows."""
    allowed = [(d, int(i)) for d, drive in enumerate(area.drives) if drive.queries is not None for i in drive.queries]
    if allowed:
        return [allowed[k] for k in np.unique(np.linspace(0, len(allowed) - 1, min(count, len(allowed))).astype(int))]
    ways = [travelled_m(drive.sequence) for drive in area.drives]
    starts = [min((config.most_frames - 1) * config.frame_spacing_m, 0.5 * float(way[-1])) for way in ways]
    lengths = [float(way[-1]) - start for way, start in zip(ways, starts, strict=True)]
    ends = np.cumsum(lengths)
    if ends[-1] <= 0:
        raise DataError(f"{area.name}: its drives have no truth, or stand still: give drives with true poses")
    at = (np.arange(count) + 0.5) / count * ends[-1]
    drives = np.searchsorted(ends, at, side="right")
    along = at - np.concatenate([[0.0], ends])[drives]
    picked = [(int(d), int(np.searchsorted(ways[d], starts[d] + a))) for d, a in zip(drives, along, strict=True)]
    return list(dict.fromkeys(picked))


def frames_before(way_m: Array, newest: int, frames: int, spacing_m: float) -> tuple[int, ...]:
    """Indices of a video's images, newest first, each at least `spacing_m` of way before the one after it; fewer near the start."""
    chosen = [newest]
    while len(chosen) < frames:
        older = int(np.searchsorted(way_m, way_m[newest] - len(chosen) * spacing_m + 1e-6, side="right")) - 1
        if older < 0 or older >= chosen[-1]:
            break
        chosen.append(older)
    return tuple(chosen)


def relative_poses(sequence: ImageSequence, images: Sequence[int], source: str, name: str) -> tuple[Pose, ...]:
    """Pose of base_link at each image in base_link at the first of them.

    Raises:
        DataError: the drive does not have them.
    """
    poses = sequence.odom_from_base if source == "odometry" else sequence.map_from_base
    found = [poses[i] for i in images]
    known = [pose for pose in found if pose is not None]
    if len(known) < len(found):
        raise DataError(f"{name}: has no {source} at every image; give --relative-poses {'truth' if source == 'odometry' else 'odometry'}")
    return tuple(known[0].inverse() @ pose for pose in known)


def _in_query_frame(newest_from_base: Sequence[Pose], truth: Pose, heading_error_rad: float) -> tuple[Pose, ...]:
    upright = Pose(so3_exp([0.0, 0.0, heading_error_rad]) @ truth.rotation, np.zeros(3))
    return tuple(upright @ pose for pose in newest_from_base)
