"""Extractor and encoder that a re-ranker brings itself, where it does not take what the map has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ros2_loc import registry
from ros2_loc.core.interfaces import Encoder, Extractor
from ros2_loc.core.types import FloatArray, Frame, LocalFeatures
from ros2_loc.errors import ConfigError


class OwnParts:
    """Of one re-ranker, by the sections of its configuration; {} for none."""

    def __init__(self, reranker: str, extractor: Mapping[str, Any], encoder: Mapping[str, Any], device: str) -> None:
        """Opens the plugins.

        Raises:
            ConfigError: an encoder that learns from each map.
        """
        self._reranker = reranker
        self.extractor: Extractor | None = registry.create("extractor", extractor, device) if extractor else None
        self.encoder: Encoder | None = registry.create("encoder", encoder, device) if encoder else None
        if self.encoder is not None and self.encoder.needs_features:
            raise ConfigError(f"{reranker}: encoder {self.encoder.name} learns from each map; take one that looks at the image alone")

    @property
    def need_image(self) -> bool:
        """Whether they look at images."""
        return self.extractor is not None or self.encoder is not None

    @property
    def need_features(self) -> bool:
        """Whether the map's features are taken."""
        return self.extractor is None

    @property
    def batch_size(self) -> int:
        """How many images at once suit both."""
        return max(self.extractor.batch_size if self.extractor else 1, self.encoder.batch_size if self.encoder else 1)

    def features(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> Sequence[LocalFeatures]:
        """Local features of the frames, the given ones where there is no extractor."""
        if self.extractor is not None:
            return self.extractor.extract_many(frames or [])
        assert features is not None, f"without an extractor of its own, {self._reranker} compares the map's features"
        return features

    def vectors(self, frames: Sequence[Frame] | None) -> list[FloatArray] | None:
        """Global descriptors of the frames; None without an encoder."""
        if self.encoder is None:
            return None
        assert frames is not None, f"{self._reranker} with an encoder of its own looks at images"
        return [one.vector for one in self.encoder.encode_many(frames, None)]
