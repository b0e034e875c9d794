"""What encoders with a network share: images of any size to batches of the size it wants, masks, unit vectors.

Such an encoder is a class with a name, a Config and a network; `WholeImage` does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from ros2_loc.core.types import Frame, GlobalDescriptor, LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.pycls_resnet import MEAN
from ros2_loc.perception.extractors.scaling import Prepared, groups, prepare, stacked
from ros2_loc.perception.networks import device_of


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


class WholeImage:
    """An encoder but for its network: `_vectors` is what a child adds."""

    name: str
    needs_image = True
    needs_features = False
    # what its network needs to see at least; smaller images are enlarged
    min_edge_px = 32

    def __init__(self, config: ImageConfig, device: str) -> None:
        self._images = config
        self._device = device_of(self.name, device, config.half)
        self.batch_size = config.batch_size

    def _vectors(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..1 -> (B, D) of any length."""
        raise NotImplementedError

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
        vectors: dict[int, np.ndarray] = {}
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
        size = tuple(self._images.size) or tuple(max(side, self.min_edge_px) for side in one.size)
        image = one.image
        if self._images.masked == "blank" and one.mask is not None:
            image = np.where(one.mask[..., None], image, np.round(255.0 * np.array(MEAN)).astype(np.uint8))
        if size != one.size:
            shrinks = size[0] * size[1] < one.size[0] * one.size[1]
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return Prepared(np.asarray(image, dtype=np.uint8), None, one.ratio)

    @torch.inference_mode()
    def _batch(self, prepared: Sequence[Prepared]) -> np.ndarray:
        images = torch.from_numpy(stacked(prepared)).to(self._device)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._images.half):
            vectors = self._vectors(images)
        return np.asarray(vectors.float().cpu().numpy())

    def _unit(self, vector: np.ndarray) -> np.ndarray:
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm):
            remedy = "half: false" if self._images.half else "the weights may be damaged"
            raise DataError(f"{self.name}: the descriptor of an image is not finite: {remedy}")
        if norm < 1e-6:  # an image that it sees nothing in, like no other
            return np.eye(1, len(vector), dtype=np.float32)[0]
        return np.asarray(vector / norm, dtype=np.float32)
