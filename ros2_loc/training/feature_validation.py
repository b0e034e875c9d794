"""How good dense features are on images they have not seen: matching accuracy and repeatability between an image and its warp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.r2d2 import DenseFeatures
from ros2_loc.models.r2d2_detection import local_maxima
from ros2_loc.training.feature_colours import Colours, recoloured
from ros2_loc.training.feature_objective import final_features
from ros2_loc.training.feature_pairs import DensePair, Loader
from ros2_loc.training.feature_warps import Warp, WarpedPairs

_THRESHOLDS_PX = (1, 3, 5)
_MULTIPLE_PX = 32  # of the sizes, so that every network takes them


class Keypoints(NamedTuple):
    """(N, 2) px with (0.5, 0.5) at the first centre, (N, D) of unit length."""

    points_px: Tensor
    descriptors: Tensor


class FeatureValidation:
    """Called with a network, it matches held-out images with copies of themselves: always the same warps and colours."""

    @dataclass(frozen=True)
    class Config:
        """Size of the measurement.

        Attributes:
            pairs: each image gives as many as are needed for so many.
            edge_px: long edge of the images.
            max_keypoints: the best by reliability times repeatability, however low: an untrained network is measured too.
        """

        pairs: int = 40
        edge_px: int = 320
        max_keypoints: int = 500
        warp: Warp = field(default_factory=lambda: Warp(tilt_deg=35.0, roll_deg=15.0, scale=1.2))
        colours: Colours = field(default_factory=lambda: Colours(jpeg=50))
        seed: int = 0

        def __post_init__(self) -> None:
            if self.pairs < 1 or self.edge_px < 2 * _MULTIPLE_PX or self.max_keypoints < 1:
                raise ConfigError(f"validation: needs pairs and max_keypoints from 1 and edge_px from {2 * _MULTIPLE_PX}, got {self}")

    def __init__(self, config: Config, images: Sequence[Loader]) -> None:
        """Nothing is read yet; raises DataError when there are no images."""
        if not images:
            raise DataError("there is no image to validate with: give --validate-on a folder of them")
        self.config = config
        edge = config.edge_px
        self._images = images
        self._source = WarpedPairs(images, replace(config.warp, edge_px=(edge, edge)), 2 * _MULTIPLE_PX)

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Means over the pairs: "mma_at_1", 3, 5 px (share of mutual nearest neighbours that are right; of a pair without matches 0),
        "repeatability_at_3" (share of keypoints seen in the second image that have one there), "matches"."""
        device = next(network.parameters()).device
        rows = [self._measured(network, self.pair(k), device) for k in range(self.config.pairs)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def pair(self, number: int) -> DensePair:
        """Pair `number`, its second image recoloured, both cut to a size that networks take."""
        rng = np.random.default_rng([self.config.seed, 67, number])
        pair = self._source.pair(number % len(self._images), rng)
        height, width = (v // _MULTIPLE_PX * _MULTIPLE_PX for v in pair.valid.shape)
        window = slice(height), slice(width)
        points = pair.points2_px[window]
        valid = pair.valid[window] & (points < [width, height]).all(axis=2)
        return DensePair(pair.image[window], recoloured(pair.image2[window], self.config.colours, rng), points, valid)

    def _measured(self, network: nn.Module, pair: DensePair, device: torch.device) -> dict[str, float]:
        images = torch.from_numpy(np.stack([pair.image, pair.image2])).to(device)
        seen = final_features(network, images)
        first, second = (best_keypoints(DenseFeatures(*(m[k : k + 1] for m in seen)), self.config.max_keypoints) for k in (0, 1))
        return matching_accuracy(first, second, *(torch.from_numpy(array).to(device) for array in (pair.points2_px, pair.valid)))


def best_keypoints(dense: DenseFeatures, count: int) -> Keypoints:
    """The best local maxima of one image, (1, ..., H, W)."""
    _, row, column = local_maxima(dense, 0.0, 0.0)
    score = (dense.reliability * dense.repeatability)[0, 0, row, column]
    best = score.argsort(descending=True, stable=True)[:count]
    row, column = row[best], column[best]
    return Keypoints(torch.stack([column, row], dim=1) + 0.5, dense.descriptors[0, :, row, column].T.float())


def matching_accuracy(first: Keypoints, second: Keypoints, points2_px: Tensor, valid: Tensor) -> dict[str, float]:
    """See `FeatureValidation.__call__`.

    Args:
        first: keypoints at centres of pixels.
        points2_px: (H, W, 2) where those are in the second image, known outside of it too.
        valid: (H, W) bool, where they are inside of it.
    """
    if not len(first.points_px) or not len(second.points_px):
        return {**{f"mma_at_{t}": 0.0 for t in _THRESHOLDS_PX}, "repeatability_at_3": 0.0, "matches": 0.0}
    column, row = first.points_px.long().unbind(dim=1)
    truth, inside = points2_px[row, column], valid[row, column]
    similarity = first.descriptors @ second.descriptors.T
    forth, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
    mutual = back[forth] == torch.arange(len(forth), device=forth.device)
    error = (second.points_px[forth] - truth).norm(dim=1)[mutual]
    nearest = torch.cdist(truth[inside], second.points_px.to(truth)).amin(dim=1) if inside.any() else truth.new_full((1,), torch.inf)
    return {
        **{f"mma_at_{t}": float((error <= t).float().mean()) for t in _THRESHOLDS_PX},
        "repeatability_at_3": float((nearest <= 3.0).float().mean()),
        "matches": float(mutual.sum()),
    }
