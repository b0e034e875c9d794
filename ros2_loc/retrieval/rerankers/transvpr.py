"""Re-ranking by TransVPR: patches to which the transformer attends, matched and checked for geometry.

Wang et al., "TransVPR: Transformer-Based Place Recognition with Multi-Level Attention Aggregation", CVPR 2022, section 3.3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.errors import ConfigError
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.transvpr import TransVpr, load_published
from ros2_loc.perception.fixed_size import at_size, usable_shares
from ros2_loc.perception.networks import device_of, open_network
from ros2_loc.retrieval.mutual_nearest import mutual_pairs
from ros2_loc.retrieval.rerankers.patch_scores import CELL_PX, Geometry, Patches, check_size, grid, verified


class Transvpr:
    """The score is the number of patches that agree with one homography."""

    @dataclass(frozen=True)
    class Config:
        """Which weights, which patches, and how they are compared.

        Attributes:
            weights: transvpr_msls, transvpr_pitts30k, the path of a checkpoint of the authors, or of a safetensors file of this project.
            min_attention: of 0 to 1 in each image; patches up to it take no part.
            threshold_px: of RANSAC, in the resized image.
            geometry: exact: as said; authors: as in their code, with OpenCV's RANSAC, and where patches of too little attention stay with
                descriptors of zeros, which may match.
            antialias: smooth images before they are made smaller; the published code did not, with the torchvision of its time.
            image_size: width and height that every image is resized to, px.
            batch_size: images in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "transvpr_msls"
        min_attention: float = 0.02
        threshold_px: float = 24.0
        geometry: Geometry = "exact"
        antialias: bool = True
        image_size: tuple[int, int] = (640, 480)
        batch_size: int = 1
        half: bool = False

        def __post_init__(self) -> None:
            object.__setattr__(self, "image_size", tuple(self.image_size))
            if not 0.0 <= self.min_attention < 1.0 or self.threshold_px <= 0 or self.batch_size < 1:
                raise ConfigError(
                    "transvpr: min_attention is in [0, 1), threshold_px and batch_size are positive, got "
                    f"{self.min_attention}, {self.threshold_px}, {self.batch_size}"
                )
            check_size("transvpr", self.image_size, 1)

    name = "transvpr"
    needs_image = True
    needs_features = False
    listwise = False

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        self._network = open_network(config.weights, TransVpr, load_published).to(self._device)
        self._comparison = TokenComparison(config, device)
        self.batch_size = config.batch_size

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        """The patches that are attended to, of the whole image or of what is unmasked by half and more."""
        assert frame is not None, "transvpr looks at the image"
        return self.describe_many([frame], None)[0]

    @torch.inference_mode()
    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        """`describe` of each, `batch_size` in one pass."""
        assert frames is not None, "transvpr looks at the image"
        found = []
        for start in range(0, len(frames), self.batch_size):
            some = frames[start : start + self.batch_size]
            images = normalized(at_size(some, self._config.image_size, self._device, self._config.antialias))
            with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
                described = self._network(images)
            patches, attention = (array.float().cpu().numpy() for array in (described.patches, described.attention))
            found += [self._evidence(*of_image) for of_image in zip(some, patches, attention, strict=True)]
        return found

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        """Numbers of inliers."""
        return self._comparison.score(query, places)

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """Middles of patches that chose each other."""
        return self._comparison.matches(query, place)

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """Middles of the patches that take part."""
        return self._comparison.keypoints(evidence)

    def _evidence(self, frame: Frame, descriptors: FloatArray, attention: FloatArray) -> PlaceEvidence:
        columns, rows = (side // CELL_PX for side in self._config.image_size)
        shares = usable_shares(frame, (columns, rows))
        kept = np.ones(len(attention), dtype=bool) if shares is None else shares.ravel() >= 0.5
        patches = self._comparison.attended(Patches(descriptors[kept], grid(columns, rows)[kept]), attention[kept])
        size = np.array([frame.camera.width, frame.camera.height], dtype=np.int32)
        return PlaceEvidence(self.name, {"descriptors": patches.descriptors.astype(np.float16), "cells": patches.cells, "size": size})


class TokenComparison:
    """What is done with the patches of images, without a network."""

    def __init__(self, config: Transvpr.Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device

    def attended(self, patches: Patches, attention: NDArray) -> Patches:
        """The patches that take part: `attention` (n,) must be larger than `min_attention`."""
        kept = attention > self._config.min_attention
        if self._config.geometry == "authors":
            return Patches(patches.descriptors * kept[:, None], patches.cells)
        return Patches(patches.descriptors[kept], patches.cells[kept])

    def score(self, query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> PlaceScores:
        """As `Transvpr.score`."""
        if not places:
            return PlaceScores(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int32))
        started = time.perf_counter()
        asked, there = _patches(query), [_patches(place) for place in places]
        pairs = mutual_pairs(asked.descriptors, [place.descriptors for place in there], self._device)
        matched = time.perf_counter()
        found = verified(pairs, asked, there, self._config.threshold_px, self._config.geometry).inliers_per_place
        seconds = {"matching": matched - started, "scoring": time.perf_counter() - matched}
        return PlaceScores(found.astype(np.float32), found, seconds)

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """As `Transvpr.matches`."""
        asked, there = _patches(query), _patches(place)
        pairs = mutual_pairs(asked.descriptors, [there.descriptors], self._device)
        agreeing = verified(pairs, asked, [there], self._config.threshold_px, self._config.geometry).inlier_mask
        return PlaceMatches(self.keypoints(query)[pairs.query], self.keypoints(place)[pairs.place], agreeing)

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """As `Transvpr.keypoints`."""
        ratio = evidence.arrays["size"] / np.array(self._config.image_size)
        return (_patches(evidence).centres_px() * ratio).astype(np.float32)


def _patches(evidence: PlaceEvidence) -> Patches:
    return Patches(evidence.arrays["descriptors"], evidence.arrays["cells"])
