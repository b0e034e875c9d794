"""CenterNet as a detector: objects as pairs of corners with a centre between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.types import Detection, Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.centernet import CenterNet, Heads, LastHeads, decode, load_published, normalized
from ros2_loc.models.folding import folded
from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.dense_network import in_place_of
from ros2_loc.perception.detectors.centernet_steps import Floats, Procedure, View, boxes_of, view_of
from ros2_loc.perception.extractors.scaling import Prepared, groups, prepare
from ros2_loc.perception.networks import device_of, open_network


class Centernet:
    """The network of a weight file, on one device or as an export; labels are those of the weights."""

    @dataclass(frozen=True)
    class Config(BackendConfig):
        """Which weights, what runs them, and how images are seen.

        Attributes:
            weights: a name of `ros2-loc weights list`, the path of a checkpoint of the authors, or of a safetensors file of this project
                (`ros2-loc train centernet`).
            scales: of the image, among them 1, whose centres are used; the authors' multi-scale test is [0.6, 1, 1.2, 1.5, 1.8].
            flip: the mirror image is seen as well, as in the authors' tests; takes twice as long.
            max_edge_px: larger images are made smaller until their long edge has so many pixels; 0 for full size.
            max_detections: the best ones.
            min_score: others are left out.
            top_k: corners of each kind, and centres, that are looked at.
            max_tag_distance: of corners of one object.
            merge_exponent: how alike boxes of several scales must be to be merged.
            procedure: authors: their code to the letter; exact: what it means (`centernet_steps`).
            batch_size: images of one size in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "centernet_town"
        scales: tuple[float, ...] = (1.0,)
        flip: bool = False
        max_edge_px: int = 0
        max_detections: int = 100
        min_score: float = 0.05
        top_k: int = 70
        max_tag_distance: float = 0.5
        merge_exponent: float = 10.0
        procedure: Procedure = "exact"
        batch_size: int = 4
        half: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            object.__setattr__(self, "scales", tuple(self.scales))
            if 1.0 not in self.scales or min(self.scales) <= 0 or len(set(self.scales)) != len(self.scales):
                raise ConfigError(f"centernet: scales are positive, each once, and 1 is among them, got {list(self.scales)}")
            if min(self.max_detections, self.top_k, self.batch_size) < 1 or not self.merge_exponent > 0 or not self.max_tag_distance > 0:
                raise ConfigError(
                    "centernet: max_detections, top_k, batch_size, merge_exponent and max_tag_distance are positive, got "
                    f"{self.max_detections}, {self.top_k}, {self.batch_size}, {self.merge_exponent}, {self.max_tag_distance}"
                )
            if not 0.0 <= self.min_score <= 1.0 or self.max_edge_px < 0:
                raise ConfigError(
                    f"centernet: min_score lies in 0 to 1, max_edge_px is not negative, got {self.min_score}, {self.max_edge_px}"
                )
            if self.procedure == "authors" and self.backend != "torch":
                raise ConfigError(f"centernet: sides of images are odd in procedure authors, an export ({self.backend}) takes no such")

    name = "centernet"
    labels: tuple[str, ...]
    batch_size: int
    _heads: Any  # the network, or an export of it

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._device = device_of(self.name, device, config.half)
        network = open_network(config.weights, CenterNet, load_published)
        self._set_up(config, network)
        self._heads = in_place_of(self._heads, Heads, self.name, config, device)

    @classmethod
    def of_network(cls, network: CenterNet, config: Config, device: str = "cpu") -> Centernet:
        """With a network that is there already, instead of the weights of `config`; a copy of it is used."""
        detector = cls.__new__(cls)
        detector._device = device_of(cls.name, device, config.half)
        detector._set_up(config, network)
        return detector

    def _set_up(self, config: Config, network: CenterNet) -> None:
        self._config, self._multiple = config, network.multiple
        self.labels, self.batch_size = network.config.labels, config.batch_size
        ready = folded(network).to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._heads = LastHeads(ready).eval()

    def detect(self, frame: Frame) -> list[Detection]:
        """Objects in the whole image.

        Raises:
            DataError: the network gave numbers that are not finite.
        """
        return self.detect_many([frame])[0]

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """`detect` of each, images of one size in one pass."""
        prepared = [prepare(frame, self._config.max_edge_px) for frame in frames]
        results: list[list[Detection]] = [[] for _ in frames]
        for indices in groups(prepared, self.batch_size):
            found = self._found([prepared[index].image for index in indices])
            for index, rows in zip(indices, found, strict=True):
                results[index] = self._detections(rows, prepared[index], frames[index])
        return results

    def _found(self, images: Sequence[NDArray[np.uint8]]) -> list[Floats]:
        """Images of one size -> the boxes of each."""
        config = self._config
        seen: list[list[tuple[View, Floats, Floats]]] = [[] for _ in images]
        for scale in config.scales:
            views = [view_of(image, scale, self._multiple, config.procedure) for image in images]
            for own, view, (pairs, centres) in zip(seen, views, self._keypoints(views), strict=True):
                own.append((view, pairs, centres))
        return [boxes_of(own, config.procedure, config.merge_exponent, config.max_detections) for own in seen]

    @torch.inference_mode()
    def _keypoints(self, views: Sequence[View]) -> list[tuple[Floats, Floats]]:
        """Pairs (1 or 2, N, 8) and centres (1 or 2, K, 4) of each view, and of its mirror image."""
        pixels = torch.from_numpy(np.stack([view.image for view in views])).to(self._device)
        images = normalized(pixels.permute(0, 3, 1, 2).float() / 255.0)
        if self._config.flip:
            images = torch.stack([images, images.flip(3)], dim=1).flatten(0, 1)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            heads = self._heads(images.contiguous(memory_format=torch.channels_last))
        heads = Heads(*(one.float() for one in heads))
        if not all(_is_finite(one) for one in heads):
            raise DataError(f"{self.name}: the network gave numbers that are not finite: the weights are damaged")
        found = decode(heads, self._config.top_k, max_tag_distance=self._config.max_tag_distance)
        pairs, centres = (one.unflatten(0, (len(views), -1)).cpu().numpy() for one in found)
        return list(zip(pairs, centres, strict=True))

    def _detections(self, rows: Floats, prepared: Prepared, frame: Frame) -> list[Detection]:
        size = (frame.camera.width, frame.camera.height)
        corners = np.clip(prepared.to_full(rows[:, :4].reshape(-1, 2, 2)), 0.0, size)
        kept = (rows[:, 4] >= self._config.min_score) & (corners[:, 1] > corners[:, 0]).all(axis=1)
        boxes = corners.reshape(-1, 4).astype(np.float32)
        return [Detection(boxes[row], self.labels[int(rows[row, 5])], float(min(rows[row, 4], 1.0))) for row in np.flatnonzero(kept)]


def _is_finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())
