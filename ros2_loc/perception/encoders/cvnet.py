"""CVNet's global descriptor as an encoder: the mean of three scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.models.cvnet import CvNet, load_published
from ros2_loc.models.pycls_resnet import normalized
from ros2_loc.perception.encoders.whole_image import ScaledImageConfig, WholeImage
from ros2_loc.perception.image_scales import mean_descriptor, pixels_at_scale
from ros2_loc.perception.networks import open_network


class CvnetGlobal(WholeImage):
    """The global head alone: nothing is correlated."""

    @dataclass(frozen=True)
    class Config(ScaledImageConfig):
        """Which weights, and how images are seen.

        Attributes:
            weights: cvnet_r50, cvnet_r101, the path of a checkpoint of the authors, or of a safetensors file of this project.
        """

        weights: str = "cvnet_r50"

    name = "cvnet"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        super().__init__(config, device)
        self._scales = config.scales
        self._network = self._ready(open_network(config.weights, CvNet, load_published))

    def _vectors(self, images: NDArray[np.uint8]) -> Tensor:
        levels = [normalized(pixels_at_scale(list(images), scale, self._device)) for scale in self._scales]
        return mean_descriptor([self._network.descriptor(level).float() for level in levels])
