"""What encoders with a network share: images of any size to batches of the size it wants, masks, unit vectors.

Such an encoder is a class with a name, a Config and a network; `WholeImage` does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ros2_loc.core.types import Frame, GlobalDescriptor, LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.folding import folded
from ros2_loc.models.imagenet import MEAN
from ros2_loc.perception.extractors.scaling import Prepared, groups, prepare
from ros2_loc.perception.image_scales import SCALES
from ros2_loc.perception.networks import Network, device_of


@dataclass(frozen=True)
class ImageConfig:
    """How an encoder sees images.

    Attributes:
        max_edge_px: larger images are made smaller until their long edge has so many pixels; 0 for full size.
        size: (width, height) px that every image is resized to, whatever its shape; empty to keep shapes.
        masked: what a frame's mask says to move is seen (keep), or is replaced by a mean gray (blank). The published networks were trained
            on streets with cars and without masks.
        batch_size: images of one size in one pass.
        half: 16-bit floats in the network; on a GPU only.
    """

    max_edge_px: int = 0
    size: tuple[int, ...] = ()
    masked: Literal["keep", "blank"] = "keep"
    batch_size: int = 4
    half: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if self.batch_size < 1 or self.max_edge_px < 0:
            raise ConfigError(f"encoder: batch_size is positive and max_edge_px not negative, got {self.batch_size}, {self.max_edge_px}")
        if len(self.size) not in (0, 2) or any(side < 1 for side in self.size) or (self.size and self.max_edge_px):
            raise ConfigError(f"encoder: size is [width, height] px, without max_edge_px beside it, got {list(self.size)}")


@dataclass(frozen=True)
class ScaledImageConfig(ImageConfig):
    """How an encoder sees images that it describes at several scales: the descriptor is their mean.

    Attributes:
        scales: of the image; three of them take 3.5 times as long as one.
    """

    scales: tuple[float, ...] = SCALES

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "scales", tuple(self.scales))
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"encoder: scales are positive, got {list(self.scales)}")


class WholeImage:
    """An encoder but for its network: `_vectors` is what a child adds."""

    name: str
    needs_image = True
    needs_features = False
    # what its network needs to see at least, smaller images are enlarged; and of what the sides are multiples
    min_edge_px, multiple = 32, 1

    def __init__(self, config: ImageConfig, device: str) -> None:
        if any(side % self.multiple or side < self.min_edge_px for side in config.size):
            raise ConfigError(
                f"{self.name}: size is of multiples of {self.multiple} px and at least {self.min_edge_px}, got {list(config.size)}"
            )
        self._images = config
        self._device = device_of(self.name, device, config.half)
        self.batch_size = config.batch_size

    def _vectors(self, images: NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) RGB -> (B, D) of any length."""
        raise NotImplementedError

    def _ready(self, network: Network) -> Network:
        """On the device, and as fast as it gets: a third to two thirds less time on a CPU."""
        return folded(network).to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) -> (B, 3, H, W) in 0..1, on the device."""
        return torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float() / 255.0

    def encode(self, frame: Frame | None, features: LocalFeatures | None) -> GlobalDescriptor:
        """From the image alone.

        Raises:
            DataError: the network gave numbers that are not finite.
        """
        assert frame is not None, f"{self.name} describes images"
        return self.encode_many([frame], None)[0]

    def encode_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[GlobalDescriptor]:
        """`encode` of each, images of one size in one pass."""
        assert frames is not None, f"{self.name} describes images"
        prepared = [self._prepared(frame) for frame in frames]
        vectors: dict[int, NDArray[np.float32]] = {}
        for indices in groups(prepared, self.batch_size):
            found = self._batch([prepared[index] for index in indices])
            vectors |= dict(zip(indices, found, strict=True))
        return [GlobalDescriptor(self._unit(vectors[index]), self.name) for index in range(len(frames))]

    def fit(self, features: Sequence[LocalFeatures]) -> dict[str, Any]:
        """Nothing is learned from the map: {}."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing was learned from the map.

        Raises:
            DataError: what another encoder learned.
        """
        if state:
            held = ", ".join(sorted(state))
            raise DataError(f"the map holds {held} of another encoder than {self.name}: build the map with this pipeline")

    def _prepared(self, frame: Frame) -> Prepared:
        one = prepare(frame, self._images.max_edge_px)
        image = one.image
        if self._images.masked == "blank" and one.mask is not None:
            image = np.where(one.mask[..., None], image, np.round(255.0 * np.array(MEAN)).astype(np.uint8))
        width, height = self._images.size or (max(side // self.multiple * self.multiple, self.min_edge_px) for side in one.size)
        return Prepared(_resized(image, (width, height)), None, one.ratio)

    @torch.inference_mode()
    def _batch(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        images = np.stack([one.image for one in prepared])
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._images.half):
            vectors = self._vectors(images)
        return vectors.float().cpu().numpy()  # type: ignore[no-any-return]

    def _unit(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm):
            remedy = "half: false" if self._images.half else "the weights may be damaged"
            raise DataError(f"{self.name}: the descriptor of an image is not finite: {remedy}")
        if norm < 1e-6:  # an image that it sees nothing in, like no other
            return np.eye(1, len(vector), dtype=np.float32)[0]
        return np.asarray(vector / norm, dtype=np.float32)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bilinear and smoothed where it shrinks, as PIL does it and the authors of most networks by PIL."""
    if image.shape[1::-1] == size:
        return image
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    small = functional.interpolate(pixels, size[::-1], mode="bilinear", align_corners=False, antialias=True)
    return small[0].permute(1, 2, 0).round().to(torch.uint8).numpy()  # type: ignore[no-any-return]
