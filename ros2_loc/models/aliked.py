"""ALIKED: Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation", TIM 2023.

Layers have the authors' names, so that their files load as they are. The network runs in two halves: maps of features and scores, which
can be exported (section III-A, B), then keypoints by soft detection (DKD, of ALIKE, TMM 2022, section III-B) and descriptors sampled at
deformed positions (SDDH, section III-C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import DataError
from ros2_loc.models.deformable import DeformableConv2d
from ros2_loc.models.weight_files import locate
from ros2_loc.models.weights import load_strictly, tensors_of

MULTIPLE = 32
_TEMPERATURE = 0.1
_HEAD = "desc_head.agg_weights"
# (channels of the four blocks, positions that a descriptor samples); descriptors have as many numbers as the last block channels
_VARIANTS = {"t16": ((8, 16, 32, 64), 16), "n16": ((16, 32, 64, 128), 16), "n32": ((16, 32, 64, 128), 32)}


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
        (c1, c2, c3, c4), positions = _VARIANTS[config.variant]
        self.dimension = c4
        self.block1 = _ConvBlock(3, c1)
        self.block2 = _ResBlock(c1, c2)
        self.block3 = _ResBlock(c2, c3, is_deformable=True)
        self.block4 = _ResBlock(c3, c4, is_deformable=True)
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(c, c4 // 4, 1, bias=False) for c in (c1, c2, c3, c4))
        widths = (c4, 8, 4, 4, 1)
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
            layers.append(nn.Conv2d(inputs, outputs, 3 if index else 1, padding=min(index, 1), bias=False))
            layers.append(nn.SELU())
        self.score_head = nn.Sequential(*layers[:-1])
        self.desc_head = DescriptorHead(c4, positions)

    def forward(self, images: Tensor) -> AlikedMaps:
        """(B, 3, H, W) RGB in 0..1, H and W multiples of 32 -> maps of the same size."""
        x1 = self.block1(images)
        x2 = self.block2(functional.avg_pool2d(x1, 2))
        x3 = self.block3(functional.avg_pool2d(x2, 4))
        x4 = self.block4(functional.avg_pool2d(x3, 4))
        narrowed = [functional.selu(layer(x)) for layer, x in zip(self._narrowing(), (x1, x2, x3, x4), strict=True)]
        enlarged = [_enlarged(x, factor) for x, factor in zip(narrowed[1:], (2, 8, 32), strict=True)]
        joined = torch.cat([narrowed[0], *enlarged], dim=1)
        return AlikedMaps(functional.normalize(joined, dim=1), torch.sigmoid(self.score_head(joined)))

    def describe(self, features: Tensor, points: list[Tensor]) -> list[Tensor]:
        """Descriptors at keypoints.

        Args:
            features: (B, D, H, W) of `forward`.
            points: for each image (N, 2) px, centre of the first pixel at (0.5, 0.5).

        Returns:
            For each image (N, D) of unit length.
        """
        return [self.desc_head(one, p) for one, p in zip(features, points, strict=True)]

    def _narrowing(self) -> tuple[nn.Module, ...]:
        return self.conv1, self.conv2, self.conv3, self.conv4


class DescriptorHead(nn.Module):
    """SDDH: each keypoint's 3 x 3 patch says where around it features are taken, and a sum with learned weights makes one of them."""

    def __init__(self, channels: int, positions: int) -> None:
        super().__init__()
        self.offset_conv = nn.Sequential(nn.Conv2d(channels, 2 * positions, 3), nn.SELU(), nn.Conv2d(2 * positions, 2 * positions, 1))
        self.sf_conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.agg_weights = nn.Parameter(torch.rand(positions, channels, channels))

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """Features (D, H, W) and points (N, 2) px -> (N, D) of unit length."""
        height, width = features.shape[1:]
        reach = max(height, width) / 4.0
        offsets = self.offset_conv(_patches(features, points)).flatten(1).clamp(-reach, reach)
        positions = points[:, None] + offsets.unflatten(1, (2, -1)).transpose(1, 2)
        taken = _read(features, positions.flatten(0, 1)).T.unflatten(0, positions.shape[:2])
        values = functional.selu(functional.linear(taken, self.sf_conv.weight[:, :, 0, 0]))
        return functional.normalize(torch.einsum("npc,pcd->nd", values, self.agg_weights), dim=1)


