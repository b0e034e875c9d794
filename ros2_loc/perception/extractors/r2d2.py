"""R2D2 on frames: several scales, local maxima of the repeatability where the descriptors are reliable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.models import r2d2
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.r2d2 import R2D2, DenseFeatures, ForKeypoints
from ros2_loc.models.r2d2_detection import Pyramid, local_maxima, peaks, sampled
from ros2_loc.models.weight_files import locate
from ros2_loc.models.weights import load_model, name_of
from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.dense_network import in_place_of
from ros2_loc.perception.extractors.scaling import Prepared, features_of, groups, prepare, stacked
from ros2_loc.perception.networks import device_of

Keypoints = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


class R2d2:
    """128-d descriptors of unit length; scores are reliability times repeatability."""

    @dataclass(frozen=True)
    class Config(BackendConfig):
        """Which weights, what runs them, and where keypoints are looked for.

        Attributes:
            weights: a name in the table of `models.weight_table`, the path of a checkpoint of the authors, or of a safetensors file of this
                project.
            max_keypoints: the best of all scales.
            max_edge_px: of the largest level; larger images are made smaller. 0 for the full size, at 2 KB of memory per pixel.
            min_edge_px: levels with a shorter long edge are left out, but never the largest.
            min_scale: of the smallest level to the largest; 1 for a single scale, three times faster.
            scale_factor: between levels.
            min_reliability, min_repeatability: thresholds on the two maps.
            border_px: of a level: there, keypoints are made by the network's padding rather than by what is seen.
            subpixel: positions and descriptors between pixels, by parabolas through the repeatability; else of whole pixels.
            batch_size: images of one size in one pass.
            half: 16-bit floats: float16 on a GPU; bfloat16 on a CPU, which pays where it multiplies them (AVX512_BF16, AMX).
        """

        weights: str = "r2d2_wasf_n16"
        max_keypoints: int = 2500
        max_edge_px: int = 1024
        min_edge_px: int = 256
        min_scale: float = 0.3
        scale_factor: float = 2.0**0.25
        min_reliability: float = 0.7
        min_repeatability: float = 0.7
        border_px: int = 8
        subpixel: bool = True
        batch_size: int = 1
        half: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            if min(self.max_keypoints, self.batch_size) < 1 or min(self.max_edge_px, self.border_px) < 0:
                raise ConfigError(
                    f"r2d2: max_keypoints and batch_size are positive, max_edge_px and border_px not negative, got {self.max_keypoints}, "
                    f"{self.batch_size}, {self.max_edge_px}, {self.border_px}"
                )
            if self.scale_factor <= 1.0 or not 0.0 < self.min_scale <= 1.0:
                raise ConfigError(f"r2d2: scale_factor is over 1 and min_scale in (0, 1], got {self.scale_factor}, {self.min_scale}")

    name = "r2d2"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, half=False)  # its 16 bits are of a CPU as well
        network = ForKeypoints(self._load(config.weights), config.half).to(self._device)
        self._network: Callable[[Tensor], DenseFeatures] = in_place_of(network, DenseFeatures, self.name, config, device)
        self.batch_size = config.batch_size

    def _load(self, weights: str) -> nn.Module:
        path = locate(weights)
        network = load_model(path) if path.suffix == ".safetensors" else r2d2.load_published(path)
        if not isinstance(network, R2D2):
            raise ConfigError(f"{weights}: is of {name_of(network)}, here only r2d2 fits")
        return network

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        return self.extract_many([frame])[0]

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each, `batch_size` of one size together."""
        prepared = [prepare(frame, self._config.max_edge_px) for frame in frames]
        found: dict[int, LocalFeatures] = {}
        for indices in groups(prepared, self.batch_size):
            for index, keypoints in zip(indices, self._keypoints([prepared[i] for i in indices]), strict=True):
                points, descriptors, scores, scales = keypoints
                ratio = prepared[index].ratio
                points, scales = prepared[index].to_full(points), scales * np.float32(np.sqrt(ratio.prod()))
                found[index] = features_of(points, descriptors, scores, scales, frames[index], self._config.max_keypoints, self.name)
        return [found[index] for index in range(len(frames))]

    @torch.inference_mode()
    def _keypoints(self, prepared: Sequence[Prepared]) -> list[Keypoints]:
        """Points and scales in px of the prepared images, of one size; descriptors and scores."""
        config = self._config
        width, height = prepared[0].size
        images = normalized(torch.from_numpy(stacked(prepared)).to(self._device))
        edge = max(width, height)
        pyramid = Pyramid(config.scale_factor, config.min_scale, min_edge_px=min(config.min_edge_px, edge), max_edge_px=edge)
        levels = [self._of_level(level, width, height) for _, level in pyramid.levels(images)]
        of_image, *arrays = (torch.cat(parts).float().cpu().numpy() for parts in zip(*levels, strict=True))
        return [tuple(array[of_image == index] for array in arrays) for index in range(len(prepared))]  # type: ignore[misc]

    def _of_level(self, level: Tensor, width: int, height: int) -> tuple[Tensor, ...]:
        dense = self._network(level)
        config = self._config
        image, row, column = local_maxima(dense, config.min_reliability, config.min_repeatability, config.border_px)
        points = torch.stack([column, row], dim=1) + 0.5
        if config.subpixel:
            # the logit is nearer to a parabola than a share that has come close to one
            points = points + peaks(torch.logit(dense.repeatability, 1e-6), image, row, column)
        ratio = torch.tensor([width / level.shape[-1], height / level.shape[-2]], device=points.device)
        descriptors = functional.normalize(sampled(dense.descriptors, image, points), dim=1)
        scores = dense.reliability[image, 0, row, column] * dense.repeatability[image, 0, row, column]
        return image, points * ratio, descriptors, scores, ratio.prod().sqrt().expand(len(image))
