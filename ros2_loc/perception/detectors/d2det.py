"""D2Det as a detector: boxes, and masks where the weights have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from ros2_loc.core.types import Detection, Frame
from ros2_loc.errors import ConfigError
from ros2_loc.models.d2det.masks import covered
from ros2_loc.models.d2det.network import MULTIPLE, D2Det
from ros2_loc.models.d2det.official import load_published
from ros2_loc.models.folding import folded
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.weight_files import locate, sha256
from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.detectors.d2det_parts import with_parts
from ros2_loc.perception.detectors.soft_nms import Decay, soft_nms
from ros2_loc.perception.extractors.scaling import Prepared, groups
from ros2_loc.perception.networks import device_of, open_network
from ros2_loc.perception.parts import open_parts


class _Found(NamedTuple):
    """Of one image: boxes (N, 4) px of the full image, labels (N,) from 0, scores (N,), masks (N, M, M) of the boxes in 0..1 or None."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    masks: Tensor | None

    def select(self, rows: NDArray[np.int64]) -> _Found:
        masks = None if self.masks is None else self.masks[torch.from_numpy(rows).to(self.masks.device)]
        return _Found(self.boxes[rows], self.labels[rows], self.scores[rows], masks)


class D2det:
    """The network of a weight file, on one device or as an export; labels are those of the weights."""

    @dataclass(frozen=True)
    class Config(BackendConfig):
        """Which weights, what runs them, and how images are seen.

        Attributes:
            weights: a name of `ros2-loc weights list`, the path of a checkpoint of the authors, or of a safetensors file of this project
                (`ros2-loc train d2det`).
            scales: of the size that the network is for; several are seen one after another, and what all find is put together.
            short_side_px, long_side_px: images are resized so that neither side is longer; 0 for the size that the network is for.
            flip: the mirror image is seen as well; takes twice as long.
            suppression: of boxes of one label that overlap: linear, as in the authors' tests of boxes; exponential; none, as in their tests
                of masks at one scale.
            max_detections: the best ones.
            min_score: others are left out.
            masks: false leaves the masks out that the network has.
            batch_size: images of one size in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "d2det_town"
        scales: tuple[float, ...] = (1.0,)
        short_side_px: int = 0
        long_side_px: int = 0
        flip: bool = False
        suppression: Literal["linear", "exponential", "none"] = "linear"
        max_detections: int = 100
        min_score: float = 0.05
        masks: bool = True
        batch_size: int = 2
        half: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            object.__setattr__(self, "scales", tuple(self.scales))
            if not self.scales or min(self.scales) <= 0 or len(set(self.scales)) != len(self.scales):
                raise ConfigError(f"d2det: scales are positive, each once, got {list(self.scales)}")
            if min(self.max_detections, self.batch_size) < 1 or not 0.0 <= self.min_score <= 1.0:
                raise ConfigError(
                    "d2det: max_detections and batch_size are positive, min_score lies in 0 to 1, got "
                    f"{self.max_detections}, {self.batch_size}, {self.min_score}"
                )
            if (self.short_side_px > 0) != (self.long_side_px > 0) or not 0 <= self.short_side_px <= self.long_side_px:
                raise ConfigError(
                    "d2det: short_side_px and long_side_px are both 0 or both positive, the short one no longer, got "
                    f"{self.short_side_px}, {self.long_side_px}"
                )

    name = "d2det"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._set_up(config, open_network(config.weights, D2Det, load_published), device)
        if config.backend != "torch":
            with_parts(self._network, open_parts(config, self.name, sha256(locate(config.weights)), device))

    @classmethod
    def of_network(cls, network: D2Det, config: Config, device: str = "cpu") -> D2det:
        """With a network that is there already, instead of the weights of `config`; a copy of it is used."""
        detector = cls.__new__(cls)
        detector._set_up(config, network, device)
        return detector

    def _set_up(self, config: Config, network: D2Det, device: str) -> None:
        self._config, self._device = config, device_of(self.name, device, config.half)
        self.labels, self.batch_size = network.config.labels, config.batch_size
        own = network.config
        self._sides_px = (config.short_side_px or own.short_side_px, config.long_side_px or own.long_side_px)
        self._network: D2Det = folded(network).to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not config.masks:
            self._network.roi_heads.masks = None

    def detect(self, frame: Frame) -> list[Detection]:
        """Objects in the whole image.

        Raises:
            DataError: the network gave numbers that are not finite.
        """
        return self.detect_many([frame])[0]

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """`detect` of each, images of one size in one pass."""
        found: list[list[_Found]] = [[] for _ in frames]
        for scale in self._config.scales:
            prepared = [_resized(frame, self._sides_px, scale) for frame in frames]
            for indices in groups(prepared, self.batch_size):
                for index, own in zip(indices, self._found([prepared[index] for index in indices]), strict=True):
                    found[index] += own
        return [self._detections(_joined(own), frame) for own, frame in zip(found, frames, strict=True)]

    @torch.inference_mode()
    def _found(self, prepared: Sequence[Prepared]) -> list[list[_Found]]:
        """What is seen in each image of one size, and in its mirror image."""
        pixels = torch.from_numpy(np.stack([one.image for one in prepared])).to(self._device)
        images = normalized(pixels.permute(0, 3, 1, 2).float() / 255.0)
        width, height = prepared[0].size
        images = torch.nn.functional.pad(images, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
        views = [self._seen(images, (height, width), prepared)]
        if self._config.flip:
            images = torch.nn.functional.pad(images[..., :height, :width].flip(3), (0, -width % MULTIPLE, 0, -height % MULTIPLE))
            mirrored = self._seen(images, (height, width), prepared)
            views.append([_unmirrored(one, width * each.ratio[0]) for one, each in zip(mirrored, prepared, strict=True)])
        return [list(own) for own in zip(*views, strict=True)]

    def _seen(self, images: Tensor, size: tuple[int, int], prepared: Sequence[Prepared]) -> list[_Found]:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            found = self._network.detect(ImageList(images, [size] * len(images)))
        return [_in_full(one, each) for one, each in zip(found, prepared, strict=True)]

    def _detections(self, found: _Found, frame: Frame) -> list[Detection]:
        size = (frame.camera.height, frame.camera.width)
        found = found._replace(boxes=np.clip(found.boxes, 0.0, np.array([size[1], size[0]] * 2, np.float32)))
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        found = _suppressed(found.select(np.flatnonzero((sides > 0).all(axis=1))), self._config.suppression)
        order = np.argsort(-found.scores, kind="stable")
        found = found.select(order[found.scores[order] >= self._config.min_score][: self._config.max_detections])
        masks: Sequence[NDArray[np.bool_] | None] = [None] * len(found.boxes)
        if found.masks is not None:
            boxes = torch.from_numpy(found.boxes).to(found.masks.device)
            masks = list(covered(found.masks, boxes, size).cpu().numpy())
        rows = zip(found.boxes, found.labels, found.scores, masks, strict=True)
        return [Detection(box, self.labels[int(label)], float(min(score, 1.0)), mask) for box, label, score, mask in rows]


def _resized(frame: Frame, sides_px: tuple[int, int], scale: float) -> Prepared:
    """The image with sides of at most `sides_px` times `scale`, short and long, as mmdet resizes it."""
    width, height = frame.camera.width, frame.camera.height
    factor = scale * min(sides_px[0] / min(width, height), sides_px[1] / max(width, height))
    size = (max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5)))
    image = frame.image if size == (width, height) else cv2.resize(frame.image, size, interpolation=cv2.INTER_LINEAR)
    return Prepared(image.astype(np.uint8, copy=False), None, np.array([width / size[0], height / size[1]]))


def _in_full(found: Mapping[str, Tensor], prepared: Prepared) -> _Found:
    """What the network found, in the full image."""
    boxes = prepared.to_full(found["boxes"].float().cpu().numpy().reshape(-1, 2, 2)).reshape(-1, 4).astype(np.float32)
    masks = found["masks"].float() if "masks" in found else None
    return _Found(boxes, found["labels"].cpu().numpy() - 1, found["scores"].double().cpu().numpy(), masks)


def _joined(found: Sequence[_Found]) -> _Found:
    masks = None if found[0].masks is None else torch.cat([one.masks for one in found if one.masks is not None])
    return _Found(
        np.concatenate([one.boxes for one in found]),
        np.concatenate([one.labels for one in found]),
        np.concatenate([one.scores for one in found]),
        masks,
    )


def _unmirrored(found: _Found, width: float) -> _Found:
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - found.boxes[:, [2, 0]]
    return found._replace(boxes=boxes, masks=None if found.masks is None else found.masks.flip(2))


def _suppressed(found: _Found, kind: Literal["linear", "exponential", "none"]) -> _Found:
    """What is left of each label, with the scores that are left."""
    if kind == "none":
        return found
    rows, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    for label in np.unique(found.labels):
        own = np.flatnonzero(found.labels == label)
        kept = soft_nms(found.boxes[own], found.scores[own], Decay(kind))
        rows.append(own[kept.indices])
        scores.append(kept.scores)
    return found.select(np.concatenate(rows))._replace(scores=np.concatenate(scores))
