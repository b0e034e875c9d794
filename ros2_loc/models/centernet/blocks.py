"""Layers that the parts of CenterNet are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU; the sides of the image are halved by stride 2, upwards."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, (kernel - 1) // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels_in, h, w) -> (B, channels, h / stride, w / stride)."""
        return functional.relu(self.bn(self.conv(features)))


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution where channels or size change."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changes = stride != 1 or channels_in != channels
        shortcut = (nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)) if changes else ()
        self.skip = nn.Sequential(*shortcut)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels_in, h, w) -> (B, channels, h / stride, w / stride)."""
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(features)))))
        return functional.relu(inner + self.skip(features))


class Hourglass(nn.Module):
    """Down to a coarse map and up again, with a way past each step (Newell et al., ECCV 2016; changed as CornerNet has it: no pooling)."""

    def __init__(self, dims: tuple[int, ...], modules: tuple[int, ...]) -> None:
        """Channels and numbers of residuals, of each level; there is one more level than there are halvings."""
        super().__init__()
        (here, below), (count, count_below) = dims[:2], modules[:2]
        self.past = nn.Sequential(*(Residual(here, here) for _ in range(count)))
        self.down = nn.Sequential(Residual(here, below, 2), *(Residual(below, below) for _ in range(count - 1)))
        self.inner: nn.Module = (
            Hourglass(dims[1:], modules[1:]) if len(dims) > 2 else nn.Sequential(*(Residual(below, below) for _ in range(count_below)))
        )
        self.up = nn.Sequential(*(Residual(below, below) for _ in range(count - 1)), Residual(below, here))

    def forward(self, features: Tensor) -> Tensor:
        """(B, dims[0], h, w) -> the same shape; h and w are multiples of 2 to the number of halvings."""
        coarse = self.up(self.inner(self.down(features)))
        return self.past(features) + functional.interpolate(coarse, scale_factor=2.0, mode="nearest")  # type: ignore[no-any-return]
