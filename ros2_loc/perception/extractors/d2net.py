"""D2-Net as an extractor: keypoints where a channel of the features peaks, 512-d descriptors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.models.d2net import (
    SMALLEST_PX,
    STRIDE_PX,
    D2Net,
    D2Points,
    detect_and_describe,
    load_published,
    normalized,
)
from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.dense_network import in_place_of
from ros2_loc.perception.extractors.scaling import Prepared, features_of, groups, no_features, prepare, stacked
from ros2_loc.perception.networks import device_of, open_network


class D2net:
    """The network of a weight file, on one device; scores are values of features."""

    @dataclass(frozen=True)
    class Config(BackendConfig):
        """Which weights, what runs them, and which keypoints.

        Attributes:
            weights: d2_tf, d2_ots, d2_tf_no_phototourism, the path of the authors' checkpoint, or of a safetensors file of this project.
            max_keypoints: the best of all scales.
            scales: of the levels to the resized image, the smallest first; the authors' multi-scale is [0.5, 1, 2].
            edge_threshold: ratio of curvatures beyond which a peak is an edge.
            max_edge_px: larger images are made smaller until their long edge has so many pixels; 0 for full size.
            max_edge_sum_px: the same of the sum of both edges; 0 for any.
            geometry: exact: a keypoint is in the middle of what its cell sees; authors: 2 px to the left and above, as in their code.
            batch_size: images of one size in one pass; each takes 130 MB per megapixel and level, and more while it is computed.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "d2_tf"
        max_keypoints: int = 2500
        scales: tuple[float, ...] = (1.0,)
        edge_threshold: float = 5.0
        max_edge_px: int = 1600
        max_edge_sum_px: int = 2800
        geometry: Literal["exact", "authors"] = "exact"
        batch_size: int = 1
        half: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            object.__setattr__(self, "scales", tuple(self.scales))
            if not self.scales or min(self.scales) <= 0 or list(self.scales) != sorted(set(self.scales)):
                raise ConfigError(f"d2net: scales are positive and rising, got {list(self.scales)}")
            if min(self.max_keypoints, self.batch_size) < 1 or min(self.max_edge_px, self.max_edge_sum_px) < 0 or self.edge_threshold <= 0:
                raise ConfigError(
                    "d2net: max_keypoints, batch_size and edge_threshold are positive, max_edge_px and max_edge_sum_px not negative, got "
                    f"{self.max_keypoints}, {self.batch_size}, {self.edge_threshold}, {self.max_edge_px}, {self.max_edge_sum_px}"
                )

    name = "d2net"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        network = open_network(config.weights, D2Net, load_published).to(self._device)
        self._dimension = network.dimension
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dense: Callable[[Tensor], Tensor] = in_place_of(network, torch.as_tensor, self.name, config, device)
        self.batch_size = config.batch_size

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        return self.extract_many([frame])[0]

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each, images of one size in one pass."""
        prepared = [prepare(frame, self._max_edge_px(frame)) for frame in frames]
        results = [no_features(frame, self._dimension, self.name) for frame in frames]
        for indices in groups(prepared, self._config.batch_size):
            if min(prepared[indices[0]].size) * max(self._config.scales) < SMALLEST_PX:
                continue
            found = self._found([prepared[index] for index in indices])
            for index, points in zip(indices, found, strict=True):
                results[index] = self._features(points, prepared[index], frames[index])
        return results

    def _max_edge_px(self, frame: Frame) -> int:
        """The long edge that keeps both limits, 0 for any."""
        width, height = frame.camera.width, frame.camera.height
        limits = [self._config.max_edge_px, self._config.max_edge_sum_px * max(width, height) // (width + height)]
        return min((limit for limit in limits if limit > 0), default=0)

    @torch.inference_mode()
    def _found(self, prepared: Sequence[Prepared]) -> list[D2Points]:
        images = normalized(torch.from_numpy(stacked(prepared)).to(self._device))
        as_authors = self._config.geometry == "authors"
        return detect_and_describe(self._features_of, images, self._config.scales, self._config.edge_threshold, as_authors)

    def _features_of(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            return self._dense(images).float().to(self._device)

    def _features(self, found: D2Points, prepared: Prepared, frame: Frame) -> LocalFeatures:
        pixels, descriptors, scores, scales = (part.cpu().numpy() for part in found)
        points, scales = prepared.to_full(pixels + 0.5), STRIDE_PX * scales * prepared.ratio.mean()
        return features_of(points, descriptors, scores, scales, frame, self._config.max_keypoints, self.name)
