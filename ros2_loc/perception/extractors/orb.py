"""ORB by OpenCV (Rublee et al., "ORB: an efficient alternative to SIFT or SURF", ICCV 2011), for the smallest computers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.perception.extractors import opencv


class Orb:
    """256 bits as +-1/16, so that a dot product is one minus twice the normalized Hamming distance and every matcher works."""

    @dataclass(frozen=True)
    class Config:
        """Image pyramid of ORB."""

        max_keypoints: int = 2500
        scale_factor: float = 1.2
        num_levels: int = 8
        fast_threshold: int = 12

    name = "orb"
    batch_size = 1

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._detector = cv2.ORB_create(
            nfeatures=config.max_keypoints, scaleFactor=config.scale_factor, nlevels=config.num_levels, fastThreshold=config.fast_threshold
        )

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each: OpenCV has no batches."""
        return [self.extract(frame) for frame in frames]

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        keypoints, descriptors = opencv.detect(self._detector, frame, 1.0)
        if not keypoints:
            return opencv.empty(256, frame, self.name)
        signs = np.unpackbits(descriptors, axis=1).astype(np.float32) / 8.0 - 0.0625
        # OpenCV's ORB multiplies coordinates of a pyramid level by its scale and leaves out that half a pixel grows with it
        centre = 0.5 * self._config.scale_factor ** np.array([k.octave for k in keypoints])
        return opencv.to_features(keypoints, signs, frame, 1.0, self._config.max_keypoints, self.name, centre)
