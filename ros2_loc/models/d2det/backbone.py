"""Backbones with a feature pyramid: torchvision's ResNets, with deformable convolutions where asked for, and a narrow one for a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock
from torchvision.ops import deform_conv2d

from ros2_loc.models.deformable import sampled_convolution

DEPTHS = (50, 101)
STRIDES_PX = (4, 8, 16, 32, 64)


class ModulatedDeformableConv2d(nn.Module):
    """3 x 3, each of whose nine samples is moved and weighed by what another convolution says of the place.

    Zhu, Hu, Lin, Dai, "Deformable ConvNets v2", CVPR 2019, section 3.2. Offsets begin at 0, weights at 1/2.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Takes the size, the stride and the weights of `conv`."""
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.stride, self.padding = conv.stride, conv.padding
        self.conv_offset = nn.Conv2d(conv.in_channels, 27, 3, conv.stride, padding=1)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H / stride, W / stride)."""
        offsets, weights = self.conv_offset(x).split((18, 9), dim=1)
        if torch.compiler.is_compiling():  # an export: no runtime has torchvision's operation
            return sampled_convolution(x, offsets, self.weight, weights.sigmoid(), int(self.stride[0]))
        return deform_conv2d(  # type: ignore[no-any-return]
            x, offsets, self.weight, stride=self.stride, padding=self.padding, mask=weights.sigmoid()
        )


class Narrow(nn.Module):
    """Four stages of basic blocks, of strides 4 to 32."""

    def __init__(self, widths: Sequence[int]) -> None:
        """`widths`: channels of each stage."""
        super().__init__()
        first = max(widths[0] // 2, 8)
        self.stem = nn.Sequential(*_convolution(3, first), *_convolution(first, widths[0]))
        self.layer1 = nn.Sequential(BasicBlock(widths[0], widths[0]))
        self.layer2, self.layer3, self.layer4 = (_stage(*pair) for pair in zip(widths, widths[1:], strict=False))


def pyramid(depth: int, widths: Sequence[int], deformable: bool, channels: int) -> BackboneWithFPN:
    """The backbone with its pyramid: images (B, 3, H, W) -> features of strides 4, 8, 16, 32, 64 px, all of `channels`.

    Args:
        depth: of a ResNet, for no `widths`.
        widths: of `Narrow`, four; or none.
        deformable: the ResNet's last three stages have deformable convolutions.
        channels: of all levels.
    """
    if widths:
        body: nn.Module = Narrow(widths)
        inputs = list(widths)
    else:
        body = getattr(resnet, f"resnet{depth}")()
        inputs = [256, 512, 1024, 2048]
        if deformable:
            for block in (*body.layer2, *body.layer3, *body.layer4):  # type: ignore[misc]
                block.conv2 = ModulatedDeformableConv2d(block.conv2)  # type: ignore[union-attr,arg-type]
    return BackboneWithFPN(body, {f"layer{i}": str(i - 1) for i in range(1, 5)}, inputs, channels)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride=2, downsample=shortcut), BasicBlock(outputs, outputs))


def level_of(boxes: Tensor, finest_px: float, levels: int) -> Tensor:
    """Which level of the pyramid a box is looked at in, (N,) int64: from twice `finest_px` on the second, from four times the third."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0.0).sqrt()
    return torch.log2(side / finest_px + 1e-6).floor().clamp(0, levels - 1).long()
