"""Re-ranking by Patch-NetVLAD: squares of the feature map, each described as NetVLAD describes the whole, matched and checked for geometry.

Hausler et al., "Patch-NetVLAD: Multi-Scale Fusion of Locally-Global Descriptors for Place Recognition", CVPR 2021, sections 3.3 to 3.5.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.errors import ConfigError
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.patch_netvlad import NetVlad, PatchNetVlad, load_published, truncated
from ros2_loc.perception.fixed_size import at_size, usable_shares
from ros2_loc.perception.networks import device_of, open_network
from ros2_loc.retrieval.mutual_nearest import Pairs, mutual_pairs
from ros2_loc.retrieval.rerankers.patch_scores import CELL_PX, Fusion, Geometry, Patches, check_size, fused, grid, verified
from ros2_loc.retrieval.scoring.rapid import rapid_scores


class _Preset(NamedTuple):
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    num_pcs: int
    scoring: str


# the authors' configuration files
_PRESETS = {
    "performance": _Preset((2, 5, 8), (0.45, 0.15, 0.4), 4096, "ransac"),
    "speed": _Preset((5,), (1.0,), 512, "rapid"),
    "storage": _Preset((5,), (1.0,), 128, "rapid"),
}


class PatchNetvlad:
    """The patches of several sizes of two images are matched size by size; their scores are fused.

    A score by RANSAC is the share of the query's patches that agree with one homography. The rapid one is equation 6 on grid indices,
    anchored, as the paper's text and code have it, to the largest displacement there can be (the formula as printed has the largest among
    the matches, by which an image would not even resemble itself); the re-ranking benchmark takes pixels, and all sizes in one.
    """

    @dataclass(frozen=True)
    class Config:
        """Which weights, which patches, and how they are compared.

        Attributes:
            weights: a name of the table, the path of a checkpoint of the authors, or of a safetensors file of this project.
            preset: performance, speed or storage, the authors' three; stands for what is not given of the next four.
            patch_sizes: cells of 16 px along a patch.
            patch_weights: of the sizes.
            num_pcs: D, the leading components of the whitening: they decide the memory, 2 bytes each for every patch. Of 640x480 px
                "performance" has 2826 patches, "speed" and "storage" 936: 23 MB, 0.96 MB, 0.24 MB.
            scoring: ransac or rapid.
            fusion: plain: the weighted sum, as the paper; zscore: normalized over the candidates of a query first, as the authors' code.
            threshold_px: of RANSAC, in the resized image; 24 of the authors, 30 in the re-ranking benchmark.
            geometry: exact: patches lie where they are; authors: rounded to pixels, and OpenCV's RANSAC in place of the batched one.
            image_size: width and height that every image is resized to, px.
            batch_size: images in one pass.
            half: 16-bit floats in the network; on a GPU only.
        """

        weights: str = "patchnetvlad_pittsburgh_4096"
        preset: Literal["performance", "speed", "storage"] = "performance"
        patch_sizes: tuple[int, ...] = ()
        patch_weights: tuple[float, ...] = ()
        num_pcs: int = 0
        scoring: Literal["", "ransac", "rapid"] = ""
        fusion: Fusion = "plain"
        threshold_px: float = 24.0
        geometry: Geometry = "exact"
        image_size: tuple[int, int] = (640, 480)
        batch_size: int = 1
        half: bool = False

        def __post_init__(self) -> None:
            if self.preset not in _PRESETS:
                raise ConfigError(f"patch_netvlad: preset is one of {', '.join(_PRESETS)}, got {self.preset!r}")
            preset = _PRESETS[self.preset]
            weights = self.patch_weights or (() if self.patch_sizes else preset.weights)
            chosen = {
                "patch_sizes": tuple(self.patch_sizes or preset.sizes),
                "patch_weights": tuple(weights),
                "num_pcs": self.num_pcs or preset.num_pcs,
                "scoring": self.scoring or preset.scoring,
                "image_size": tuple(self.image_size),
            }
            for key, value in chosen.items():
                object.__setattr__(self, key, value)
            sizes = self.patch_sizes
            if len(sizes) != len(self.patch_weights) or len(set(sizes)) != len(sizes) or min(sizes) < 1:
                raise ConfigError(
                    f"patch_netvlad: patch_sizes are different and each has one of patch_weights: {list(sizes)}, {list(self.patch_weights)}"
                )
            if min(self.num_pcs, self.batch_size) < 1 or self.threshold_px <= 0:
                raise ConfigError(
                    "patch_netvlad: num_pcs, batch_size and threshold_px are positive, got "
                    f"{self.num_pcs}, {self.batch_size}, {self.threshold_px}"
                )
            check_size("patch_netvlad", self.image_size, max(sizes))

    name = "patch_netvlad"
    needs_image = True
    needs_features = False

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        netvlad = truncated(open_network(config.weights, NetVlad, load_published), config.num_pcs, config.weights)
        self._network = PatchNetVlad(netvlad, config.patch_sizes).to(self._device)
        self._comparison = PatchComparison(config, device)
        self.batch_size = config.batch_size
        self.listwise = config.fusion == "zscore"

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        """All patches of the image, or those of which half is unmasked."""
        assert frame is not None, "patch_netvlad looks at the image"
        return self.describe_many([frame], None)[0]

    @torch.inference_mode()
    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        """`describe` of each, `batch_size` in one pass."""
        assert frames is not None, "patch_netvlad looks at the image"
        found = []
        for start in range(0, len(frames), self.batch_size):
            some = frames[start : start + self.batch_size]
            images = normalized(at_size(some, self._config.image_size, self._device))
            with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._config.half):
                sizes = self._network.patches(images)
            arrays = [patches.to(torch.float16).cpu().numpy() for patches in sizes]
            found += [self._evidence(frame, [of_size[row] for of_size in arrays]) for row, frame in enumerate(some)]
        return found

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        """Fused scores, and inliers of all sizes."""
        return self._comparison.score(query, places)

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """Of all sizes: where the middles of matched patches are."""
        return self._comparison.matches(query, place)

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """Middles of the patches."""
        return self._comparison.keypoints(evidence)

    def _evidence(self, frame: Frame, descriptors: Sequence[NDArray[np.float16]]) -> PlaceEvidence:
        columns, rows = (side // CELL_PX for side in self._config.image_size)
        shares = usable_shares(frame, (columns, rows))
        arrays: dict[str, NDArray] = {"size": np.array([frame.camera.width, frame.camera.height], dtype=np.int32)}
        for size, of_size in zip(self._config.patch_sizes, descriptors, strict=True):
            kept = np.ones(len(of_size), dtype=bool) if shares is None else _box_means(shares, size).ravel() >= 0.5
            arrays[f"descriptors{size}"] = of_size[kept]
            arrays[f"cells{size}"] = grid(columns - size + 1, rows - size + 1)[kept]
        return PlaceEvidence(self.name, arrays)


class PatchComparison:
    """What is done with the patches of images, without a network."""

    def __init__(self, config: PatchNetvlad.Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device

    def score(self, query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> PlaceScores:
        """As `PatchNetvlad.score`."""
        scores, inliers = np.zeros((len(places), len(self._config.patch_sizes))), np.zeros(len(places), dtype=np.int32)
        seconds = {"matching": 0.0, "scoring": 0.0}
        for kind, size in enumerate(self._config.patch_sizes if places else ()):
            started = time.perf_counter()
            asked, there = patches_of(query, size), [patches_of(place, size) for place in places]
            pairs = mutual_pairs(asked.descriptors, [place.descriptors for place in there], self._device)
            matched = time.perf_counter()
            scores[:, kind], agreeing = self.of_pairs(pairs, asked, there)
            inliers += agreeing
            seconds["matching"] += matched - started
            seconds["scoring"] += time.perf_counter() - matched
        started = time.perf_counter()
        total = fused(scores, self._config.patch_weights, self._config.fusion)
        seconds["scoring"] += time.perf_counter() - started
        return PlaceScores(total, None if self._config.scoring == "rapid" else inliers, seconds)

    def of_pairs(self, pairs: Pairs, query: Patches, places: Sequence[Patches]) -> tuple[NDArray, NDArray[np.int32]]:
        """Scores and inliers of each place by patches of one size that were matched; without inliers where the score is the rapid one."""
        if self._config.scoring == "ransac":
            inliers = verified(pairs, query, places, self._config.threshold_px, self._config.geometry).inliers_per_place
            return inliers / max(len(query), 1), inliers
        starts = np.cumsum([0, *(len(place) for place in places)])
        cells = np.concatenate([place.cells for place in places])
        points = query.cells[pairs.query], cells[starts[pairs.owner] + pairs.place]
        width, height = self._config.image_size
        extent = (width // CELL_PX - query.side, height // CELL_PX - query.side)
        return rapid_scores(*points, pairs.owner, len(places), extent, len(query)), np.zeros(len(places), dtype=np.int32)

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        """As `PatchNetvlad.matches`."""
        points, inliers = [], []
        for size in self._config.patch_sizes:
            asked, there = patches_of(query, size), patches_of(place, size)
            pairs = mutual_pairs(asked.descriptors, [there.descriptors], self._device)
            agreeing = np.ones(len(pairs.owner), dtype=bool)
            if self._config.scoring == "ransac":
                agreeing = verified(pairs, asked, [there], self._config.threshold_px, self._config.geometry).inlier_mask
            points.append((self._pixels(query, asked)[pairs.query], self._pixels(place, there)[pairs.place]))
            inliers.append(agreeing)
        query_px, place_px = (np.concatenate(pixels) for pixels in zip(*points, strict=True))
        return PlaceMatches(query_px, place_px, np.concatenate(inliers))

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        """As `PatchNetvlad.keypoints`."""
        return np.concatenate([self._pixels(evidence, patches_of(evidence, size)) for size in self._config.patch_sizes])

    def _pixels(self, evidence: PlaceEvidence, patches: Patches) -> FloatArray:
        ratio = evidence.arrays["size"] / np.array(self._config.image_size)
        return (patches.centres_px() * ratio).astype(np.float32)


def patches_of(evidence: PlaceEvidence, size: int) -> Patches:
    """Those of one size."""
    return Patches(evidence.arrays[f"descriptors{size}"], evidence.arrays[f"cells{size}"], size)


def _box_means(shares: NDArray[np.float32], size: int) -> NDArray:
    return np.lib.stride_tricks.sliding_window_view(shares, (size, size)).mean(axis=(2, 3))
