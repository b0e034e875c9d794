"""SuperGlue as a matcher of SuperPoint's features, all references of a query in few passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ros2_loc.core.types import LocalFeatures, Matches
from ros2_loc.errors import ConfigError
from ros2_loc.models.superglue import Assignment, Points, SuperGlue, assigned, load_published, log_optimal_transport, normalized
from ros2_loc.perception.networks import device_of, open_network


class Superglue:
    """The network of a weight file, on one device; the score of a match is its probability."""

    @dataclass(frozen=True)
    class Config:
        """Which weights, and which matches.

        Attributes:
            weights: superglue_outdoor, superglue_indoor, the path of a checkpoint of the authors, or of a safetensors file of this project.
            match_threshold: a probability must be larger.
            sinkhorn_iterations: the paper has 100; 20 change little and take a fifth of that part's time.
            max_keypoints: the best of each image take part; time and memory grow with its square.
            batch_size: references in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "superglue_outdoor"
        match_threshold: float = 0.2
        sinkhorn_iterations: int = 100
        max_keypoints: int = 1024
        batch_size: int = 8
        half: bool = False

        def __post_init__(self) -> None:
            if min(self.sinkhorn_iterations, self.max_keypoints, self.batch_size) < 1 or not 0.0 <= self.match_threshold < 1.0:
                raise ConfigError(
                    "superglue: sinkhorn_iterations, max_keypoints and batch_size are positive, match_threshold in [0, 1), got "
                    f"{self.sinkhorn_iterations}, {self.max_keypoints}, {self.batch_size}, {self.match_threshold}"
                )

    name = "superglue"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        self._network = open_network(config.weights, SuperGlue, load_published).to(self._device)

    def match(self, query: LocalFeatures, reference: LocalFeatures) -> Matches:
        """Pairs that choose each other, in the order of the query's keypoints.

        Raises:
            ConfigError: features that are not SuperPoint's.
        """
        return self.match_many(query, [reference])[0]

    def match_many(self, query: LocalFeatures, references: list[LocalFeatures]) -> list[Matches]:
        """`match` with several references, those of similar size in one pass; raises as `match`."""
        for features in (query, *references):
            self._check(features)
        matches = [Matches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32)) for _ in references]
        filled = [index for index, features in enumerate(references) if len(features) and len(query)]
        filled.sort(key=lambda index: len(references[index]))
        for start in range(0, len(filled), self._config.batch_size):
            indices = filled[start : start + self._config.batch_size]
            found = self._assigned(query, [references[index] for index in indices])
            for row, index in enumerate(indices):
                matches[index] = _matches(found.partners[row], found.scores[row])
        return matches

    @torch.inference_mode()
    def _assigned(self, query: LocalFeatures, references: Sequence[LocalFeatures]) -> Assignment:
        first, second = self._points([query] * len(references)), self._points(references)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            scores = self._network.scores(*self._network.context(first, second))
        bin_score, iterations = self._network.bin_score, self._config.sinkhorn_iterations
        transport = log_optimal_transport(scores.float(), first.valid, second.valid, bin_score, iterations)
        return assigned(transport, self._config.match_threshold)

    def _points(self, features: Sequence[LocalFeatures]) -> Points:
        """Filled up with zeros to the largest."""
        limit = self._config.max_keypoints
        counts = [min(limit, len(one)) for one in features]
        positions = [normalized(torch.from_numpy(one.keypoints[:limit]), *one.size) for one in features]
        arrays = [[torch.from_numpy(array[:limit]) for array in (one.scores, one.descriptors)] for one in features]
        scores, descriptors = zip(*arrays, strict=True)
        valid = [torch.ones(count, dtype=torch.bool) for count in counts]
        return Points(*(self._filled(parts) for parts in (positions, scores, descriptors, valid)))

    def _filled(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True).to(self._device)

    def _check(self, features: LocalFeatures) -> None:
        dimension = features.descriptors.shape[1]
        wanted = self._network.config.dimension
        if features.extractor.startswith("superpoint") and dimension == wanted:
            return
        raise ConfigError(f"superglue: matches features of superpoint with {wanted} numbers, got {features.extractor} with {dimension}")


def _matches(partners: Tensor, scores: Tensor) -> Matches:
    rows = (partners >= 0).nonzero()[:, 0]
    indices = torch.stack([rows, partners[rows]], dim=1).to(torch.int32)
    return Matches(indices.cpu().numpy(), scores[rows].float().cpu().numpy())
