"""Backbones: images to feature maps. Both branches of CVLNet have one, with weights of their own.

Each has `stride`, in px of its input per feature, and `first_centre_px`, where the centre of the first feature lies in the input (centre of
the first pixel at 0.5): `stride / 2` where its strided layers are symmetric.
"""

from __future__ import annotations

from torch import Tensor, nn


def make_backbone(name: str, channels_out: int) -> nn.Module:
    """The backbone of that name with random weights: (B, 3, H, W) in 0..1 -> (B, channels_out, H / stride, W / stride)."""
    return _BACKBONES[name](channels_out)


class Small(nn.Module):
    """Few channels, stride 4, for CPUs. No statistics over the batch: an image gives the same features in any company.

    The strided layers have even kernels, so that features lie in the middle of their pixels.
    """

    stride = 4
    first_centre_px = 2.0

    def __init__(self, channels_out: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_block(3, 24, 4, 2), _block(24, 48, 4, 2))
        self.residual = nn.Sequential(_block(48, 48, 3, 1), _block(48, 48, 3, 1))
        self.head = nn.Sequential(_block(48, 48, 3, 1), nn.Conv2d(48, channels_out, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 -> (B, c, H / 4, W / 4)."""
        x = self.stem(2.0 * images - 1.0)
        return self.head(x + self.residual(x))


def _block(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=(kernel - 1) // 2)
    return nn.Sequential(conv, nn.GroupNorm(8, channels_out), nn.ReLU())


_BACKBONES = {"small": Small}
