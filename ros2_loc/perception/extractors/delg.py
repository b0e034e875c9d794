"""DELG's local features as an extractor: cells of seven scales, chosen by attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.models.delg import ATTENTION_THRESHOLD, STRIDE_PX, Delg, LocalMaps, best_boxes, load_published, receptive_boxes
from ros2_loc.models.pycls_resnet import normalized
from ros2_loc.perception.extractors.scaling import Prepared, features_of, groups, no_features, prepare
from ros2_loc.perception.networks import device_of, open_network

# the authors': from a quarter to twice, in steps of the square root of two
SCALES = (0.25, 0.3535, 0.5, 0.7071, 1.0, 1.4142, 2.0)


class _Cells(NamedTuple):
    """Of one image, all (N, ...): points px of the prepared image, boxes px of it, descriptors, attention, sizes px of a cell in it."""

    points: Tensor
    boxes: Tensor
    descriptors: Tensor
    attention: Tensor
    sizes: Tensor


class DelgLocal:
    """The network of a weight file, on one device; scores are attention."""

    @dataclass(frozen=True)
    class Config:
        """Which weights, and which cells.

        Attributes:
            weights: delg_r50, delg_r101, the path of a checkpoint of the authors, or of a safetensors file of this project.
            max_keypoints: the cells of the highest attention, of all scales.
            scales: of the levels to the resized image.
            attention_threshold: attention must be larger.
            max_overlap: intersection over union with a better cell's box, beyond which a cell is left out.
            max_edge_px: larger images are made smaller until their long edge has so many pixels; 0 for full size.
            geometry: exact: a keypoint is in the middle of what its cell sees; authors: as in their code, which leaves out that half a
                pixel grows and shrinks with the level.
            batch_size: images of one size in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "delg_r50"
        max_keypoints: int = 1000
        scales: tuple[float, ...] = SCALES
        attention_threshold: float = ATTENTION_THRESHOLD
        max_overlap: float = 0.98
        max_edge_px: int = 0
        geometry: Literal["exact", "authors"] = "exact"
        batch_size: int = 1
        half: bool = False

        def __post_init__(self) -> None:
            object.__setattr__(self, "scales", tuple(self.scales))
            if not self.scales or min(self.scales) <= 0 or not 0.0 < self.max_overlap <= 1.0:
                raise ConfigError(f"delg: scales are positive and max_overlap in (0, 1], got {list(self.scales)}, {self.max_overlap}")
            if min(self.max_keypoints, self.batch_size) < 1 or self.max_edge_px < 0:
                raise ConfigError(
                    f"delg: max_keypoints and batch_size are positive and max_edge_px not negative, got {self.max_keypoints}, "
                    f"{self.batch_size}, {self.max_edge_px}"
                )

    name = "delg"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        network = open_network(config.weights, Delg, load_published).to(self._device)
        self._network: Delg = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch_size = config.batch_size

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        return self.extract_many([frame])[0]

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each, images of one size in one pass."""
        prepared = [prepare(frame, self._config.max_edge_px) for frame in frames]
        results = [no_features(frame, self._network.config.local_dimension, self.name) for frame in frames]
        for indices in groups(prepared, self._config.batch_size):
            levels = [self._level([prepared[index] for index in indices], scale) for scale in self._config.scales]
            levels = [level for level in levels if level]
            for row, index in enumerate(indices if levels else []):
                cells = _Cells(*(torch.cat(parts) for parts in zip(*(level[row] for level in levels), strict=True)))
                results[index] = self._features(cells, prepared[index], frames[index])
        return results

    @torch.inference_mode()
    def _level(self, prepared: Sequence[Prepared], scale: float) -> list[_Cells]:
        """All cells of images of one size at one scale; none where that is too small."""
        width, height = prepared[0].size
        size = (round(width * scale), round(height * scale))
        if min(size) < STRIDE_PX:
            return []
        images = np.stack([_resized(one.image, size) for one in prepared])
        pixels = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            maps = self._network.local_maps(normalized(pixels))
        rows, columns = maps.attention.shape[2:]
        boxes = receptive_boxes(rows, columns, scale).to(self._device)
        ratio = torch.tensor([width / size[0], height / size[1]], device=self._device)
        points = (boxes[:, :2] + boxes[:, 2:]).flip(1) / 2.0
        # the middle of a box is the centre of a pixel of the level
        points = points + 0.5 if self._config.geometry == "authors" else (points * scale + 0.5) * ratio
        sizes = torch.full((len(points),), float(STRIDE_PX * ratio.mean()), device=self._device)
        return [_of_image(maps, row, points, boxes, sizes) for row in range(len(prepared))]

    @torch.inference_mode()
    def _features(self, cells: _Cells, prepared: Prepared, frame: Frame) -> LocalFeatures:
        kept = cells.attention > self._config.attention_threshold
        if prepared.mask is not None:
            kept &= torch.from_numpy(_inside(prepared.mask, cells.points.cpu().numpy())).to(kept.device)
        cells = _Cells(*(part[kept] for part in cells))
        best = best_boxes(cells.boxes, cells.attention, self._config.max_overlap, self._config.max_keypoints)
        points, _, descriptors, attention, sizes = (part[best].cpu().numpy() for part in cells)
        scales = sizes * prepared.ratio.mean()
        return features_of(prepared.to_full(points), descriptors, attention, scales, frame, self._config.max_keypoints, self.name)


def _of_image(maps: LocalMaps, row: int, points: Tensor, boxes: Tensor, sizes: Tensor) -> _Cells:
    descriptors, attention = maps.descriptors[row].float().flatten(1).T, maps.attention[row].float().flatten()
    return _Cells(points, boxes, descriptors, attention, sizes)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """As the authors do it, and as their weights were trained: bilinear without smoothing."""
    if image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def _inside(mask: NDArray[np.bool_], points: NDArray) -> NDArray[np.bool_]:
    column, row = np.floor(points).astype(np.int64).T
    return mask[row.clip(0, mask.shape[0] - 1), column.clip(0, mask.shape[1] - 1)]
