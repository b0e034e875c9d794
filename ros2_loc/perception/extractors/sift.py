"""RootSIFT by OpenCV.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004; the square root of the L1-normalized descriptor by
Arandjelovic and Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.perception.extractors import opencv


class Sift:
    """128-d RootSIFT, unit length; sub-pixel positions."""

    @dataclass(frozen=True)
    class Config:
        """`first_octave: -1` doubles the image first, as Lowe does; 0 starts at full size: four times faster, fewer small keypoints."""

        max_keypoints: int = 2500
        first_octave: int = -1
        contrast_threshold: float = 0.02
        edge_threshold: float = 10.0

        def __post_init__(self) -> None:
            if self.first_octave not in (-1, 0, 1) or self.max_keypoints < 1:
                raise ConfigError(
                    f"sift: first_octave is -1, 0 or 1 and max_keypoints positive, got {self.first_octave}, {self.max_keypoints}"
                )

    name = "sift"
    batch_size = 1

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        # OpenCV always doubles the image it gets, so octave 0 is had by halving first; without `enable_precise_upscale`
        # its keypoints are off by a quarter of a pixel.
        self._scale = 0.5 ** (config.first_octave + 1)
        self._detector = cv2.SIFT_create(
            nfeatures=config.max_keypoints,
            contrastThreshold=config.contrast_threshold,
            edgeThreshold=config.edge_threshold,
            enable_precise_upscale=True,
        )

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each: OpenCV has no batches."""
        return [self.extract(frame) for frame in frames]

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        keypoints, descriptors = opencv.detect(self._detector, frame, self._scale)
        if descriptors is None or not keypoints:
            return opencv.empty(128, frame, self.name)
        root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12))
        return opencv.to_features(keypoints, root.astype(np.float32), frame, self._scale, self._config.max_keypoints, self.name)
