"""A visual map and satellite tiles of one place, brought into one frame by where both lie on the earth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from ros2_loc.core.geodesy import earth_from_enu
from ros2_loc.core.pose import Pose, transport_to_left
from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import ConfigError
from ros2_loc.mapping.sparse_map import MapFrame
from ros2_loc.mapping.tile_database import TileDatabase


def map_from_tiles(frame: MapFrame, tiles: TileDatabase) -> Pose:
    """The tiles' east-north-up frame in that of a map; their origins need not be the same.

    Imagery knows no heights: the plane of the tiles is put through the ground of the map's places (their median), whatever altitude the
    tiles' origin states.

    Raises:
        ConfigError: the map is not georeferenced, or none of its places lies on the tiles.
    """
    if frame.origin is None:
        raise ConfigError(f"{frame.folder}: is not georeferenced, so tiles can't lie in its frame: map a recording with GNSS")
    exact = frame.enu_from_map.inverse() @ earth_from_enu(frame.origin).inverse() @ earth_from_enu(tiles.origin)
    on_tiles = exact.inverse().apply(frame.places_m)
    if not tiles.covers(on_tiles[:, :2]).any():
        away_m = float(cKDTree(tiles.centres_m).query(on_tiles[:, :2])[0].min())
        what = f"none of its places lies on the tiles, the nearest is {away_m:.0f} m off"
        raise ConfigError(f"{frame.folder}: {what}: give tiles of its place")
    below = exact.apply(on_tiles * [1.0, 1.0, 0.0])
    rise_m = float(np.median(frame.places_m[:, 2] - below[:, 2]))
    return Pose(exact.rotation, exact.translation + np.array([0.0, 0.0, rise_m]))


def in_map(estimate: PoseEstimate, map_from_tiles: Pose) -> PoseEstimate:
    """A pose that was found in the tiles' frame, in that of the map."""
    covariance = transport_to_left(Pose(map_from_tiles.rotation, np.zeros(3)), estimate.covariance)
    return replace(estimate, map_from_base=map_from_tiles @ estimate.map_from_base, covariance=0.5 * (covariance + covariance.T))
