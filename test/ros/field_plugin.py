"""A cross-view encoder without a network, for nodes in this process and in others: the truth travels in the pixels of tiny images.

The world is that of test/localization/conftest.py: a smooth random field on the ground, which images and tiles sample with noise.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Frame, GroundFeatures


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


field = _load("field_world", Path(__file__).resolve().parents[1] / "localization" / "conftest.py")
PIPELINE = "encoder: {name: field}\nfilter: {independent_m: 5.0}\n"
WIDTH, HEIGHT = field.CAMERA.width, field.CAMERA.height


def world(seed: int = 0) -> Any:
    """Easy enough that 35 m of a drive decide."""
    return field.FieldWorld(side_m=200.0, seed=seed, noise=0.3, query_noise=0.3)


def image_of(east_m: float, north_m: float, yaw_rad: float) -> NDArray[np.uint8]:
    """(4, 8, 3) RGB whose first bytes are the true pose of base_link."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels.reshape(-1)[:12] = np.frombuffer(np.array([east_m, north_m, yaw_rad], dtype="<f4").tobytes(), dtype=np.uint8)
    return pixels


class FieldVideo(field.FieldEncoder):  # type: ignore[name-defined, misc]
    """The encoder as a plugin."""

    @dataclass(frozen=True)
    class Config:
        """Attributes:
        seed: of the world, and the encoder's fingerprint.
        """

        seed: int = 0

    def __init__(self, config: Config, device: str = "cpu") -> None:
        super().__init__(world(config.seed))

    def encode_frame(self, frame: Frame) -> GroundFeatures:
        """The pose in the pixels."""
        pose = np.frombuffer(frame.image.reshape(-1)[:12].tobytes(), dtype="<f4")
        self.encoded += 1
        return GroundFeatures(pose.reshape(3, 1, 1).astype(np.float32), frame.camera, frame.base_from_camera, self.fingerprint)
