"""Runs of the cross-view filter: from "anywhere in the area" along a drive, with odometry and a heading that are wrong in known ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, GroundFeatures, OverheadDescriptor, PoseEstimate, Rejection, TileDescriptors
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import cross_view_metrics as cv
from ros2_loc.evaluation.cross_view import Stopwatch, encode_area
from ros2_loc.evaluation.cross_view_queries import Area, AreaDrive, travelled_m, yaw_of
from ros2_loc.evaluation.cross_view_records import FilterCondition, FilterRun
from ros2_loc.localization.belief_view import BeliefView
from ros2_loc.localization.cross_view_localizer import CrossViewLocalizer
from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig
from ros2_loc.localization.filter_calibration import ScoreSample, fit_filter, sample_scores
from ros2_loc.localization.tile_filter import TileFilter
from ros2_loc.mapping.tile_database import TileDatabase


@dataclass(frozen=True, slots=True)
class Condition:
    """What is wrong with what the robot measures.

    Attributes:
        label: for people.
        scale: of every step of the odometry.
        heading_deg: added to the measured heading.
    """

    label: str
    scale: float = 1.0
    heading_deg: float = 0.0


CONDITIONS = (
    Condition("as measured"),
    Condition("odometry 5 % long", scale=1.05),
    Condition("odometry 5 % short", scale=0.95),
    Condition("heading +5 deg", heading_deg=5.0),
    Condition("heading -5 deg", heading_deg=-5.0),
)


@dataclass(frozen=True)
class FilterRunsConfig:
    """How runs are made.

    Attributes:
        runs: per condition; the same places in each.
        length_m: of a run; drives must be longer.
        heading_offset_deg: standard deviation of a heading error that a run keeps, as of a compass beside iron.
        heading_noise_deg: of one that changes with every measurement.
        heading_sigma_deg: what the robot is told.
        seed: of places and errors.
    """

    runs: int = 20
    length_m: float = 205.0
    heading_offset_deg: float = 1.5
    heading_noise_deg: float = 1.0
    heading_sigma_deg: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runs < 1 or self.length_m <= 0:
            raise ConfigError(f"{self.runs} runs of {self.length_m} m: at least one run, of some length")


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What a run believed at one frame: for pictures."""

    travelled_m: float
    truth: Pose
    belief: BeliefView
    result: PoseEstimate | Rejection


Watch = Callable[[Condition, int, Moment], None]


class RememberingEncoder:
    """An encoder that puts no image through its backbone twice: runs under several conditions see the same drive."""

    def __init__(self, encoder: CrossViewEncoder) -> None:
        self._encoder, self._features = encoder, dict[tuple[str, int], GroundFeatures]()
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.grid, self.tile_px = encoder.grid, encoder.tile_px
        self.drive = ""

    def encode_tiles(self, images: NDArray[np.uint8]) -> TileDescriptors:
        """As of the encoder."""
        return self._encoder.encode_tiles(images)

    def encode_frame(self, frame: Frame) -> GroundFeatures:
        """Those of the same drive and stamp, when they are known."""
        key = (self.drive, frame.stamp_ns)
        if key not in self._features:
            self._features[key] = self._encoder.encode_frame(frame)
        return self._features[key]

    def describe(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Pose]) -> OverheadDescriptor:
        """As of the encoder."""
        return self._encoder.describe(features, query_from_base)

    def describe_many(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Sequence[Pose]]) -> list[OverheadDescriptor]:
        """As of the encoder."""
        return self._encoder.describe_many(features, query_from_base)


def filter_runs(
    areas: Sequence[Area],
    encoder: CrossViewEncoder,
    pipeline: CrossViewPipelineConfig,
    config: FilterRunsConfig,
    conditions: Sequence[Condition] = CONDITIONS,
    watch: Watch | None = None,
    show_progress: bool = False,
) -> tuple[FilterCondition, ...]:
    """All runs under all conditions, spread evenly over the areas.

    Args:
        watch: called with condition, number of the run, and moment, at every frame that was judged.

    Raises:
        DataError: no drive is long enough, or one has no odometry.
    """
    remembering = RememberingEncoder(encoder)
    found: dict[str, list[FilterRun]] = {c.label: [] for c in conditions}
    bar = tqdm(total=config.runs * len(conditions), desc=" runs", disable=not show_progress, leave=False, dynamic_ncols=True)
    for number, area in enumerate(areas):
        starts = choose_starts(area, config, _part(config.runs, len(areas), number), number)
        tiles = encoded_tiles(area, encoder, show_progress)
        for condition in conditions:
            for k, (drive, start) in enumerate(starts):
                remembering.drive = f"{number}/{drive}"
                rng = np.random.default_rng([config.seed, 47, number, k])
                localizer = CrossViewLocalizer(pipeline, tiles, remembering)
                seen = None if watch is None else _watcher(watch, condition, len(found[condition.label]))
                found[condition.label].append(one_run(localizer, area.drives[drive], start, condition, config, rng, seen))
                bar.update(1)
    bar.close()
    return tuple(FilterCondition(label, tuple(runs)) for label, runs in found.items())


def fitted_filter(
    areas: Sequence[Area], encoder: CrossViewEncoder, pipeline: CrossViewPipelineConfig, show_progress: bool = False
) -> tuple[TileFilter.Config, tuple[ScoreSample, ...]]:
    """The pipeline's filter with what the scores of these drives say about it, and the scores of each drive.

    Raises:
        DataError: an image without odometry, or too few queries.
    """
    samples = []
    for area in areas:
        tiles = encoded_tiles(area, encoder, show_progress)
        for drive in tqdm(area.drives, desc=" drives", disable=not show_progress, leave=False, dynamic_ncols=True):
            sequence = drive.sequence
            posed = ((sequence.frame(i), pose) for i, pose in enumerate(sequence.map_from_base) if pose is not None)
            samples.append(sample_scores(posed, tiles, encoder, pipeline.localizer))
    return fit_filter(samples, pipeline.filter, pipeline.localizer), tuple(samples)


