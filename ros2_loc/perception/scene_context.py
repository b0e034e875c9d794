"""What moves, or will have moved by tomorrow: where in an image no keypoint is trusted, and whose keypoints count less.

A parked car is as good as a wall while it stands there, and a lie in a map of last week: what can move is masked whether it moves or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.config import build
from ros2_loc.core.interfaces import Detector
from ros2_loc.core.labels import MOVERS, plain_label
from ros2_loc.core.types import Detection, FloatArray, Frame, LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weight_files import locate, sha256

BoolArray = NDArray[np.bool_]

_MOVERS = frozenset(map(plain_label, MOVERS))


@dataclass(frozen=True)
class SceneContextConfig:
    """What detections say of keypoints.

    Attributes:
        labels: what is masked; empty for all that can move (`core.labels.MOVERS`).
        min_score: detections below it are not used. A thing that is masked for nothing costs few keypoints, a missed one may cost the pose.
        margin_px, margin_share: how far a mask reaches beyond the object, px, and in shares of its box's shorter side (both are added):
            descriptors see that far, and detections are not exact.
        shape: mask: the detection's mask where it has one, else its box; box: always the box.
        weights: label -> factor on the scores of keypoints on such objects, which are then not masked: above 0; above 1 prefers them.
        max_keypoints: so many keypoints are kept, best first after the factors; 0 for all. To choose among more, let the extractor find
            more.
    """

    labels: tuple[str, ...] = ()
    min_score: float = 0.3
    margin_px: float = 4.0
    margin_share: float = 0.04
    shape: Literal["mask", "box"] = "mask"
    weights: dict[str, float] = field(default_factory=dict)
    max_keypoints: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if not 0.0 <= self.min_score <= 1.0 or min(self.margin_px, self.margin_share, self.max_keypoints) < 0:
            raise ConfigError(
                "context: min_score lies in 0 to 1, margins and max_keypoints are not negative, got "
                f"{self.min_score}, {self.margin_px}, {self.margin_share}, {self.max_keypoints}"
            )
        for label, factor in self.weights.items():
            if not 0.0 < factor < np.inf:
                raise ConfigError(f"context: the weight of {label!r} is above 0, got {factor}; to mask it, leave it out of weights")
        if twice := sorted(set(self.labels) & set(self.weights)):
            raise ConfigError(f"context: {twice[0]!r} is in labels and in weights: it is either masked or weighted")

    def masks(self, label: str) -> bool:
        """Whether objects of this label are masked."""
        if label in self.weights:
            return False
        return label in self.labels if self.labels else plain_label(label) in _MOVERS


def static_mask(detections: Sequence[Detection], size: tuple[int, int], config: SceneContextConfig) -> BoolArray:
    """(H, W) True where nothing is seen that can move, with the margin.

    Args:
        detections: of an image; boxes without an area or outside of the image mask nothing.
        size: (H, W) px of that image.

    Raises:
        DataError: a detection's mask is not of that size.
    """
    seen = np.zeros(size, dtype=bool)
    for detection in detections:
        if detection.score >= config.min_score and config.masks(detection.label):
            _cover(seen, detection, config)
    return ~seen


def masked(frame: Frame, detections: Sequence[Detection], config: SceneContextConfig) -> Frame:
    """The frame with what can move masked, beside what its mask hides already; raises as `static_mask`."""
    height, width = frame.image.shape[:2]
    mask = static_mask(detections, (height, width), config)
    return replace(frame, mask=mask if frame.mask is None else mask & frame.mask)


class SceneContext:
    """A detector, and what its detections mean for keypoints."""

    Config = SceneContextConfig

    def __init__(self, config: SceneContextConfig, detector: Detector, provenance: Mapping[str, Any] | None = None) -> None:
        """
        Args:
            provenance: what to store with a map: name, weights and their hash (`SceneContext.open` knows them).

        Raises:
            ConfigError: the detector knows nothing that is to be masked or weighted, or not one that is named.
        """
        known = detector.labels
        if strange := sorted((set(config.labels) | set(config.weights)) - set(known)):
            raise ConfigError(f"context: {detector.name} does not know {strange[0]!r}; it knows {', '.join(known)}")
        masked = tuple(label for label in known if config.masks(label))
        if not masked and not config.weights:
            what = f"nothing that {detector.name} knows can move ({', '.join(known)})"
            raise ConfigError(f"context: {what}: name what to mask in context.labels")
        self._config, self._detector = config, detector
        self.provenance: dict[str, Any] = {"name": detector.name, **(provenance or {}), "labels": list(masked)}

    @staticmethod
    def open(detector: Mapping[str, Any], config: SceneContextConfig, device: str = "cpu") -> SceneContext | None:
        """That of a pipeline's sections; None where the section `detector` is empty.

        Raises:
            ConfigError, DataError: as the plugin's constructor; weights that are not there.
        """
        if not detector:
            return None
        return SceneContext(config, registry.create("detector", detector, device), provenance_of(detector))

    @property
    def batch_size(self) -> int:
        """How many images the detector likes to get at once."""
        return self._detector.batch_size

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """What the detector sees in each."""
        return self._detector.detect_many(frames)

    def detect(self, frame: Frame) -> list[Detection]:
        """What the detector sees."""
        return self._detector.detect(frame)

    def masked(self, frame: Frame, detections: Sequence[Detection]) -> Frame:
        """The frame with what can move masked (`masked` of this module)."""
        return masked(frame, detections, self._config)

    def factors(self, features: LocalFeatures, detections: Sequence[Detection]) -> FloatArray:
        """(N,) by how much each keypoint counts: the weight of the best detection that it lies on, 1 elsewhere."""
        config, (width, height) = self._config, features.size
        factors = np.ones(len(features), dtype=np.float32)
        column, row = np.floor(features.keypoints.T).astype(np.int64)
        column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
        for detection in sorted(detections, key=lambda d: d.score):
            if detection.score >= config.min_score and detection.label in config.weights:
                seen = np.zeros((height, width), dtype=bool)
                _cover(seen, detection, config)
                factors[seen[row, column]] = config.weights[detection.label]
        return factors

    def weighted(self, features: LocalFeatures, detections: Sequence[Detection]) -> LocalFeatures:
        """The features with scores times `factors`, best first again, of which `max_keypoints` are kept; as they are without weights."""
        config = self._config
        if not config.weights and not config.max_keypoints:
            return features
        weighted = replace(features, scores=features.scores * self.factors(features, detections))
        x, y = features.keypoints.T
        order = np.lexsort((y, x, -weighted.scores))
        return weighted.select(order[: config.max_keypoints or None])


def provenance_of(detector: Mapping[str, Any]) -> dict[str, Any]:
    """Which weights a section `detector` has: their name and hash, {} where the plugin has none.

    Raises:
        ConfigError, DataError: no such plugin or weights.
    """
    values = {key: value for key, value in detector.items() if key != "name"}
    config = build(registry.resolve("detector", str(detector.get("name"))).Config, values, "detector")  # type: ignore[attr-defined]
    weights = getattr(config, "weights", "")
    return {"weights": str(weights), "sha256": sha256(locate(weights))} if weights else {}


def _cover(seen: BoolArray, detection: Detection, config: SceneContextConfig) -> None:
    """Set what the detection covers, with the margin."""
    height, width = seen.shape
    x0, y0, x1, y1 = (float(value) for value in detection.box)
    if x1 <= x0 or y1 <= y0:
        return
    margin = config.margin_px + config.margin_share * min(x1 - x0, y1 - y0)
    mask = detection.mask if config.shape == "mask" else None
    if mask is not None and mask.shape != seen.shape:
        raise DataError(f"the mask of a {detection.label} is {mask.shape[1]}x{mask.shape[0]}, its image {width}x{height}")
    # pixels whose centre lies within the grown box
    left, right = _pixels(x0 - margin, x1 + margin, width)
    top, bottom = _pixels(y0 - margin, y1 + margin, height)
    if left >= right or top >= bottom:
        return
    part = (slice(top, bottom), slice(left, right))
    seen[part] |= True if mask is None else _grown(mask[part], margin)


def _pixels(low: float, high: float, size: int) -> tuple[int, int]:
    """First pixel, and the one after the last, with a centre between `low` and `high`."""
    first, after = (int(np.clip(np.ceil(edge - 0.5), 0, size)) for edge in (low, high))
    return first, after


def _grown(mask: BoolArray, margin_px: float) -> BoolArray:
    """All within the margin of the mask (a disc)."""
    if margin_px < 1.0 or not mask.any():
        return mask
    away_px = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away_px <= margin_px)
