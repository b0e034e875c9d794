"""A recording through the pipeline without ROS: the localizer and the fusion on every image, in order, none left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, PoseEstimate, Rejection
from ros2_loc.errors import DataError
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


class OverTiles:
    """Cross-view localization of a recording beside that in a map."""

    def __init__(self, localizer: CrossViewLocalizer, headings: Iterable[tuple[int, float, float]], map_from_tiles: Pose) -> None:
        """
        Args:
            localizer: a fresh one.
            headings: (stamp_ns, yaw_rad with 0 = east, sigma_rad), in order of time.
            map_from_tiles: the tiles' east-north-up frame in that of the map.
        """
        self._localizer, self._map_from_tiles = localizer, map_from_tiles
        self._headings = deque(headings)

    def localize(self, frame: Frame, odom_from_base: Pose | None) -> PoseEstimate | Rejection | None:
        """The next image, after the headings before it: the pose in the map, why there is none, or None where the tiles were not asked."""
        if odom_from_base is not None:
            self._localizer.add_odometry(frame.stamp_ns, odom_from_base)
        while self._headings and self._headings[0][0] <= frame.stamp_ns:
            self._localizer.add_heading(*self._headings.popleft())
        result = self._localizer.localize(frame).result
        return in_map(result, self._map_from_tiles) if isinstance(result, PoseEstimate) else result


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

    Raises:
        DataError: an image that can't be read, or features of it that can't be used; it is named.
    """
    for i in range(len(sequence)):
        stamp_ns, odom_from_base = int(sequence.stamps_ns[i]), sequence.odom_from_base[i]
        if odom_from_base is not None:
            fusion.add_odometry(stamp_ns, odom_from_base)
        fusion.advance(stamp_ns)
        predicted = fusion.at(stamp_ns) if prior == "fusion" and fusion.state is FusionState.TRACKING else None
        frame = sequence.frame(i)
        try:
            localization = localizer.localize(frame, predicted)
        except DataError as error:
            raise DataError(f"{sequence.names[i]}: {error}") from error
        result = localization.result
        gate = fusion.add_estimate(result) if isinstance(result, PoseEstimate) else None
        found = None if over_tiles is None else over_tiles.localize(frame, odom_from_base)
        if isinstance(found, PoseEstimate):
            fusion.add_estimate(found)
        fused = fusion.at(stamp_ns) if fusion.state is FusionState.TRACKING else None
        yield OfflineStep(i, localization, gate, fused, fusion.state, predicted is not None, found)
