"""ALIKED: Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation", TIM 2023.

The layers are kornia's; here is what makes them load the authors' files in full and run in two halves, so that the dense half can be
exported: score and feature maps (section III), then keypoints by soft detection (DKD, section IV of ALIKE) and descriptors sampled at
deformed positions (SDDH, section III-C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from kornia.feature import ALIKED
from kornia.feature.aliked.aliked import DKD
from torch import Tensor, nn

from ros2_loc.errors import DataError
from ros2_loc.models.weight_files import locate
from ros2_loc.models.weights import load_strictly, tensors_of

MULTIPLE = 32
# (channels, sampling positions) of the descriptor head -> variant
_VARIANTS: dict[tuple[int, int], Literal["t16", "n16", "n32"]] = {(64, 16): "t16", (128, 16): "n16", (128, 32): "n32"}
_HEAD = "desc_head.agg_weights"


class AlikedMaps(NamedTuple):
    """What the network says of each pixel: features (B, D, H, W) of unit length, scores (B, 1, H, W) in (0, 1)."""

    features: Tensor
    scores: Tensor


class Aliked(nn.Module):
    """The network of one variant."""

    @dataclass(frozen=True)
    class Config:
        """`variant`: t16 has descriptors of 64 numbers, n16 and n32 of 128; 16 and 32 are the positions that a descriptor samples."""

        variant: Literal["t16", "n16", "n32"] = "n16"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = ALIKED(f"aliked-{config.variant}")
        self.network.dkd = nn.Identity()  # the detector has thresholds of the user's and nothing that is learned
        self.dimension = 64 if config.variant == "t16" else 128

    def forward(self, images: Tensor) -> AlikedMaps:
        """(B, 3, H, W) RGB in 0..1, H and W multiples of 32 -> maps of the same size."""
        return AlikedMaps(*self.network.extract_dense_map(images))

    def describe(self, features: Tensor, points: list[Tensor]) -> list[Tensor]:
        """Descriptors at keypoints.

        Args:
            features: (B, D, H, W) of `forward`.
            points: for each image (N, 2) px, centre of the first pixel at (0.5, 0.5).

        Returns:
            For each image (N, D) of unit length.
        """
        size = torch.tensor([features.shape[3], features.shape[2]], device=features.device)
        return self.network.desc_head(features, [2.0 * (p - 0.5) / (size - 1) - 1.0 for p in points])[0]


def detect(scores: Tensor, allowed: list[Tensor | None], threshold: float, limit: int, radius: int) -> list[tuple[Tensor, Tensor]]:
    """Sub-pixel keypoints of score maps.

    Args:
        scores: (B, 1, H, W) in [0, 1].
        allowed: for each image (H, W) bool, True where a keypoint may lie, or None for everywhere.
        threshold: a keypoint's pixel has a higher score.
        limit: at most so many for each image, of the highest scores.
        radius: px; a keypoint is the one maximum of the window of 2 radius + 1 px, refined by a softmax over it, and not nearer to the
            edge.

    Returns:
        For each image (N, 2) px, centre of the first pixel at (0.5, 0.5), and scores (N,), the highest first.
    """
    height, width = scores.shape[2:]
    if min(height, width) <= 2 * radius:
        return [(scores.new_zeros(0, 2), scores.new_zeros(0)) for _ in scores]
    found, values, _ = DKD(radius=radius, top_k=0, scores_th=threshold, n_limit=height * width).to(scores.device)(scores)
    size = torch.tensor([width - 1, height - 1], device=scores.device)
    # where no pixel passes the threshold kornia takes those above the mean
    passes = (scores.flatten(1).amax(dim=1) > threshold).tolist()
    result = []
    for points, value, region, some in zip(found, values, allowed, passes, strict=True):
        points = size * (points + 1.0) / 2.0 + 0.5
        kept = torch.full_like(value, some, dtype=torch.bool)
        if region is not None:
            column, row = points.long().T
            kept &= region[row, column]
        order = torch.argsort(value[kept], descending=True, stable=True)[:limit]
        result.append((points[kept][order], value[kept][order]))
    return result


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> this network's."""
    return {f"network.{key}": value for key, value in state.items()}


def load_published(name_or_path: str | Path) -> Aliked:
    """The authors' network of a file, its variant told from the shapes, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; weights of another network.
    """
    path = locate(name_or_path)
    state = tensors_of(path)
    positions, channels = state[_HEAD].shape[:2] if _HEAD in state else (0, 0)
    variant = _VARIANTS.get((channels, positions))
    if variant is None:
        raise DataError(f"{path}: has no descriptor head of ALIKED t16, n16 or n32: give one of the authors' .pth files")
    network = Aliked(Aliked.Config(variant))
    load_strictly(network, renamed(state), str(path))
    return network.eval()
