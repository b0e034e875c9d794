"""Context-R2D2 on frames: R2D2's detection on features that know what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ros2_loc.errors import ConfigError
from ros2_loc.models.context_r2d2 import ContextR2D2
from ros2_loc.models.weights import load_model, name_of
from ros2_loc.perception.extractors.r2d2 import R2d2


class ContextR2d2(R2d2):
    """128-d descriptors of unit length; scores are reliability times repeatability, both of the final prediction."""

    @dataclass(frozen=True)
    class Config(R2d2.Config):
        """As of R2D2.

        Attributes:
            weights: path of a safetensors file that `ros2-loc train context-r2d2` wrote: its authors published none.
        """

        weights: str = ""

    name = "context_r2d2"

    def _load(self, weights: str) -> nn.Module:
        if not weights:
            raise ConfigError("context_r2d2: no weights were published: give those that `ros2-loc train context-r2d2` wrote as `weights`")
        network = load_model(weights)
        if not isinstance(network, ContextR2D2):
            raise ConfigError(f"{weights}: is of {name_of(network)}, here only context_r2d2 fits")
        return network
