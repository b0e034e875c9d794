"""Re-ranking by a Reranking Transformer: it reads the best descriptors of both images and says whether they show one place.

Tan, Yuan, Ordonez, "Instance-level Image Retrieval using Reranking Transformers", ICCV 2021.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.rrt import Described, Rrt, load_published, scale_indices
from ros2_loc.perception.networks import device_of, open_network
from ros2_loc.retrieval.mutual_nearest import mutual_pairs
from ros2_loc.retrieval.rerankers.own_parts import OwnParts

# of an image without local features; no pair of images gets so little
NOTHING = -1e4
_NO_VECTOR = np.zeros(0, dtype=np.float32)
# tokens that are in the network at once: beyond a few images a CPU gains nothing
_CPU_TOKENS, _GPU_TOKENS = 2_000, 200_000


class RerankingTransformer:
    """The score is the network's logit, alone, as the authors rank."""

    @dataclass(frozen=True)
    class Config:
        """Which weights, of which descriptors.

        Attributes:
            weights: rrt_gld (with `extractor: {name: delg, ...}` and `encoder: {name: delg, ...}` whose weights give 128 numbers a cell and
                2048 an image), the path of a checkpoint of the authors, or of a safetensors file of this project.
            extractor: of the local features, its own section; {} for those of the map. They must be those that the network was trained on.
            encoder: of the global descriptor, its own section; {} where the network takes none.
            max_keypoints: of an image that take part, the best. The published network takes 100 ms of a core for a candidate with 500 of
                them, 28 ms with 200, 14 ms with 100; each needs 265 bytes in the map.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "rrt_gld"
        extractor: dict[str, Any] = field(default_factory=dict)
        encoder: dict[str, Any] = field(default_factory=dict)
        max_keypoints: int = 500
        half: bool = False

        def __post_init__(self) -> None:
            if self.max_keypoints < 1:
                raise ConfigError(f"rrt: max_keypoints is positive, got {self.max_keypoints}")

    name = "rrt"
    listwise = False

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        self._network: Rrt = open_network(config.weights, Rrt, load_published).to(self._device)
        _check_encoder(config, self._network.config.global_dimension)
        self._own = OwnParts(self.name, config.extractor, config.encoder, device)
        self.needs_image, self.needs_features, self.batch_size = self._own.need_image, self._own.need_features, self._own.batch_size

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        """The best local features and the global descriptor, as the network's tokens take them.

        Raises:
            ConfigError: descriptors of another length than the network takes.
        """
        return self.describe_many(None if frame is None else [frame], None if features is None else [features])[0]

    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        """`describe` of each."""
        local = self._own.features(frames, features)
        whole = self._own.vectors(frames) or [_NO_VECTOR] * len(local)
        return [self._evidence(*one) for one in zip(local, whole, strict=True)]

    @torch.inference_mode()
    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        """Logits; NOTHING where the query or the place has no local features.

        Raises:
            DataError: an image that was described with other weights.
        """
        self._check([query, *places])
        started = time.perf_counter()
        scores = np.full(len(places), NOTHING, dtype=np.float32)
        asked = self._batch([query])
        for indices in _groups(query, places, _GPU_TOKENS if self._device.type == "cuda" else _CPU_TOKENS):
            there = self._batch([places[index] for index in indices])
            with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
                scores[indices] = self._network.logits(asked, there).float().cpu().numpy()
        return PlaceScores(scores, stage_s={"matching": 0.0, "scoring": time.perf_counter() - started})

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """Local features that are most alike to each other: what the network makes of them can't be told pair by pair."""
        pairs = mutual_pairs(query.arrays["descriptors"], [place.arrays["descriptors"]])
        both = self.keypoints(query)[pairs.query], self.keypoints(place)[pairs.place]
        return PlaceMatches(*both, np.ones(len(pairs.query), dtype=bool))

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """Those that take part."""
        return evidence.arrays["keypoints"]

    @torch.inference_mode()
    def _evidence(self, features: LocalFeatures, vector: FloatArray) -> PlaceEvidence:
        best = features.select(slice(0, self._config.max_keypoints))  # type: ignore[arg-type]
        self._check_lengths(best, vector)
        scales = scale_indices(best.scales, self._unit_px(best))
        arrays = (vector[None], best.descriptors[None], scales[None], np.ones((1, len(best)), dtype=bool))
        reduced = self._network.reduced(Described(*(torch.from_numpy(array).to(self._device) for array in arrays)))
        tokens = {"vector": reduced.vector, "descriptors": reduced.descriptors}
        held = {name: tensor[0].to(torch.float16).cpu().numpy() for name, tensor in tokens.items()}
        return PlaceEvidence(self.name, held | {"keypoints": best.keypoints, "scales": scales.astype(np.int8)})

    def _unit_px(self, features: LocalFeatures) -> float:
        """Scales are told in pixels of the full image, and the network knows those of the image that the extractor saw."""
        limit = int(self._config.extractor.get("max_edge_px", 0))
        return self._network.config.scale_px * (max(1.0, max(features.size) / limit) if limit else 1.0)

    def _check_lengths(self, features: LocalFeatures, vector: FloatArray) -> None:
        wanted, own = (self._network.config.local_dimension, self._network.config.global_dimension), self._config.weights
        given = (features.descriptors.shape[1], len(vector))
        if given != wanted:
            raise ConfigError(
                f"rrt: {own} takes {wanted[0]} numbers of a keypoint and {wanted[1]} of an image, {features.extractor} and the encoder "
                f"give {given[0]} and {given[1]}: name the extractor and encoder that it was trained on"
            )

    def _check(self, images: Sequence[PlaceEvidence]) -> None:
        config = self._network.config
        own = (config.dimension, config.dimension if config.global_dimension else 0)
        for one in images:
            held = (one.arrays["descriptors"].shape[1], len(one.arrays["vector"]))
            if held != own:
                raise DataError(f"rrt: an image was described by {held} numbers, {self._config.weights} gives {own}: build the map again")

    def _batch(self, images: Sequence[PlaceEvidence]) -> Described:
        descriptors, scales = (
            pad_sequence([torch.from_numpy(one.arrays[name]) for one in images], batch_first=True).to(self._device)
            for name in ("descriptors", "scales")
        )
        counts = torch.tensor([len(one.arrays["scales"]) for one in images], device=self._device)
        vectors = torch.from_numpy(np.stack([one.arrays["vector"] for one in images])).to(self._device)
        valid = torch.arange(scales.shape[1], device=self._device) < counts[:, None]
        return Described(vectors.float(), descriptors.float(), scales.long(), valid)


def _check_encoder(config: RerankingTransformer.Config, dimension: int) -> None:
    if dimension and not config.encoder:
        raise ConfigError(
            f"rrt: {config.weights} takes global descriptors of {dimension} numbers: name their encoder, and the extractor it goes with, "
            "for instance encoder: {name: delg}, extractor: {name: delg}"
        )
    if config.encoder and not dimension:
        raise ConfigError(f"rrt: {config.weights} takes no global descriptor: leave the encoder out")


def _groups(query: PlaceEvidence, places: Sequence[PlaceEvidence], limit: int) -> Iterator[list[int]]:
    """Indices of places of about as many keypoints, so that little is filled up, at most `limit` tokens; none without keypoints."""
    count, sizes = len(query.arrays["scales"]), [len(place.arrays["scales"]) for place in places]
    order = sorted((index for index, size in enumerate(sizes) if size and count), key=lambda index: -sizes[index])
    while order:
        number = max(1, limit // (count + sizes[order[0]]))
        yield order[:number]
        order = order[number:]
