"""Re-ranking by LoFTR, which needs no keypoints: the more cells of two images choose each other, the more they show one place."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.errors import ConfigError
from ros2_loc.models.loftr import (
    CELL_PX,
    THRESHOLD,
    Cells,
    Encoding,
    LoFTR,
    confidences,
    load_published,
    matched,
    positions,
    refined,
    refined_positions,
)
from ros2_loc.perception.extractors.scaling import prepare
from ros2_loc.perception.networks import device_of, open_network
from ros2_loc.retrieval.scoring.ransac import fit_many


class _Matched(NamedTuple):
    """Matches of several places: (M,) which place, (M, 2) px of the resized images."""

    owner: NDArray[np.int64]
    query_px: NDArray[np.float64]
    place_px: NDArray[np.float64]


class Loftr:
    """The score is the number of matches, or of those that agree with one transform.

    What of an image needs no other image (the backbone and the first attention) is done once, when it is described. A cell of 8x8 px takes
    512 bytes and its pixels another 64: 1.1 MB for an image of 1242x375 px at 640 px, 1.9 MB at 840 px. With `keep: image` it is 0.1 MB,
    and the backbone runs for every candidate.
    """

    @dataclass(frozen=True)
    class Config:
        """Which weights, how images are seen, and what counts.

        Attributes:
            weights: loftr_outdoor, the path of a checkpoint of the authors, or of a safetensors file of this project.
            encoding: of positions, that a checkpoint of the authors was trained with: buggy for their first (outdoor_ds, indoor_ds), fixed
                for indoor_ds_new.
            min_confidence: of a match must be exceeded.
            max_edge_px: larger images are made smaller until their long edge has so many pixels; the authors' is 840.
            keep: of an image: features, or image alone, which is small and slow.
            verify: none: all matches count; homography or affine: those that RANSAC finds to agree with one.
            threshold_px: of RANSAC, in the resized image, where matches lie on a grid of 8 px.
            batch_size: pairs, and images, in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "loftr_outdoor"
        encoding: Encoding = "buggy"
        min_confidence: float = THRESHOLD
        max_edge_px: int = 640
        keep: Literal["features", "image"] = "features"
        verify: Literal["none", "homography", "affine"] = "none"
        threshold_px: float = 12.0
        batch_size: int = 4
        half: bool = False

        def __post_init__(self) -> None:
            if not 0.0 <= self.min_confidence < 1.0 or self.threshold_px <= 0 or self.batch_size < 1 or self.max_edge_px < 0:
                raise ConfigError(
                    "loftr: min_confidence is in [0, 1), threshold_px and batch_size are positive, max_edge_px not negative, got "
                    f"{self.min_confidence}, {self.threshold_px}, {self.batch_size}, {self.max_edge_px}"
                )

    name = "loftr"
    needs_image = True
    needs_features = False
    listwise = False

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        self._network = open_network(config.weights, LoFTR, partial(load_published, encoding=config.encoding)).to(self._device)
        self.batch_size = config.batch_size

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        """The image in gray and its cells; those that the mask covers by half match nothing."""
        assert frame is not None, "loftr looks at the image"
        return self.describe_many([frame], None)[0]

    @torch.inference_mode()
    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        """`describe` of each, images of one size in one pass."""
        assert frames is not None, "loftr looks at the image"
        described = [self._seen(frame) for frame in frames]
        if self._config.keep == "features":
            for indices in self._batches(described):
                tokens = self._from_images([described[index] for index in indices]).tokens.cpu().numpy().astype(np.float16)
                for index, of_image in zip(indices, tokens, strict=True):
                    described[index]["tokens"] = of_image
        return [PlaceEvidence(self.name, arrays) for arrays in described]

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        """Numbers of matches, or of inliers."""
        started = time.perf_counter()
        found = self._matched(query, places)
        matching = time.perf_counter()
        counts = np.bincount(found.owner, minlength=len(places)).astype(np.int32)
        inliers = None
        if self._config.verify != "none":
            model, threshold_px = self._config.verify, self._config.threshold_px
            inliers = fit_many(found.query_px, found.place_px, found.owner, len(places), model, threshold_px).inliers_per_place
        seconds = {"matching": matching - started, "scoring": time.perf_counter() - matching}
        return PlaceScores((counts if inliers is None else inliers).astype(np.float32), inliers, seconds)

    @torch.inference_mode()
    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """All matches, the place's refined to a fraction of a pixel."""
        pair = (query.arrays, place.arrays)
        first, second = self._attended(self._cells([query.arrays]), self._cells([place.arrays]))
        found = matched(confidences(first, second), first, second, self._config.min_confidence)
        with self._autocast():
            fine = [self._network.features(self._pixels([arrays]))[1] for arrays in pair]
        expectation = refined(self._network.windows((fine[0].float(), fine[1].float()), (first, second), found))
        places = positions(found.first, first.size), refined_positions(found.second, second.size, expectation)
        query_px, place_px = (each.cpu().numpy() * arrays["ratio"] for each, arrays in zip(places, pair, strict=True))
        agreeing = np.ones(len(query_px), dtype=bool)
        if self._config.verify != "none":
            owner, flat = np.zeros(len(query_px), dtype=np.int32), [each.cpu().numpy() for each in places]
            agreeing = fit_many(flat[0], flat[1], owner, 1, self._config.verify, self._config.threshold_px).inlier_mask
        return PlaceMatches(query_px.astype(np.float32), place_px.astype(np.float32), agreeing)

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """None: it looks everywhere."""
        return np.zeros((0, 2), dtype=np.float32)

    def _seen(self, frame: Frame) -> dict[str, NDArray]:
        """The gray image with sides of multiples of 8 px, which cells are usable, and the ratio of sizes."""
        one = prepare(frame, self._config.max_edge_px)
        size = tuple(max(CELL_PX, side // CELL_PX * CELL_PX) for side in one.size)
        gray = cv2.resize(cv2.cvtColor(one.image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        cells = (size[0] // CELL_PX, size[1] // CELL_PX)
        valid = np.ones(cells[::-1], dtype=bool)
        if frame.mask is not None:
            valid = cv2.resize(frame.mask.astype(np.float32), cells, interpolation=cv2.INTER_AREA) >= 0.5
        ratio = np.array([frame.camera.width / size[0], frame.camera.height / size[1]], dtype=np.float32)
        return {"image": gray.astype(np.uint8, copy=False), "valid": valid, "ratio": ratio}

    @torch.inference_mode()
    def _matched(self, query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> _Matched:
        """Of all places, sorted by place."""
        if not places:
            return _in_pixels([])
        asked, parts = self._cells([query.arrays]), []
        for indices in self._batches([place.arrays for place in places]):
            first, second = self._attended(asked, self._cells([places[index].arrays for index in indices]))
            found = matched(confidences(first, second), first, second, self._config.min_confidence)
            owner = np.array(indices)[found.pair.cpu().numpy()]
            parts.append((owner, positions(found.first, first.size), positions(found.second, second.size)))
        return _in_pixels(parts)

    def _attended(self, query: Cells, places: Cells) -> tuple[Cells, Cells]:
        """One query beside several places."""
        count = len(places.tokens)
        valid = None if query.valid is None else query.valid.expand(count, -1)
        with self._autocast():
            first, second = self._network.attended(Cells(query.tokens.expand(count, -1, -1), query.size, valid), places)
        return first._replace(tokens=first.tokens.float()), second._replace(tokens=second.tokens.float())

    def _cells(self, described: Sequence[Mapping[str, NDArray]]) -> Cells:
        """Of evidence of one size, on the device."""
        if any("tokens" not in arrays for arrays in described):
            return self._from_images(described)
        tokens = torch.from_numpy(np.stack([arrays["tokens"] for arrays in described])).to(self._device).float()
        height, width = described[0]["valid"].shape
        valid = self._valid(described)
        return Cells(tokens, (height, width), None if valid is None else valid.flatten(1))

    def _from_images(self, described: Sequence[Mapping[str, NDArray]]) -> Cells:
        with self._autocast():
            cells = self._network.cells(self._network.coarse_features(self._pixels(described)), self._valid(described))
        return cells._replace(tokens=cells.tokens.float())

    def _pixels(self, described: Sequence[Mapping[str, NDArray]]) -> Tensor:
        gray = np.stack([arrays["image"] for arrays in described])
        return torch.from_numpy(gray)[:, None].to(self._device).float() / 255.0

    def _valid(self, described: Sequence[Mapping[str, NDArray]]) -> Tensor | None:
        valid = np.stack([arrays["valid"] for arrays in described])
        return None if valid.all() else torch.from_numpy(valid).to(self._device)

    def _batches(self, described: Sequence[Mapping[str, NDArray]]) -> Iterator[list[int]]:
        """Indices of images of one size, at most `batch_size` together."""
        of_size: dict[tuple[int, ...], list[int]] = {}
        for index, arrays in enumerate(described):
            of_size.setdefault(arrays["valid"].shape, []).append(index)
        for indices in of_size.values():
            for start in range(0, len(indices), self.batch_size):
                yield indices[start : start + self.batch_size]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half)


def _in_pixels(parts: Sequence[tuple[NDArray[np.int64], Tensor, Tensor]]) -> _Matched:
    """Owners and positions of several batches, sorted by owner."""
    owner = np.concatenate([np.zeros(0, dtype=np.int64), *(part[0] for part in parts)])
    query_px, place_px = (np.concatenate([np.zeros((0, 2)), *(part[which].cpu().numpy() for part in parts)]) for which in (1, 2))
    order = np.argsort(owner, kind="stable")
    return _Matched(owner[order], query_px[order], place_px[order])
