"""What several localizers said along one drive, brought together for a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ros2_loc.evaluation.records import FrameResult
from ros2_loc.evaluation.stretches import Intervals, inside
from ros2_loc.io.trajectories import Trajectory
from ros2_loc.mapping.shared_frame import map_from_tiles
from ros2_loc.mapping.sparse_map import MapFrame
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.visualization.localizers import LocalizersView

Array = NDArray[np.float64]


def localizers_view(
    tiles: TileDatabase, frame: MapFrame, said: Mapping[str, Sequence[FrameResult]], truth: Trajectory, off: Intervals
) -> LocalizersView:
    """What the localizers said on the imagery of the tiles.

    Args:
        tiles: of the place.
        frame: of the map.
        said: frames of `map_localizer`, `cross_view_localizer` and `pose_fusion`; any may be missing.
        truth: of the drive, map_from_base.
        off: `stretches.off_the_map`.
    """
    west, south, east, north = tiles.bounds_m
    metres_per_px, half_m = tiles.mosaic.metres_per_px, max(east - west, north - south) / 2
    middle = ((west + east) / 2, (south + north) / 2)
    imagery, _ = tiles.mosaic.crop(middle, round(2 * half_m / metres_per_px), metres_per_px)
    tiles_from_map = map_from_tiles(frame, tiles).inverse()
    over_tiles_m, covariances_m2 = _poses(said.get("cross_view_localizer", ()))
    return LocalizersView(
        imagery=imagery,
        imagery_from_map=np.column_stack([tiles_from_map.rotation[:2, :2], tiles_from_map.translation[:2]]),
        bounds_m=(middle[0] - half_m, middle[1] - half_m, middle[0] + half_m, middle[1] + half_m),
        truth_m=np.array([pose.translation[:2] for pose in truth.poses]),
        off_map=inside(truth.stamps_ns, off),
        places_m=frame.places_m[:, :2],
        map_poses_m=_poses(said.get("map_localizer", ()))[0],
        tile_poses_m=over_tiles_m,
        tile_covariances_m2=covariances_m2,
        fused_m=_poses(said.get("pose_fusion", ()))[0],
    )


def _poses(frames: Sequence[FrameResult]) -> tuple[Array, Array]:
    """(N, 2) m and (N, 2, 2) m^2."""
    estimates = [f.estimate for f in frames if f.estimate is not None]
    at_m = np.array([e.map_from_base.translation[:2] for e in estimates]).reshape(-1, 2)
    return at_m, np.array([e.covariance[:2, :2] for e in estimates]).reshape(-1, 2, 2)
