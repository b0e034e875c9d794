"""Fits the filter to an encoder: what its scores are worth, from drives whose truth is known and that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import DataError
from ros2_loc.localization.cross_view_pipeline import VideoConfig
from ros2_loc.localization.frame_buffer import BufferedFrame, FrameBuffer, video_poses
from ros2_loc.localization.score_grid import ScoreGrid
from ros2_loc.localization.tile_filter import TileFilter
from ros2_loc.localization.tile_likelihood import background, fit_independent_m, fit_likelihood, standardized
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.retrieval.tile_matching import match_tiles

Array = NDArray[np.float64]

_CELL_M = 2.0
_WRONG_M = 25.0  # nearer than this a place may score well because it looks on what the true one looks on


@dataclass(frozen=True, slots=True, eq=False)
class ScoreSample:
    """Standardized scores along one drive.

    Attributes:
        at_truth: (N,) of N queries in a row at their true positions and headings.
        elsewhere: (M, N) at M wrong places, each of which moves as the vehicle does.
    """

    at_truth: Array
    elsewhere: Array


def sample_scores(
    frames: Iterable[tuple[Frame, Pose]],
    tiles: TileDatabase,
    encoder: CrossViewEncoder,
    video: VideoConfig,
    tracks: int = 300,
    seed: int = 0,
) -> ScoreSample:
    """Compares a drive's videos, made as the localizer makes them, with all tiles.

    Args:
        frames: images with odometry, and map_from_base of each, in the tiles' frame.
        tiles: with descriptors of this encoder.
        encoder: whose scores they are.
        video: which images make a video.
        tracks: how many wrong places are tried; some leave the tiles and are left out.
        seed: of their choice.

    Raises:
        DataError: a frame without odometry, or no query on the tiles.
        ConfigError: tiles of another encoder.
    """
    tiles.require_encoder(encoder)
    assert tiles.descriptors is not None
    cells = ScoreGrid(tiles.centres_m, encoder.grid, _CELL_M, 0.0)
    low, high = tiles.centres_m.min(axis=0), tiles.centres_m.max(axis=0)
    offsets = np.random.default_rng(seed).uniform(low - high, high - low, (tracks, 2))
    offsets = np.vstack([np.zeros(2), offsets[np.hypot(*offsets.T) > _WRONG_M]])
    rows = []
    for query, truth in _videos(frames, encoder, video):
        offset_rad = truth.yaw_rad - query[0].odom_from_base.yaw_rad
        descriptor = encoder.describe([f.features for f in query], video_poses(query, offset_rad, video.use_tilt))
        scores = match_tiles(descriptor, tiles.descriptors.features, tiles.descriptors.uncertainty)
        field = cells.scores_of(cells.arranged(scores, np.arange(len(tiles))), cells.cells_in((0, 0, *cells.shape)))[0]
        z = np.where(cells.covered, standardized(field, *background(field[cells.covered])), np.nan)
        rows.append(_at(z, cells, truth.translation[:2] + offsets))
    table = np.array(rows).reshape(len(rows), len(offsets)).T
    table = table[:, np.isfinite(table[0])]
    if not table.size:
        raise DataError("no query of the drive lies on the tiles: is the truth in their frame?")
    return ScoreSample(table[0], table[1:][np.isfinite(table[1:]).all(axis=1)])


def fit_filter(samples: Sequence[ScoreSample], config: TileFilter.Config, video: VideoConfig) -> TileFilter.Config:
    """The config with a likelihood and an `independent_m` that fit the samples.

    Raises:
        DataError: too few scores.
    """
    if not samples:
        raise DataError("a filter is fitted to scores of at least one drive")
    truth = np.concatenate([s.at_truth for s in samples])
    elsewhere = np.concatenate([s.elsewhere.ravel() for s in samples])
    likelihood = fit_likelihood(truth, elsewhere, config.likelihood.max_log_ratio)
    ways = [fit_independent_m(s.elsewhere, video.query_every_m) for s in samples if len(s.elsewhere) and s.elsewhere.shape[1] >= 5]
    if not ways:
        raise DataError("the drives are too short: 5 queries in a row are needed to see how they depend on each other")
    return replace(config, likelihood=likelihood, independent_m=float(np.mean(ways)))


def _videos(
    frames: Iterable[tuple[Frame, Pose]], encoder: CrossViewEncoder, video: VideoConfig
) -> Iterable[tuple[tuple[BufferedFrame, ...], Pose]]:
    """Videos, newest image first, and the pose of that image, one every `query_every_m`."""
    buffer = FrameBuffer(video.frames, video.spacing_m, video.refresh_s)
    way_m, last, query_at_m = 0.0, None, -np.inf
    for frame, truth in frames:
        odometry = frame.odom_from_base
        if odometry is None:
            raise DataError("calibration needs odometry of every image")
        way_m += 0.0 if last is None else float(np.linalg.norm(odometry.translation - last.translation))
        last = odometry
        due = way_m - query_at_m >= video.query_every_m and len(buffer) + 1 >= video.min_frames
        if due or buffer.wants(frame.stamp_ns, way_m):
            buffer.add(BufferedFrame(frame.stamp_ns, encoder.encode_frame(frame), odometry, way_m))
        if due:
            query_at_m = way_m
            yield buffer.newest_first, truth


def _at(field: NDArray[np.float32], cells: ScoreGrid, positions_m: Array) -> Array:
    """(P,) values of a field (rows, columns) in the cells of positions (P, 2), NaN outside."""
    row, column = (np.rint(x).astype(int) for x in cells.cell_of(positions_m[:, 0], positions_m[:, 1]))
    inside = (row >= 0) & (row < cells.shape[0]) & (column >= 0) & (column < cells.shape[1])
    return np.where(inside, field[np.where(inside, row, 0), np.where(inside, column, 0)], np.nan)
