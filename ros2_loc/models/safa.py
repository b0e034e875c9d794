"""SAFA: one ground image and one tile, each a single vector; the single-image baseline of CVLNet's table 5.

Shi, Liu, Yu, Li, "Spatial-Aware Feature Aggregation for Cross-View Image based Geo-Localization", NeurIPS 2019. Its queries are panoramas;
here, as in CVLNet's comparison, they are images of a forward camera. The tiles are north-up, so Polar-SAFA has a query's content at the
columns of its heading, and SAFA turned by it: neither is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.models.cvlnet.backbones import make_backbone
from ros2_loc.models.cvlnet.projection import project_features


class Safa(nn.Module):
    """Unit vectors of ground images and of tiles; their dot product is the similarity."""

    @dataclass(frozen=True)
    class Config:
        """Sizes and parts; the defaults are small, `Safa.Config.full()` is the paper's.

        Attributes:
            backbone: a name of `backbones.make_backbone`.
            polar: tiles are unrolled around their centre first (Polar-SAFA).
            channels: C of the features; a vector has position_maps * C numbers.
            position_maps: how many learned weightings of the image plane.
            tile_px: side of the tiles' images.
            image_px: (height, width) of the ground images, and of unrolled tiles.
            view: level or resized, as of `CVLNet.Config`.
        """

        backbone: str = "small"
        polar: bool = True
        channels: int = 64
        position_maps: int = 8
        tile_px: int = 128
        image_px: tuple[int, int] = (64, 256)
        view: str = "level"

        def __post_init__(self) -> None:
            object.__setattr__(self, "image_px", tuple(self.image_px))

        @staticmethod
        def full(backbone: str = "vgg16", polar: bool = True) -> Safa.Config:
            """The paper's: 8 maps of 512 channels make 4096 numbers."""
            return Safa.Config(backbone, polar, channels=512, tile_px=512, image_px=(256, 1024), view="resized")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.ground_backbone = make_backbone(config.backbone, config.channels)
        self.tile_backbone = make_backbone(config.backbone, config.channels)
        stride = self.ground_backbone.stride
        tile_size = config.image_px if config.polar else (config.tile_px, config.tile_px)
        self.ground_aggregation = SpatialAggregation(_positions(config.image_px, stride), config.position_maps)
        self.tile_aggregation = SpatialAggregation(_positions(tile_size, stride), config.position_maps)

    def ground_descriptor(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) RGB in 0..1 -> (B, D) of unit length."""
        return self.ground_aggregation(self.ground_backbone(images))

    def tile_descriptor(self, images: Tensor) -> Tensor:
        """(M, 3, tile_px, tile_px) RGB in 0..1, north up -> (M, D) of unit length."""
        if self.config.polar:
            px = polar_sampling_px(self.config.tile_px, self.config.image_px).to(images.device)
            inside = torch.ones(len(images), *self.config.image_px, dtype=torch.bool, device=images.device)
            images = project_features(images, px.expand(len(images), *px.shape), inside)
        return self.tile_aggregation(self.tile_backbone(images))

    def forward(self, images: Tensor, tiles: Tensor) -> Tensor:
        """Ground images (B, 3, h, w), tiles (M, 3, H, H) -> cosine similarity (M, B)."""
        return self.tile_descriptor(tiles) @ self.ground_descriptor(images).T


class SpatialAggregation(nn.Module):
    """Spatial-aware position embedding: maps of importance over the image plane, each weighing all channels (section 3.2).

    A map comes from the features' maximum over the channels, by two fully connected layers.
    """

    def __init__(self, positions: int, maps: int) -> None:
        super().__init__()
        hidden = positions // 2
        self.first_weight, self.first_bias = _linear(maps, hidden, positions)
        self.second_weight, self.second_bias = _linear(maps, positions, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, maps * C) of unit length."""
        flat = features.flatten(2)
        saliency = flat.amax(dim=1)
        hidden = torch.einsum("mhp,bp->bmh", self.first_weight, saliency) + self.first_bias
        position_maps = torch.einsum("mph,bmh->bmp", self.second_weight, hidden) + self.second_bias
        return functional.normalize(torch.einsum("bmp,bcp->bmc", position_maps, flat).flatten(1), dim=1)


def polar_sampling_px(tile_px: int, size: tuple[int, int]) -> Tensor:
    """Where an unrolled tile takes its pixels: columns go clockwise from north, rows from the inscribed circle to the centre.

    Args:
        tile_px: A, side of the tile's image.
        size: (h, w) of the unrolled image.

    Returns:
        (h, w, 2) x, y in px of the tile (equation 1, with the centres of pixels at halves).
    """
    rows, columns = torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5
    radius = 0.5 * tile_px * (1.0 - rows / size[0])[:, None]
    azimuth = 2.0 * math.pi * columns / size[1]
    return 0.5 * tile_px + torch.stack([radius * torch.sin(azimuth), -radius * torch.cos(azimuth)], dim=-1)


def _positions(size_px: tuple[int, int], stride: int) -> int:
    return (size_px[0] // stride) * (size_px[1] // stride)


def _linear(maps: int, outputs: int, inputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    # the standard deviation and the bias of the paper's code: maps that begin near a plain mean
    return nn.Parameter(torch.randn(maps, outputs, inputs) * 0.005), nn.Parameter(torch.full((maps, outputs), 0.1))
