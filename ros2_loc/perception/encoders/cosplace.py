"""CosPlace and EigenPlaces as encoders: a whole image by one vector of a network that was trained to tell places apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.errors import ConfigError
from ros2_loc.models.cosplace import MIN_EDGE_PX, CosPlace, load_published
from ros2_loc.models.imagenet import normalized
from ros2_loc.perception.backends import BackendConfig
from ros2_loc.perception.dense_network import in_place_of
from ros2_loc.perception.encoders.whole_image import ImageConfig, WholeImage
from ros2_loc.perception.networks import open_network


class Cosplace(WholeImage):
    """The network of a weight file, on one device or as an export."""

    @dataclass(frozen=True)
    class Config(BackendConfig, ImageConfig):
        """Which weights, what runs them, and how images are seen; the authors' evaluation keeps the full size.

        Attributes:
            weights: a name of `ros2-loc weights list`, the path of a checkpoint of the authors, or of a safetensors file of this project
                (`ros2-loc train cosplace`).
        """

        weights: str = "cosplace_resnet18_512"

        def __post_init__(self) -> None:
            BackendConfig.__post_init__(self)
            ImageConfig.__post_init__(self)

    name = "cosplace"
    min_edge_px = MIN_EDGE_PX

    def __init__(self, config: Config, device: str = "cpu") -> None:
        super().__init__(config, device)
        network = self._ready(open_network(config.weights, CosPlace, load_published))
        # as an export, eigenplaces is cosplace too
        self._network: Any = in_place_of(network, _only, "cosplace", config, device)
        fixed = getattr(self._network, "size", None)
        if fixed and fixed != config.size:
            raise ConfigError(f"{self.name}: {config.model} is for images of one size: set size: [{fixed[0]}, {fixed[1]}], for maps too")

    def _vectors(self, images: NDArray[np.uint8]) -> Tensor:
        return self._network(normalized(self._pixels(images)))  # type: ignore[no-any-return]


class Eigenplaces(Cosplace):
    """The same network, trained for robustness to the viewpoint."""

    @dataclass(frozen=True)
    class Config(Cosplace.Config):
        """As of CosPlace."""

        weights: str = "eigenplaces_resnet18_512"

    name = "eigenplaces"


def _only(descriptor: Tensor) -> Tensor:
    return descriptor
