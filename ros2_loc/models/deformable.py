"""Deformable convolution: Dai et al., "Deformable Convolutional Networks", ICCV 2017, section 2.1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import deform_conv2d


class DeformableConv2d(nn.Module):
    """3 x 3, each of whose nine samples is moved by what another convolution says of the place, at most a quarter of the image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(inputs, 18, 3, padding=1)
        self.regular_conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        height, width = x.shape[2:]
        offsets = self.offset_conv(x)
        if torch.compiler.is_compiling():  # an export: no runtime has torchvision's operation
            reach = torch.sym_max(height, width) / 4.0
            return sampled_convolution(x, offsets.clamp(-reach, reach), self.regular_conv.weight)
        reach = max(height, width) / 4.0
        return deform_conv2d(x, offsets.clamp(-reach, reach), self.regular_conv.weight, padding=1)


def sampled_convolution(x: Tensor, offsets: Tensor, weight: Tensor, shares: Tensor | None = None, stride: int = 1) -> Tensor:
    """`deform_conv2d` with padding 1, written as bilinear sampling and a 1 x 1 convolution, which all runtimes have.

    Args:
        x: (B, C, H, W).
        offsets: (B, 18, H / stride, W / stride) px: down and right for each of the nine samples, row by row.
        weight: (D, C, 3, 3).
        shares: (B, 9, H / stride, W / stride), what each sample counts; None for 1.
    """
    height, width = x.shape[2:]
    batch, _, rows, columns = offsets.shape
    row = stride * torch.arange(rows, device=x.device, dtype=x.dtype)[:, None]
    column = stride * torch.arange(columns, device=x.device, dtype=x.dtype)[None]
    total = torch.zeros(batch, weight.shape[0], rows, columns, device=x.device, dtype=x.dtype)
    for tap in range(9):
        down = row + (tap // 3 - 1) + offsets[:, 2 * tap]
        right = column + (tap % 3 - 1) + offsets[:, 2 * tap + 1]
        grid = torch.stack([(2.0 * right + 1.0) / width - 1.0, (2.0 * down + 1.0) / height - 1.0], dim=-1)
        taken = functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        taken = taken if shares is None else taken * shares[:, tap, None]
        total = total + functional.conv2d(taken, weight[:, :, tap // 3, tap % 3, None, None])
    return total
