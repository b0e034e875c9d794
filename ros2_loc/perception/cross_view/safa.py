"""SAFA as a cross-view encoder: one vector for an image, one for a tile; the single-image baseline of CVLNet's table 5.

Its overhead grid has a single cell and no shifts, so that `retrieval.tile_matching` computes the cosine of the two vectors. For evaluation
only: it does not see the ground, knows no video, and stands in no pipeline, so the table of `registry.py` does not have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, GroundFeatures, OverheadDescriptor, TileDescriptors
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.safa import Safa
from ros2_loc.models.weight_files import locate, sha256
from ros2_loc.models.weights import load_model
from ros2_loc.perception.cross_view.views import network_frame


class SafaEncoder:
    """The network of a weight file, on one device. A video is its newest image: poses and older images say nothing to it."""

    @dataclass(frozen=True)
    class Config:
        """Attributes:
        weights: path of a safetensors file of the network `safa`.
        coverage_m: side of the tiles that it was trained with.
        batch_size: tiles in one pass.
        """

        weights: str = "safa.safetensors"
        coverage_m: float = 102.4
        batch_size: int = 32

        def __post_init__(self) -> None:
            if self.batch_size < 1 or self.coverage_m <= 0:
                raise ConfigError(f"safa: batch_size and coverage_m must be positive, got {self.batch_size} and {self.coverage_m}")

    name = "safa"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        network = load_model(config.weights, device)
        if not isinstance(network, Safa):
            raise ConfigError(f"{config.weights}: is of another network; an encoder safa needs weights of safa")
        self._config, self._device, self._network = config, torch.device(device), network
        self.fingerprint = f"{self.name}:{sha256(locate(config.weights))}"
        self.grid = OverheadGrid(cells=1, metres_per_cell=config.coverage_m, shift_cells=0)
        self.tile_px: int = network.config.tile_px

    def encode_tiles(self, images: NDArray[np.uint8]) -> TileDescriptors:
        """(B, tile_px, tile_px, 3) uint8 RGB, north up -> a vector each, as (B, D, 1, 1).

        Raises:
            DataError: images of another size, or a vector that is not finite.
        """
        size = (self.tile_px, self.tile_px, 3)
        if images.ndim != 4 or images.shape[1:] != size:
            raise DataError(f"tiles must be (B, {size[0]}, {size[1]}, 3), got {images.shape}")
        step = self._config.batch_size
        with torch.inference_mode():
            parts = [self._network.tile_descriptor(self._tensor(images[k : k + step])).cpu().numpy() for k in range(0, len(images), step)]
        vectors = np.concatenate(parts).astype(np.float32)
        return TileDescriptors(vectors[:, :, None, None], np.ones((len(vectors), 1, 1), np.float32), self.fingerprint)

    def encode_frame(self, frame: Frame) -> GroundFeatures:
        """Its vector, as (D, 1, 1); raises DataError when it is not finite."""
        view = network_frame(frame, self._network.config.image_px, self._network.config.view)
        with torch.inference_mode():
            vector = self._network.ground_descriptor(self._tensor(view.image[None]))[0].cpu().numpy()
        return GroundFeatures(vector.astype(np.float32)[:, None, None], view.camera, view.base_from_camera, self.fingerprint)

    def describe(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Pose]) -> OverheadDescriptor:
        """The vector of the newest image."""
        return self.describe_many(features, [query_from_base])[0]

    def describe_many(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Sequence[Pose]]) -> list[OverheadDescriptor]:
        """The same vector for every hypothesis; raises DataError without an image."""
        if not features:
            raise DataError("a query needs an image")
        described = OverheadDescriptor(features[0].features, np.ones((1, 1), bool), self.fingerprint)
        return [described] * len(query_from_base)

    def _tensor(self, images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2).float() / 255.0
