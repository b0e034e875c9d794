"""Re-ranking by CVNet: a network looks at how all parts of two images are alike, at three scales.

Lee, Seong, Lee, Kim, "Correlation Verification for Image Retrieval", CVPR 2022, section 3.4.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cvnet import AREAS, RERANK_WEIGHT, STRIDE_PX, CvNet, Maps, load_published, resized
from ros2_loc.models.pycls_resnet import normalized
from ros2_loc.perception.extractors.scaling import Prepared, groups, prepare
from ros2_loc.perception.image_scales import SCALES, mean_descriptor, pixels_at_scale
from ros2_loc.perception.networks import device_of, open_network
from ros2_loc.retrieval.mutual_nearest import mutual_pairs

_MAPS = tuple(f"map{index}" for index in range(len(AREAS)))
# of the correlations that are held at once
_CPU_BYTES, _GPU_BYTES = 48 << 20, 2 << 30


class Cvnet:
    """The score is the cosine of global descriptors plus a share of the network's probability that both images show one place."""

    @dataclass(frozen=True)
    class Config:
        """Which weights, how large images are, and what counts.

        Attributes:
            weights: cvnet_r50, cvnet_r101, the path of a checkpoint of the authors, or of a safetensors file of this project.
            max_edge_px: larger images are made smaller until their long edge has so many pixels; 0 for full size, as the authors. An image
                of W x H px takes 3.5 W H bytes in the map, and the time of one candidate grows with (W H)^2: 0.69 MB and 45 ms of a core
                of 512x384, 0.27 MB and 9 ms of 320x240.
            cosine: own: of CVNet's global descriptors, as the authors; retrieval: the candidates' score, for places that another encoder
                found; none: the probability decides alone. Without its own, an image is described in a quarter of the time, and a network
                whose global head nobody trained will do.
            scales: of the image for the global descriptor.
            rerank_weight: of the probability, in 0..1, beside the cosine.
            batch_size: images of one size in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "cvnet_r50"
        max_edge_px: int = 512
        cosine: Literal["own", "retrieval", "none"] = "own"
        scales: tuple[float, ...] = SCALES
        rerank_weight: float = RERANK_WEIGHT
        batch_size: int = 1
        half: bool = False

        def __post_init__(self) -> None:
            object.__setattr__(self, "scales", tuple(self.scales))
            if not self.scales or min(self.scales) <= 0 or self.rerank_weight < 0:
                raise ConfigError(f"cvnet: scales are positive and rerank_weight not negative: {list(self.scales)}, {self.rerank_weight}")
            if self.batch_size < 1 or self.max_edge_px < 0:
                raise ConfigError(f"cvnet: batch_size is positive and max_edge_px not negative, got {self.batch_size}, {self.max_edge_px}")

    name = "cvnet"
    needs_image = True
    needs_features = False
    listwise = False

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        network = open_network(config.weights, CvNet, load_published).to(self._device)
        self._network: CvNet = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch_size = config.batch_size

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        """Maps of the whole image, masked or not, and its global descriptor."""
        assert frame is not None, "cvnet looks at the image"
        return self.describe_many([frame], None)[0]

    @torch.inference_mode()
    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        """`describe` of each, images of one size in one pass."""
        assert frames is not None, "cvnet looks at the image"
        prepared = [prepare(frame, self._config.max_edge_px) for frame in frames]
        found: dict[int, PlaceEvidence] = {}
        for indices in groups(prepared, self.batch_size):
            vectors, maps = self._described([prepared[index].image for index in indices])
            for row, index in enumerate(indices):
                found[index] = self._evidence(vectors[row], [one[row] for one in maps], prepared[index])
        return [found[index] for index in range(len(frames))]

    @torch.inference_mode()
    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        """The cosine plus `rerank_weight` times the probability.

        Raises:
            DataError: an image that was described with other weights.
        """
        self._check([query, *places])
        if not places:
            return PlaceScores(np.zeros(0, dtype=np.float32))
        started = time.perf_counter()
        probabilities = np.zeros(len(places), dtype=np.float32)
        asked = resized(self._maps([query]))
        for indices in _alike(query, places, _GPU_BYTES if self._device.type == "cuda" else _CPU_BYTES):
            there = resized(self._maps([places[index] for index in indices]))
            with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
                logits = self._network.verifier(asked, there)
            probabilities[indices] = logits.float().softmax(dim=1)[:, 1].cpu().numpy()
        matched = time.perf_counter()
        scores = self._cosines(query, candidates, places) + self._config.rerank_weight * probabilities
        return PlaceScores(scores, stage_s={"matching": matched - started, "scoring": time.perf_counter() - matched})

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """Cells of the finest scale that are most alike to each other."""
        asked, there = _Cells.of(query), _Cells.of(place)
        pairs = mutual_pairs(asked.descriptors, [there.descriptors])
        return PlaceMatches(asked.points[pairs.query], there.points[pairs.place], np.ones(len(pairs.query), dtype=bool))

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """None: it looks everywhere."""
        return np.zeros((0, 2), dtype=np.float32)

    def _described(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Maps]:
        """Global descriptors (B, D), D = 0 where they are of no use, and maps."""
        pixels = normalized(pixels_at_scale(images, 1.0, self._device))
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
            if self._config.cosine != "own":
                return torch.zeros(len(images), 0), self._network.maps(self._network.features(pixels))
            vector, maps = self._network.describe(pixels)
            others = (normalized(pixels_at_scale(images, scale, self._device)) for scale in self._config.scales if scale != 1.0)
            vectors = [self._network.descriptor(level) for level in others]
        vectors += [vector] if 1.0 in self._config.scales else []
        return mean_descriptor([one.float() for one in vectors]), maps

    def _cosines(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> FloatArray:
        if self._config.cosine == "own":
            vectors = np.stack([place.arrays["vector"] for place in places]).astype(np.float32)
            return np.asarray(vectors @ query.arrays["vector"].astype(np.float32))
        return np.array([one.score if self._config.cosine == "retrieval" else 0.0 for one in candidates], dtype=np.float32)

    def _evidence(self, vector: Tensor, maps: Sequence[Tensor], prepared: Prepared) -> PlaceEvidence:
        arrays = {name: one.to(torch.float16).contiguous().cpu().numpy() for name, one in zip(_MAPS, maps, strict=True)}
        if not all(np.isfinite(one).all() for one in arrays.values()):
            remedy = "half: false" if self._config.half else "the weights may be damaged"
            raise DataError(f"cvnet: the maps of an image are not finite: {remedy}")
        vectors = {"vector": vector.to(torch.float16).cpu().numpy(), "ratio": prepared.ratio.astype(np.float32)}
        return PlaceEvidence(self.name, arrays | vectors)

    def _check(self, evidence: Sequence[PlaceEvidence]) -> None:
        own = (self._network.config.channels, self._network.config.dimension if self._config.cosine == "own" else 0)
        for one in evidence:
            held = (len(one.arrays[_MAPS[-1]]), len(one.arrays["vector"]))
            if held != own:
                raise DataError(f"cvnet: an image was described by {held} numbers, {self._config.weights} gives {own}: build the map again")

    def _maps(self, evidence: Sequence[PlaceEvidence]) -> Maps:
        stacks = (np.stack([one.arrays[name] for one in evidence]) for name in _MAPS)
        return tuple(torch.from_numpy(stack).to(self._device).float() for stack in stacks)


class _Cells(NamedTuple):
    """(N, C) descriptors of the finest scale, (N, 2) their places, px of the full image."""

    descriptors: NDArray
    points: FloatArray

    @classmethod
    def of(cls, evidence: PlaceEvidence) -> _Cells:
        finest = evidence.arrays[_MAPS[-1]]
        row, column = np.indices(finest.shape[1:])
        # a cell sees what is around the centre of the first of its pixels
        points = (STRIDE_PX * np.stack([column.ravel(), row.ravel()], axis=1) + 0.5) * evidence.arrays["ratio"]
        return cls(finest.reshape(len(finest), -1).T, points.astype(np.float32))


def _alike(query: PlaceEvidence, places: Sequence[PlaceEvidence], limit_bytes: int) -> Iterator[list[int]]:
    """Indices of places whose maps have one size, so many that their correlations take no more than `limit_bytes`; each index once."""
    of_size: dict[tuple[int, ...], list[int]] = {}
    for index, place in enumerate(places):
        of_size.setdefault(place.arrays[_MAPS[-1]].shape, []).append(index)
    cells = query.arrays[_MAPS[-1]][0].size
    for shape, indices in of_size.items():
        # two halves of nine correlations, a quarter of the cells of one image with all of the other, twice in memory
        needed = 4 * 2 * 2 * len(AREAS) ** 2 * cells * shape[1] * shape[2] // 4
        count = max(1, limit_bytes // max(1, needed))
        for start in range(0, len(indices), count):
            yield indices[start : start + count]
