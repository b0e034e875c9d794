"""What is believed about the pose before an image is looked at: the fused pose nearest to its stamp, less certain with the time between."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from ros2_loc.core.types import PoseEstimate


class PriorKeeper:
    """The poses of the last moments. One thread offers, another asks."""

    def __init__(self, max_age_s: float, speed_m_s: float, turn_rad_s: float) -> None:
        """
        Args:
            max_age_s: a pose further from the image's stamp than this is no prior.
            speed_m_s, turn_rad_s: how fast the base may have moved meanwhile: one standard deviation.
        """
        self._max_age_s, self._speed_m_s, self._turn_rad_s = max_age_s, speed_m_s, turn_rad_s
        self._poses: deque[PoseEstimate] = deque(maxlen=200)
        self._lock = threading.Lock()

    def offer(self, estimate: PoseEstimate) -> None:
        """Take a pose; one that is older than the newest by more than the greatest age starts a new time."""
        with self._lock:
            if self._poses and estimate.stamp_ns < self._poses[-1].stamp_ns - self._max_age_s * 1e9:
                self._poses.clear()
            self._poses.append(estimate)

    def forget(self) -> None:
        """Know nothing any more."""
        with self._lock:
            self._poses.clear()

    def at(self, stamp_ns: int) -> PoseEstimate | None:
        """The prior for an image of that stamp, or None."""
        with self._lock:
            nearest = min(self._poses, key=lambda pose: abs(pose.stamp_ns - stamp_ns), default=None)
        if nearest is None:
            return None
        apart_s = abs(nearest.stamp_ns - stamp_ns) * 1e-9
        if apart_s > self._max_age_s:
            return None
        grown = np.diag([(self._speed_m_s * apart_s) ** 2] * 3 + [(self._turn_rad_s * apart_s) ** 2] * 3)
        return PoseEstimate(stamp_ns, nearest.map_from_base, nearest.covariance + grown, nearest.num_inliers, nearest.source)
