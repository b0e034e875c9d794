"""From an image's features to the overhead grid: geometry-driven view projection, and the two stand-ins of the paper's table 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def project_features(features: Tensor, sampling_px: Tensor, visible: Tensor) -> Tensor:
    """Features where the camera sees each ground cell (CVLNet, section 3.1), bilinear; zero where it sees none.

    Args:
        features: (B, c, h, w).
        sampling_px: (B, S, S, 2) x, y in pixels of the feature map, centre of the first at (0.5, 0.5).
        visible: (B, S, S) bool.

    Returns:
        (B, c, S, S).
    """
    size = sampling_px.new_tensor([features.shape[3], features.shape[2]])
    # align_corners=False has -1 and 1 at the outer edges of the outer pixels: the convention of sampling_px
    grid = (2.0 / size * sampling_px - 1.0).to(features.dtype)
    sampled = functional.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled * visible[:, None]


class UNet(nn.Module):
    """A small U-Net from features of the image, resized to the grid, to features of the grid ("w/o GVP (Unet)", table 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down1 = _double_conv(channels, channels)
        self.down2 = _double_conv(channels, 2 * channels)
        self.bottom = _double_conv(2 * channels, 4 * channels)
        self.up2 = _double_conv(6 * channels, 2 * channels)
        self.up1 = _double_conv(3 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, S, S) -> (B, c, S, S)."""
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2, ceil_mode=True))
        deep = self.bottom(functional.max_pool2d(second, 2, ceil_mode=True))
        middle = self.up2(torch.cat([_to_size_of(deep, second), second], dim=1))
        return self.up1(torch.cat([_to_size_of(middle, first), first], dim=1))


def _to_size_of(x: Tensor, other: Tensor) -> Tensor:
    return functional.interpolate(x, size=other.shape[-2:], mode="bilinear", align_corners=False)


def _double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.ReLU(),
    )
