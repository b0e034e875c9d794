"""NetVLAD as an encoder: residuals of VGG16's features to learned clusters, whitened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.errors import ConfigError
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.patch_netvlad import NetVlad, load_published, truncated
from ros2_loc.perception.encoders.whole_image import ImageConfig, WholeImage
from ros2_loc.perception.networks import open_network


class Netvlad(WholeImage):
    """The global descriptor of Patch-NetVLAD's weights, which are NetVLAD's."""

    @dataclass(frozen=True)
    class Config(ImageConfig):
        """Which weights, how long the descriptor is, and how images are seen.

        Attributes:
            weights: a name of `ros2-loc weights list`, the path of a checkpoint of the authors, or of a safetensors file of this project.
            num_pcs: leading components of the whitening that are kept; 0 for what the weights have.
            size: the authors' by default.
        """

        weights: str = "patchnetvlad_pittsburgh_4096"
        num_pcs: int = 512
        size: tuple[int, ...] = (640, 480)

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.num_pcs < 0:
                raise ConfigError(f"netvlad: num_pcs is not negative, got {self.num_pcs}")

    name = "netvlad"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        super().__init__(config, device)
        network = open_network(config.weights, NetVlad, load_published)
        self._network = self._ready(truncated(network, config.num_pcs, config.weights) if config.num_pcs else network)

    def _vectors(self, images: NDArray[np.uint8]) -> Tensor:
        return self._network.descriptor(normalized(self._pixels(images)))