def detect(scores: Tensor, allowed: list[Tensor | None], threshold: float, limit: int, radius: int) -> list[tuple[Tensor, Tensor]]:
    """Sub-pixel keypoints of score maps.

    Args:
        scores: (B, 1, H, W) in [0, 1].
        allowed: for each image (H, W) bool, True where a keypoint may lie, or None for everywhere.
        threshold: a keypoint's pixel has a higher score.
        limit: at most so many for each image, of the highest scores.
        radius: px; a keypoint is the maximum of the window of 2 radius + 1 px, refined by a softmax over it, and not nearer to the edge.

    Returns:
        For each image (N, 2) px, centre of the first pixel at (0.5, 0.5), and scores (N,), the highest first.
    """
    best = functional.max_pool2d(scores, 2 * radius + 1, stride=1, padding=radius)
    peaks = (scores == best) & (scores > threshold)
    inner = torch.zeros_like(peaks)
    inner[:, :, radius : max(radius, scores.shape[2] - radius), radius : max(radius, scores.shape[3] - radius)] = True
    peaks &= inner
    result = []
    for image, peak, region in zip(scores, peaks, allowed, strict=True):
        row, column = torch.nonzero(peak[0] if region is None else peak[0] & region, as_tuple=True)
        points = _refined(image[0], row, column, radius)
        values = _read(image, points)[0]
        order = torch.argsort(values, descending=True, stable=True)[:limit]
        result.append((points[order], values[order]))
    return result


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> this network's: the same."""
    return dict(state)


def load_published(name_or_path: str | Path) -> Aliked:
    """The authors' network of a file, its variant told from the shapes, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; weights of another network.
    """
    path = locate(name_or_path)
    state = renamed(tensors_of(path))
    positions, channels = state[_HEAD].shape[:2] if _HEAD in state else (0, 0)
    variant = next((name for name, (widths, count) in _VARIANTS.items() if (widths[-1], count) == (channels, positions)), None)
    if variant is None:
        raise DataError(f"{path}: has no descriptor head of ALIKED t16, n16 or n32: give one of the authors' .pth files")
    network = Aliked(Aliked.Config(variant))  # type: ignore[arg-type]
    load_strictly(network, state, str(path))
    return network.eval()


class _ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, is_deformable: bool = False) -> None:
        super().__init__()
        self.conv1 = DeformableConv2d(inputs, outputs) if is_deformable else nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = DeformableConv2d(outputs, outputs) if is_deformable else nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.selu(self.bn2(self.conv2(functional.selu(self.bn1(self.conv1(x))))))


class _ResBlock(_ConvBlock):
    def __init__(self, inputs: int, outputs: int, is_deformable: bool = False) -> None:
        super().__init__(inputs, outputs, is_deformable)
        self.downsample = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.selu(self.bn1(self.conv1(x)))))
        return functional.selu(inner + self.downsample(x))


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


def _read(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (C, H, W) at points (N, 2) px, between the pixels, zero outside -> (C, N)."""
    size = torch.tensor([maps.shape[2], maps.shape[1]], dtype=points.dtype, device=points.device)
    grid = (2.0 * points / size - 1.0)[None, :, None]
    return functional.grid_sample(maps[None], grid, align_corners=False)[0, :, :, 0]


def _patches(features: Tensor, points: Tensor) -> Tensor:
    """(N, D, 3, 3) around the pixels of points; at the far edges as the authors have it, one pixel further inside than need be."""
    height, width = features.shape[1:]
    around = torch.arange(3, device=features.device)
    column = ((points[:, 0] - 0.5).long() - 1).clamp(0, max(0, width - 4))[:, None] + around
    row = ((points[:, 1] - 0.5).long() - 1).clamp(0, max(0, height - 4))[:, None] + around
    return features[:, row[:, :, None], column[:, None, :]].transpose(0, 1)


def _refined(scores: Tensor, row: Tensor, column: Tensor, radius: int) -> Tensor:
    """Pixels moved by the mean of their window under a softmax of its scores -> (N, 2) px."""
    step = torch.arange(-radius, radius + 1, device=scores.device)
    down, right = torch.meshgrid(step, step, indexing="ij")
    window = scores[row[:, None] + down.flatten(), column[:, None] + right.flatten()]
    weights = functional.softmax(window / _TEMPERATURE, dim=1)
    moved = weights @ torch.stack([right.flatten(), down.flatten()], dim=1).to(weights)
    return torch.stack([column, row], dim=1) + moved + 0.5
