"""A recording through the pipeline without ROS: the localizer and the fusion on every image, in order, none left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ros2_loc.core.types import PoseEstimate
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.fusion import FusionState, GateResult, PoseFusion
from ros2_loc.localization.map_localizer import Localization, MapLocalizer

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
    """

    index: int
    localization: Localization
    gate: GateResult | None
    fused: PoseEstimate | None
    state: FusionState
    tracked: bool


def localize_offline(
    sequence: ImageSequence, localizer: MapLocalizer, fusion: PoseFusion, prior: Prior = "fusion"
) -> Iterator[OfflineStep]:
    """Localize the images one after another, as the nodes do, but each one, however long it takes.

    Args:
        sequence: images, with odometry where it has any.
        localizer: on the map.
        fusion: a fresh one.
        prior: "fusion": in TRACKING places near the predicted pose are tried first; "none": every image from itself alone.
    """
    for i in range(len(sequence)):
        stamp_ns, odom_from_base = int(sequence.stamps_ns[i]), sequence.odom_from_base[i]
        if odom_from_base is not None:
            fusion.add_odometry(stamp_ns, odom_from_base)
        fusion.advance(stamp_ns)
        predicted = fusion.at(stamp_ns) if prior == "fusion" and fusion.state is FusionState.TRACKING else None
        localization = localizer.localize(sequence.frame(i), predicted)
        result = localization.result
        gate = fusion.add_estimate(result) if isinstance(result, PoseEstimate) else None
        fused = fusion.at(stamp_ns) if fusion.state is FusionState.TRACKING else None
        yield OfflineStep(i, localization, gate, fused, fusion.state, predicted is not None)