def encoded_tiles(area: Area, encoder: CrossViewEncoder, show_progress: bool) -> TileDatabase:
    """The tiles of an area as the localizer wants them."""
    layout = TileDatabase.Layout(encoder.grid.coverage_m / encoder.tile_px, encoder.tile_px, area.spacing_m)
    tiles = TileDatabase(area.origin, area.imagery, layout, area.centres_m, None, {})
    return replace(tiles, descriptors=encode_area(area, encoder, Stopwatch(), show_progress))


def choose_starts(area: Area, config: FilterRunsConfig, count: int, number: int) -> list[tuple[int, int]]:
    """(drive, first image) of runs, anywhere along the drives that leaves room for one.

    Raises:
        DataError: there is no such place.
    """
    ways = [travelled_m(drive.sequence) for drive in area.drives]
    room = np.array([max(float(way[-1]) - config.length_m, 0.0) for way in ways])
    if room.sum() <= 0:
        longest = max(float(way[-1]) for way in ways)
        raise DataError(f"{area.name}: its longest drive has {longest:.0f} m, a run takes {config.length_m:.0f}: give longer drives")
    rng = np.random.default_rng([config.seed, 46, number])
    at = np.sort(rng.uniform(0.0, room.sum(), count))
    drives = np.searchsorted(np.cumsum(room), at, side="right")
    along = at - np.concatenate([[0.0], np.cumsum(room)])[drives]
    return [(int(d), int(np.searchsorted(ways[d], a))) for d, a in zip(drives, along, strict=True)]


def one_run(
    localizer: CrossViewLocalizer,
    drive: AreaDrive,
    start: int,
    condition: Condition,
    config: FilterRunsConfig,
    rng: np.random.Generator,
    watch: Callable[[Moment], None] | None = None,
) -> FilterRun:
    """Feeds the drive's images, odometry and heading from image `start` on, and notes every answer beside the truth."""
    sequence, way = drive.sequence, travelled_m(drive.sequence)
    last = int(np.searchsorted(way, way[start] + config.length_m))
    images = range(start, min(last + 1, len(sequence)))
    odometry = distorted_odometry([sequence.odom_from_base[i] for i in images], condition.scale, drive.name)
    offset = np.radians(condition.heading_deg + config.heading_offset_deg * rng.standard_normal())
    rows: list[tuple[float, bool, float | None, float | None, float | None, float, str]] = []
    for i, odom_from_base in zip(images, odometry, strict=True):
        truth, stamp_ns = sequence.map_from_base[i], int(sequence.stamps_ns[i])
        if truth is None:
            continue
        measured = yaw_of(truth) + offset + np.radians(config.heading_noise_deg) * rng.standard_normal()
        localizer.add_odometry(stamp_ns, odom_from_base)
        localizer.add_heading(stamp_ns, float(measured), float(np.radians(config.heading_sigma_deg)))
        answer = localizer.localize(replace(sequence.frame(i), odom_from_base=odom_from_base))
        if answer.result is None:
            continue
        moment = Moment(float(way[i] - way[start]), truth, answer.belief, answer.result)
        rows.append(_judged(moment))
        if watch is not None:
            watch(moment)
    columns = zip(*rows, strict=True) if rows else ((),) * 7
    return FilterRun(drive.name, int(sequence.stamps_ns[start]), *(tuple(column) for column in columns))


def distorted_odometry(odom_from_base: Sequence[Pose | None], scale: float, drive: str) -> list[Pose]:
    """The same odometry with steps longer or shorter by a factor, from the identity on.

    Raises:
        DataError: a pose is missing.
    """
    if any(pose is None for pose in odom_from_base):
        raise DataError(f"{drive}: has images without odometry, which the filter needs: convert it with odometry, or give another drive")
    known = [pose for pose in odom_from_base if pose is not None]
    out = [Pose.identity()]
    for before, after in zip(known[:-1], known[1:], strict=True):
        step = before.inverse() @ after
        out.append(out[-1] @ Pose(step.rotation, step.translation * scale))
    return out


def _judged(moment: Moment) -> tuple[float, bool, float | None, float | None, float | None, float, str]:
    """A row of `FilterRun`: way, accepted, error, NEES, sigma, mass of the strongest mode, reason."""
    truth_m, modes = moment.truth.translation[:2], moment.belief.modes
    mass = float(modes[0].mass) if modes else 0.0
    if isinstance(moment.result, PoseEstimate):
        error = moment.result.map_from_base.translation[:2] - truth_m
        covariance = moment.result.covariance[:2, :2]
        sigma = float(np.sqrt(np.linalg.eigvalsh(covariance)[-1]))
        return moment.travelled_m, True, float(np.linalg.norm(error)), cv.position_nees(error, covariance), sigma, mass, ""
    off = float(np.hypot(modes[0].east_m - truth_m[0], modes[0].north_m - truth_m[1])) if modes else None
    return moment.travelled_m, False, off, None, None, mass, moment.result.reason.value


def _watcher(watch: Watch, condition: Condition, number: int) -> Callable[[Moment], None]:
    return lambda moment: watch(condition, number, moment)


def _part(total: int, parts: int, number: int) -> int:
    """How many of `total` things the part gets, which differ by at most one."""
    return total // parts + (number < total % parts)
