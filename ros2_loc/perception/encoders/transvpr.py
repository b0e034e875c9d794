"""TransVPR as an encoder: patches pooled by the attention of three levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.models.imagenet import normalized
from ros2_loc.models.transvpr import STRIDE_PX, TransVpr, load_published
from ros2_loc.perception.encoders.whole_image import ImageConfig, WholeImage
from ros2_loc.perception.networks import open_network


class TransvprGlobal(WholeImage):
    """The global descriptor alone, 256 numbers of the published weights."""

    @dataclass(frozen=True)
    class Config(ImageConfig):
        """Which weights, and how images are seen.

        Attributes:
            weights: transvpr_msls, transvpr_pitts30k, the path of a checkpoint of the authors, or of a safetensors file of this project.
            size: the authors' by default; sides are multiples of 16 px.
        """

        weights: str = "transvpr_msls"
        size: tuple[int, ...] = (640, 480)

    name = "transvpr"
    multiple = STRIDE_PX

    def __init__(self, config: Config, device: str = "cpu") -> None:
        super().__init__(config, device)
        self._network = self._ready(open_network(config.weights, TransVpr, load_published))

    def _vectors(self, images: NDArray[np.uint8]) -> Tensor:
        return self._network.descriptor(normalized(self._pixels(images)))
