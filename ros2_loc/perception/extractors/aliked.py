"""ALIKED as an extractor: sub-pixel keypoints, descriptors of 64 or 128 numbers.

Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation", TIM 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.models.aliked import MULTIPLE, AlikedMaps, detect, load_published
from ros2_loc.models.folding import folded
from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.dense_network import in_place_of
from ros2_loc.perception.extractors.scaling import Prepared, features_of, groups, no_features, prepare, stacked
from ros2_loc.perception.networks import device_of

MIN_EDGE_PX = 16


class Aliked:
    """The network of one weight file, on one device."""

    @dataclass(frozen=True)
    class Config(BackendConfig):
        """Which weights, and how many keypoints.

        Attributes:
            weights: aliked_t16, aliked_n16, aliked_n32, or the path of one of the authors' files.
            max_keypoints: at most so many, of the highest scores.
            score_threshold: of the score map, in (0, 1).
            nms_radius: px of the resized image between two keypoints.
            max_edge_px: images are made smaller until their long edge has so many pixels; 0 for full size.
            batch_size: images in one pass.
            half: 16-bit floats in the dense part; on a GPU only.
        """

        weights: str = "aliked_n16"
        max_keypoints: int = 2500
        score_threshold: float = 0.2
        nms_radius: int = 2
        max_edge_px: int = 0
        batch_size: int = 4
        half: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            if min(self.max_keypoints, self.batch_size, self.nms_radius) < 1 or not 0 <= self.score_threshold < 1 or self.max_edge_px < 0:
                raise ConfigError(
                    "aliked: max_keypoints, batch_size and nms_radius are positive, score_threshold in [0, 1), max_edge_px not negative"
                )

    name = "aliked"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        # a third faster on a CPU than the order of channels that is the default
        self._network = folded(load_published(config.weights)).to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dense = in_place_of(self._network, AlikedMaps, self.name, config, device)
        self.batch_size = config.batch_size

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        return self.extract_many([frame])[0]

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each, images of one size in one pass."""
        prepared = [prepare(frame, self._config.max_edge_px) for frame in frames]
        results = [no_features(frame, self._network.dimension, self.name) for frame in frames]
        for indices in groups(prepared, self.batch_size):
            if min(prepared[indices[0]].size) < MIN_EDGE_PX:
                continue
            found = self._found([prepared[index] for index in indices])
            for index, (points, descriptors, scores) in zip(indices, found, strict=True):
                results[index] = self._features(points, descriptors, scores, prepared[index], frames[index])
        return results

    def _found(self, prepared: list[Prepared]) -> list[tuple[NDArray, NDArray, NDArray]]:
        """For each image points (px of the resized one), descriptors, scores."""
        with torch.inference_mode():
            maps = self._maps(torch.from_numpy(stacked(prepared)).to(self._device))
            config = self._config
            allowed = [None if one.mask is None else torch.from_numpy(one.mask).to(self._device) for one in prepared]
            found = detect(maps.scores, allowed, config.score_threshold, config.max_keypoints, config.nms_radius)
            descriptors = self._network.describe(maps.features, [points for points, _ in found])
        rows = zip(found, descriptors, strict=True)
        return [(points.cpu().numpy(), d.float().cpu().numpy(), values.cpu().numpy()) for (points, values), d in rows]

    def _maps(self, images: Tensor) -> AlikedMaps:
        """The dense part; filled up around the image, as the authors do, to a multiple of 32, and cut back."""
        height, width = images.shape[2:]
        more_x, more_y = -width % MULTIPLE, -height % MULTIPLE
        left, top = more_x // 2, more_y // 2
        filling = (left, more_x - left, top, more_y - top)
        images = torch.nn.functional.pad(images, filling, mode="replicate").contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            maps = self._dense(images)
        return AlikedMaps(*(one[:, :, top : top + height, left : left + width].float().to(self._device) for one in maps))

    def _features(self, points: NDArray, descriptors: NDArray, scores: NDArray, prepared: Prepared, frame: Frame) -> LocalFeatures:
        scales = np.full(len(points), prepared.ratio.mean())
        limit = self._config.max_keypoints
        return features_of(prepared.to_full(points), descriptors, scores, scales, frame, limit, self.name)
