"""SuperPoint as an extractor: one keypoint per pixel at most, 256-d descriptors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.models.superpoint import (
    CELL_PX,
    SuperPoint,
    SuperPointMaps,
    descriptors_at,
    heatmap,
    load_published,
    strongest,
    suppressed,
)
from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.dense_network import in_place_of
from ros2_loc.perception.extractors.scaling import Prepared, features_of, groups, no_features, prepare
from ros2_loc.perception.networks import device_of, open_network


class Superpoint:
    """The network of a weight file, on one device; scores are probabilities."""

    @dataclass(frozen=True)
    class Config(BackendConfig):
        """Which weights, what runs them, and which keypoints.

        Attributes:
            weights: superpoint_v1, the path of the authors' checkpoint, or of a safetensors file of this project.
            max_keypoints: the best of an image.
            keypoint_threshold: a probability must be larger.
            nms_radius: px of the resized image, in x and y, within which a keypoint is alone.
            remove_borders: px at each side without keypoints.
            max_edge_px: larger images are made smaller until their long edge has so many pixels; 0 for full size.
            geometry: exact: descriptors are looked up where the cells are; authors: by their formula, up to 3.5 px beside it.
            batch_size: images of one size in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "superpoint_v1"
        max_keypoints: int = 2500
        keypoint_threshold: float = 0.005
        nms_radius: int = 4
        remove_borders: int = 4
        max_edge_px: int = 0
        geometry: Literal["exact", "authors"] = "exact"
        batch_size: int = 4
        half: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            if min(self.max_keypoints, self.batch_size) < 1 or min(self.nms_radius, self.remove_borders, self.max_edge_px) < 0:
                raise ConfigError(
                    "superpoint: max_keypoints and batch_size are positive, nms_radius, remove_borders and max_edge_px not negative, got "
                    f"{self.max_keypoints}, {self.batch_size}, {self.nms_radius}, {self.remove_borders}, {self.max_edge_px}"
                )

    name = "superpoint"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        network = open_network(config.weights, SuperPoint, load_published)
        self._dimension = network.config.dimension
        # a quarter faster on a CPU
        network = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dense: Callable[[Tensor], SuperPointMaps] = in_place_of(network, SuperPointMaps, self.name, config, device)
        self.batch_size = config.batch_size

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        return self.extract_many([frame])[0]

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each, images of one size in one pass."""
        prepared = [prepare(frame, self._config.max_edge_px) for frame in frames]
        results = [no_features(frame, self._dimension, self.name) for frame in frames]
        for indices in groups(prepared, self._config.batch_size):
            if min(prepared[indices[0]].size) < CELL_PX:
                continue
            maps, heat = self._maps([prepared[index] for index in indices])
            for row, index in enumerate(indices):
                results[index] = self._features(maps.descriptors[row], heat[row], prepared[index], frames[index])
        return results

    @torch.inference_mode()
    def _maps(self, prepared: Sequence[Prepared]) -> tuple[SuperPointMaps, Tensor]:
        """The heads' maps, and where keypoints are (B, H, W), H and W rounded down to cells."""
        gray = np.stack([cv2.cvtColor(one.image, cv2.COLOR_RGB2GRAY) for one in prepared])
        images = torch.from_numpy(gray)[:, None].to(self._device).float() / 255.0
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            maps = self._dense(images)
        maps = SuperPointMaps(maps.logits.float().to(self._device), maps.descriptors.float().to(self._device))
        return maps, suppressed(heatmap(maps.logits), self._config.nms_radius)

    @torch.inference_mode()
    def _features(self, descriptors: Tensor, heat: Tensor, prepared: Prepared, frame: Frame) -> LocalFeatures:
        config = self._config
        if prepared.mask is not None:
            mask = prepared.mask[: heat.shape[0], : heat.shape[1]]
            heat = heat.masked_fill(~torch.from_numpy(mask).to(heat.device), 0.0)
        pixels, scores = strongest(heat, config.keypoint_threshold, config.remove_borders, config.max_keypoints)
        described = descriptors_at(descriptors, pixels, config.geometry == "authors").cpu().numpy()
        points = prepared.to_full(pixels.cpu().numpy() + 0.5)
        scales = np.full(len(points), prepared.ratio.mean())
        return features_of(points, described, scores.cpu().numpy(), scales, frame, config.max_keypoints, self.name)
