"""North, as a compass says it, carried by odometry: between its measurements, and to make one steady heading of many noisy ones."""

from __future__ import annotations

import math
from bisect import insort

import numpy as np

from ros2_loc.errors import DataError
from ros2_loc.localization.odometry_buffer import OdometryBuffer

_EVERY_NS = 50_000_000
_AHEAD_NS = 500_000_000


class HeadingBuffer:
    """The measured yaws (0 = east, counter-clockwise) of the last seconds."""

    def __init__(self, window_s: float, max_sigma_rad: float) -> None:
        """Args:
        window_s: over which the differences to the odometry's yaw are averaged, and how old the newest may be.
        max_sigma_rad: headings that claim a larger error are none.
        """
        self._window_ns, self._max_sigma_rad = round(window_s * 1e9), max_sigma_rad
        self._samples: list[tuple[int, float]] = []
        self._differences: dict[int, float] = {}  # to the odometry, of the samples that it covers

    def __len__(self) -> int:
        return len(self._samples)

    def clear(self) -> None:
        """Forgets all headings."""
        self._samples, self._differences = [], {}

    def add(self, stamp_ns: int, yaw_rad: float, sigma_rad: float) -> bool:
        """Takes a heading; False: its error is too large for the range that the filter searches.

        Raises:
            DataError: not a number.
        """
        if not (math.isfinite(yaw_rad) and math.isfinite(sigma_rad)):
            raise DataError(f"heading: yaw {yaw_rad} rad with sigma {sigma_rad} rad is none: check the Imu's orientation")
        if sigma_rad > self._max_sigma_rad:
            return False
        newest = self._samples[-1][0] if self._samples else None
        if newest is None or stamp_ns < newest or stamp_ns - newest >= _EVERY_NS:
            insort(self._samples, (stamp_ns, yaw_rad))
            oldest = self._samples[-1][0] - 2 * self._window_ns
            self._samples = [s for s in self._samples if s[0] >= oldest]
            self._differences = {stamp: d for stamp, d in self._differences.items() if stamp >= oldest}
        return True

    def offset_rad(self, stamp_ns: int, odometry: OdometryBuffer) -> float | None:
        """True yaw minus the odometry's at a stamp, as measured; the yaw itself where there is no odometry. None: nothing new enough."""
        near = [s for s in self._samples if -_AHEAD_NS <= stamp_ns - s[0] <= self._window_ns]
        if not near:
            return None
        if not len(odometry):
            return min(near, key=lambda s: abs(s[0] - stamp_ns))[1]
        differences = np.array([self._difference_rad(stamp, yaw, odometry) for stamp, yaw in near])
        return math.atan2(float(np.sin(differences).mean()), float(np.cos(differences).mean()))

    def _difference_rad(self, stamp_ns: int, yaw_rad: float, odometry: OdometryBuffer) -> float:
        known = self._differences.get(stamp_ns)
        if known is not None:
            return known
        difference = yaw_rad - odometry_yaw_rad(odometry, stamp_ns)
        if stamp_ns <= (odometry.newest_ns or 0):
            self._differences[stamp_ns] = difference
        return difference


def odometry_yaw_rad(odometry: OdometryBuffer, stamp_ns: int) -> float:
    """Yaw of base_link in the odom frame, 0 where there is no odometry."""
    pose = odometry.odom_from_base(stamp_ns)
    return 0.0 if pose is None else pose.yaw_rad
