"""Of which kind a photo is: taken by day or at night, in a room or outdoors.

Day and night are told apart without weights, by a rule over brightness: good for a first sorting, not for the last word (docs/places.md
says how often it errs). A network of the user's takes its place as an ONNX file. Rooms are told from streets by such a network only: no
simple rule that was tried is better than a coin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ros2_loc.errors import DataError
from ros2_loc.io.files import read_text
from ros2_loc.io.images import RGB, resize_image
from ros2_loc.perception.backends import OnnxRunner

DAY, NIGHT = "day", "night"
_SMALL_PX = (192, 128)
_NIGHT_LIGHT_VALUE, _PER_STOP = 7.0, 0.9  # halfway between sunset and lit streets, and how sure a factor of two makes
_SKY_GREY, _MEDIAN_GREY, _SLOPE = 85.0, 62.0, 14.0  # between the darkest days of KITTI and the brightest synthetic nights
_IMAGENET_MEAN, _IMAGENET_STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
_DEFAULT_PX = (224, 224)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A label and how sure it is, 0 to 1 (of the built-in rules no more than an order)."""

    label: str
    score: float


class PhotoClassifier(Protocol):
    """Tells of which kind a photo is.

    Attributes:
        name: what it is, for the record; changes when its answers may.
    """

    name: str

    def classify(self, image: RGB, light_value: float | None) -> Verdict:
        """The kind of an upright image (H, W, 3) uint8 RGB; `light_value` by its EXIF (`io.photos.Photo`), where it has one."""
        ...


class BrightnessDayNight:
    """Day or night by the light value, where EXIF tells it, otherwise by the picture: by day a bright sky stands over most columns."""

    name = "brightness 1"

    def classify(self, image: RGB, light_value: float | None) -> Verdict:
        """`DAY` or `NIGHT`."""
        if light_value is not None:
            return _either(NIGHT, DAY, (_NIGHT_LIGHT_VALUE - light_value) * _PER_STOP)
        small = _grey(image)
        sky = float(np.median(small[: len(small) // 3].max(axis=0)))
        median = float(np.median(small))
        return _either(NIGHT, DAY, (_SKY_GREY - sky) / _SLOPE + (_MEDIAN_GREY - median) / _SLOPE)


class OnnxClassifier:
    """A network of the user's: RGB over 255, less ImageNet's mean, by its deviation; (1, 3, H, W) in, a number for each label out."""

    def __init__(self, model: str | Path, labels: Sequence[str] = ()) -> None:
        """Opens a file.

        Args:
            model: ONNX. A fixed input size is kept to; otherwise images are made 224 px wide and high.
            labels: of its outputs in their order; by default the words in the file beside it that ends in `.txt`.

        Raises:
            DataError: no such file, no ONNX, or no labels.
        """
        self._path = Path(model)
        self.labels = tuple(labels) or tuple(read_text(self._path.with_suffix(".txt"), "labels, one in a line").split())
        self._runner = OnnxRunner(self._path)
        self.name = f"{self._path.name} {','.join(self.labels)}"

    def classify(self, image: RGB, light_value: float | None) -> Verdict:
        """The label of the greatest output.

        Raises:
            DataError: as many outputs as labels are expected.
        """
        pixels = resize_image(image, *(self._runner.size or _DEFAULT_PX)).astype(np.float32) / np.float32(255)
        batch = ((pixels - _IMAGENET_MEAN) / _IMAGENET_STD).transpose(2, 0, 1)[None]
        out = np.ravel(self._runner.run(np.ascontiguousarray(batch))[0]).astype(np.float64)
        if len(out) != len(self.labels) or not np.isfinite(out).all():
            raise DataError(f"{self._path}: gives {len(out)} numbers for {len(self.labels)} labels; give one label for each, in order")
        share = out if (out >= 0).all() and abs(out.sum() - 1) < 1e-3 else softmax(out)
        best = int(share.argmax())
        return Verdict(self.labels[best], float(share[best]))


def _grey(image: RGB) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(resize_image(image, *_SMALL_PX), cv2.COLOR_RGB2GRAY), np.uint8)


def _either(yes: str, no: str, score: float) -> Verdict:
    share = float(1 / (1 + np.exp(-np.clip(score, -30, 30))))
    return Verdict(yes, share) if share >= 0.5 else Verdict(no, 1 - share)
