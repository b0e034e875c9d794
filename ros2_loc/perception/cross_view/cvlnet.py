"""CVLNet as a cross-view encoder: frames and tiles in, records out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.overhead import OverheadGrid, project_overhead
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, GroundFeatures, OverheadDescriptor, TileDescriptors
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cvlnet.loading import load_cvlnet
from ros2_loc.perception.cross_view.views import network_frame
from ros2_loc.perception.networks import device_of


class CvlNet:
    """The network of a weight file, on one device."""

    @dataclass(frozen=True)
    class Config:
        """Which weights, and how they are run.

        Attributes:
            weights: a name in the table of `models.weight_table`, or the path of a safetensors file that `ros2-loc train cvlnet` wrote.
            batch_size: tiles in one pass.
            half: 16-bit floats in the backbones; on a GPU only.
        """

        weights: str = "small"
        batch_size: int = 32
        half: bool = False

        def __post_init__(self) -> None:
            if self.batch_size < 1:
                raise ConfigError(f"cvlnet: batch_size must be 1 or more, got {self.batch_size}")

    name = "cvlnet"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._device = device_of(self.name, device, config.half)
        network, sha256 = load_cvlnet(config.weights)
        self._config = config
        self._network = network.eval().to(self._device)
        self.fingerprint = f"{self.name}:{sha256}"
        self.grid: OverheadGrid = network.grid
        self.tile_px: int = network.config.tile_px

    def encode_tiles(self, images: NDArray[np.uint8]) -> TileDescriptors:
        """(B, tile_px, tile_px, 3) uint8 RGB, north up, each covering `grid.coverage_m` -> features (B, C, S, S) float32, uncertainty.

        Raises:
            DataError: images of another size, or a tile whose descriptor is not finite (its row is named).
        """
        size = (self.tile_px, self.tile_px, 3)
        if images.ndim != 4 or images.shape[1:] != size or images.dtype != np.uint8:
            raise DataError(f"tiles must be (B, {size[0]}, {size[1]}, 3) uint8, got {images.shape} {images.dtype}")
        step, k = self._config.batch_size, self.grid.num_shifts
        features = np.empty((len(images), *self._descriptor_shape), dtype=np.float32)
        uncertainty = np.empty((len(images), k, k), dtype=np.float32)
        with self._inference():
            for start in range(0, len(images), step):
                rows = slice(start, start + step)
                described = self._network.tile_features(self._tensor(images[rows]))
                features[rows], uncertainty[rows] = (x.float().cpu().numpy() for x in described)
        damaged = ~np.isfinite(features).all(axis=(1, 2, 3))
        if damaged.any():
            raise DataError(f"tile in row {int(damaged.argmax())}: its descriptor is not finite: use full precision or other weights")
        return TileDescriptors(features, uncertainty, self.fingerprint)

    def encode_frame(self, frame: Frame) -> GroundFeatures:
        """One pass of the ground backbone over the image, levelled or resized to what the network was trained with.

        Raises:
            DataError: features that are not finite (the frame is named).
        """
        view = network_frame(frame, self._network.config.image_px, self._network.config.view)
        with self._inference():
            features = self._network.ground_features(self._tensor(view.image[None]))[0].float().cpu().numpy()
        if not np.isfinite(features).all():
            raise DataError(f"frame at {frame.stamp_ns} ns: its features are not finite: use full precision or other weights")
        return GroundFeatures(features, view.camera, view.base_from_camera, self.fingerprint, view.mask)

    def describe(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Pose]) -> OverheadDescriptor:
        """The overhead descriptor of frames, newest first, at these poses: projection and fusion, no backbone.

        Where no frame sees the ground nothing is visible and the features are zero.

        Raises:
            DataError: no frame, another number of poses, or features of another encoder.
        """
        return self.describe_many(features, [query_from_base])[0]

    def describe_many(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Sequence[Pose]]) -> list[OverheadDescriptor]:
        """`describe` for several hypotheses of the poses, in one batch; raises as `describe`."""
        self._check(features, query_from_base)
        views = [[_view(self.grid, f, pose) for f, pose in zip(features, poses, strict=True)] for poses in query_from_base]
        sampling, visible = (torch.from_numpy(np.array([[v[i] for v in row] for row in views])).to(self._device) for i in (0, 1))
        ground = torch.from_numpy(np.stack([f.features for f in features])).to(self._device)
        with self._inference(autocast=False):
            overhead, seen = self._network.query_features(ground.expand(len(views), *ground.shape), sampling, visible)
        pairs = zip(overhead.cpu().numpy(), seen.cpu().numpy(), strict=True)
        return [OverheadDescriptor(f, v, self.fingerprint) for f, v in pairs]

    @property
    def _descriptor_shape(self) -> tuple[int, int, int]:
        return (self._network.config.descriptor_channels, self.grid.cells, self.grid.cells)

    @contextmanager
    def _inference(self, autocast: bool = True) -> Iterator[None]:
        half = autocast and self._config.half
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=torch.float16, enabled=half):
            yield

    def _tensor(self, images: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        # a view in channels-last order, which is also the fastest for the convolutions of a CPU
        return pixels.permute(0, 3, 1, 2).float() / 255.0

    def _check(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Sequence[Pose]]) -> None:
        if not features or any(len(poses) != len(features) for poses in query_from_base):
            raise DataError(f"{len(features)} frames with {[len(poses) for poses in query_from_base]} poses: each frame needs a pose")
        foreign = {f.encoder for f in features} - {self.fingerprint}
        if foreign:
            raise DataError(f"ground features are of {sorted(foreign)[0]}, this encoder is {self.fingerprint}: encode the frames again")


def _view(grid: OverheadGrid, features: GroundFeatures, query_from_base: Pose) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    px, visible = project_overhead(grid, features.camera, features.base_from_camera, query_from_base)
    if features.mask is not None:
        column, row = np.floor(px).astype(int).transpose(2, 0, 1)
        height, width = features.mask.shape
        visible = visible & features.mask[row.clip(max=height - 1), column.clip(max=width - 1)]
    return px, visible
