"""VLAD of local features with a codebook that is trained on the map itself: no weights to download, no domain gap.

Jegou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010; intra-normalization from Arandjelovic and
Zisserman, "All about VLAD", CVPR 2013, section 4; signed square root ("power law") from Jegou et al., PAMI 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from ros2_loc.core.types import FloatArray, Frame, GlobalDescriptor, LocalFeatures
from ros2_loc.errors import DataError


class Vlad:
    """K x D vector of residuals to the nearest of K words, normalized by word and as a whole."""

    @dataclass(frozen=True)
    class Config:
        """Codebook size and how much of the map it is trained on."""

        num_words: int = 64
        max_training_descriptors: int = 200_000
        seed: int = 0

    name = "vlad"
    needs_image = False
    needs_features = True
    batch_size = 1

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._words: FloatArray | None = None

    def fit(self, features: Sequence[LocalFeatures]) -> dict[str, Any]:
        """k-means over descriptors of the map's images; returns {"words": (K, D) float32}.

        Raises:
            DataError: fewer descriptors than words.
        """
        descriptors = np.concatenate([f.descriptors for f in features])
        if len(descriptors) < self._config.num_words:
            raise DataError(f"{len(descriptors)} descriptors are too few for a codebook of {self._config.num_words} words: add images")
        rng = np.random.default_rng(self._config.seed)
        chosen = rng.permutation(len(descriptors))[: self._config.max_training_descriptors]
        kmeans = faiss.Kmeans(descriptors.shape[1], self._config.num_words, niter=20, seed=self._config.seed, min_points_per_centroid=1)
        kmeans.train(np.ascontiguousarray(descriptors[chosen], dtype=np.float32))
        self._words = np.asarray(kmeans.centroids, dtype=np.float32)
        return {"words": self._words}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `fit` returned.

        Raises:
            DataError: the state has no codebook of the configured size.
        """
        words = np.asarray(state.get("words", np.zeros((0, 0))), dtype=np.float32)
        if words.ndim != 2 or len(words) != self._config.num_words:
            raise DataError(
                f"the map's codebook has shape {words.shape}, the pipeline wants {self._config.num_words} words: "
                "build the map with this pipeline"
            )
        self._words = words

    def encode_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[GlobalDescriptor]:
        """`encode` of each."""
        assert features is not None, "VLAD is made of local features"
        return [self.encode(None, each) for each in features]

    def encode(self, frame: Frame | None, features: LocalFeatures | None) -> GlobalDescriptor:
        """From the features alone. An image without keypoints gets the first unit vector, which is far from all others."""
        assert self._words is not None, "fit or restore comes first"
        assert features is not None, "VLAD is made of local features"
        k, d = self._words.shape
        vlad = np.zeros((k, d), dtype=np.float32)
        if len(features):
            similarity = features.descriptors @ self._words.T - 0.5 * (self._words**2).sum(axis=1)
            nearest = similarity.argmax(axis=1)
            membership = np.zeros((k, len(features)), dtype=np.float32)
            membership[nearest, np.arange(len(features))] = 1.0
            vlad = membership @ features.descriptors - membership.sum(axis=1, keepdims=True) * self._words
        vlad /= np.maximum(np.linalg.norm(vlad, axis=1, keepdims=True), 1e-12)
        vector = np.sign(vlad.ravel()) * np.sqrt(np.abs(vlad.ravel()))
        norm = float(np.linalg.norm(vector))
        if norm < 1e-6:
            vector[0], norm = 1.0, 1.0
        return GlobalDescriptor((vector / norm).astype(np.float32), self.name)
