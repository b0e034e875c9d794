"""How a map is built."""

from __future__ import annotations

from dataclasses import dataclass, field

from ros2_loc.mapping.adjustment import AdjustmentConfig
from ros2_loc.retrieval.index import IndexConfig


@dataclass(frozen=True)
class PairsConfig:
    """Which images are matched with which: the union of neighbours in time, in pose and in appearance."""

    sequence_window: int = 4
    pose_neighbours: int = 4
    pose_max_distance_m: float = 15.0
    pose_max_angle_deg: float = 60.0
    retrieval_neighbours: int = 10  # only where poses are not known


@dataclass(frozen=True)
class MappingConfig:
    """Matching, triangulation, adjustment, the index of places."""

    pairs: PairsConfig = field(default_factory=PairsConfig)
    adjustment: AdjustmentConfig = field(default_factory=AdjustmentConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    max_epipolar_px: float = 12.0  # first round; the given poses' own errors are in it
    refined_epipolar_px: float = 2.5  # second round, with adjusted poses
    min_matches: int = 12
    min_triangulation_deg: float = 0.4
    max_reprojection_px: float = 3.0
    calibration_images: int = 150  # images left out in turn to measure the map's own errors
    thumbnail_width_px: int = 320
