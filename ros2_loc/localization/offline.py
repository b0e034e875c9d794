"""A recording through the pipeline without ROS: the localizer and the fusion on every image, in order, none left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate, Rejection
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.cross_view_localizer import CrossViewLocalizer
from ros2_loc.localization.fusion import FusionState, GateResult, PoseFusion
from ros2_loc.localization.map_localizer import Localization, MapLocalizer
from ros2_loc.mapping.shared_frame import in_map

Prior = Literal["fusion", "none"]


@dataclass(frozen=True, slots=True, eq=False)
class OfflineStep:
    """One image.

    Attributes:
        index: in the sequence.
        localization: of the image alone (with the fusion's prediction as the prior, where that was asked for).
        gate: what the fusion said to its pose; None without a pose or without fusion.
        fused: the fused pose at the image's stamp in TRACKING, else None.
        state: of the fusion after this image.
        tracked: a prior was given.
        over_tiles: of cross-view localization, in the map's frame; None where the tiles were not asked.
    """

    index: int
    localization: Localization
    gate: GateResult | None
    fused: PoseEstimate | None
    state: FusionState
    tracked: bool
    over_tiles: PoseEstimate | Rejection | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OverTiles:
    """Cross-view localization beside the map.

    Attributes:
        localizer: a fresh one.
        headings: (stamp_ns, yaw_rad with 0 = east, sigma_rad), in order of time.
        map_from_tiles: the tiles' east-north-up frame in that of the map.
    """

    localizer: CrossViewLocalizer
    headings: Sequence[tuple[int, float, float]]
    map_from_tiles: Pose


def localize_offline(
    sequence: ImageSequence,
    localizer: MapLocalizer,
    fusion: PoseFusion,
    prior: Prior = "fusion",
    over_tiles: OverTiles | None = None,
) -> Iterator[OfflineStep]:
    """Localize the images one after another, as the nodes do, but each one, however long it takes.

    Args:
        sequence: images, with odometry where it has any.
        localizer: on the map.
        fusion: a fresh one.
        prior: "fusion": in TRACKING places near the predicted pose are tried first; "none": every image from itself alone.
        over_tiles: satellite tiles are asked as well, and fused.
    """
    headings = iter(over_tiles.headings if over_tiles else ())
    heading = next(headings, None)
    for i in range(len(sequence)):
        stamp_ns, odom_from_base = int(sequence.stamps_ns[i]), sequence.odom_from_base[i]
        if odom_from_base is not None:
            fusion.add_odometry(stamp_ns, odom_from_base)
        fusion.advance(stamp_ns)
        predicted = fusion.at(stamp_ns) if prior == "fusion" and fusion.state is FusionState.TRACKING else None
        localization = localizer.localize(sequence.frame(i), predicted)
        result = localization.result
        gate = fusion.add_estimate(result) if isinstance(result, PoseEstimate) else None
        found: PoseEstimate | Rejection | None = None
        if over_tiles is not None:
            while heading is not None and heading[0] <= stamp_ns:
                over_tiles.localizer.add_heading(*heading)
                heading = next(headings, None)
            found = over_tiles.localizer.localize(sequence.frame(i)).result
            if isinstance(found, PoseEstimate):
                found = in_map(found, over_tiles.map_from_tiles)
                fusion.add_estimate(found)
        fused = fusion.at(stamp_ns) if fusion.state is FusionState.TRACKING else None
        yield OfflineStep(i, localization, gate, fused, fusion.state, predicted is not None, found)
