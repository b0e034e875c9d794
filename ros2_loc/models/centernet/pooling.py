"""Maxima along rows and columns, and what CenterNet makes of them: cascade corner pooling and centre pooling (section 3.3).

The authors' own operations no longer compile. A running maximum is PyTorch's `cummax` where gradients are wanted, one in place where they
are not, and for exports a handful of maxima with shifted copies, which all runtimes have.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.models.centernet.blocks import ConvBlock

Direction = Literal["top", "bottom", "left", "right"]
# the dimension, and whether the maximum is over what comes after a place (True) or before it
_ALONG: dict[Direction, tuple[int, bool]] = {"top": (2, True), "bottom": (2, False), "left": (3, True), "right": (3, False)}
# rows or columns of cells that an export for images of any size can have
EXPORTED_CELLS = 1024


def corner_pool(features: Tensor, direction: Direction) -> Tensor:
    """(B, C, h, w) -> for each place the maximum of itself and all on one side: below (top), above (bottom), right (left), left (right).

    The name is that of the border of an object which it helps to find.
    """
    dim, after = _ALONG[direction]
    if torch.compiler.is_compiling():
        return maximum_by_shifts(features, dim, after)
    if features.requires_grad and torch.is_grad_enabled():
        return maximum_by_cummax(features, dim, after)
    return maximum_in_place(features, dim, after) if features.device.type == "cpu" else maximum_by_shifts(features, dim, after)


def maximum_by_cummax(features: Tensor, dim: int, after: bool) -> Tensor:
    """As `corner_pool` along dim 2 or 3, `after` a place or before it; the gradient goes to one place each."""
    return features.flip(dim).cummax(dim).values.flip(dim) if after else features.cummax(dim).values


def maximum_in_place(features: Tensor, dim: int, after: bool) -> Tensor:
    """As `maximum_by_cummax`, line by line in a copy, without gradients: the fastest on a CPU."""
    result = features.clone()
    lines = result.unbind(dim)[:: -1 if after else 1]
    for before, line in zip(lines, lines[1:], strict=False):
        torch.maximum(line, before, out=line)
    return result


def maximum_by_shifts(features: Tensor, dim: int, after: bool) -> Tensor:
    """As `maximum_by_cummax`, of 2, 4, 8, ... lines, each from two of the last; the edge is repeated outside, which changes no maximum."""
    count = features.shape[dim]
    reach = 1
    while reach < (count if isinstance(count, int) else EXPORTED_CELLS):
        ends = (0, reach) if after else (reach, 0)
        padded = functional.pad(features, (0, 0, *ends) if dim == 2 else (*ends, 0, 0), mode="replicate")
        features = torch.maximum(features, padded.narrow(dim, reach if after else 0, count))
        reach *= 2
    return features


def cross_pool(features: Tensor, dim: int) -> Tensor:
    """(B, C, h, w) -> for each place the maximum of its whole column (dim 2) or row (dim 3): of centre pooling."""
    return features.amax(dim=dim, keepdim=True).expand_as(features)


class CornerPooling(nn.Module):
    """Cascade corner pooling: looks along both borders of an object that meet in a corner, and from each of them inside."""

    def __init__(self, channels: int, width: int, directions: tuple[Direction, Direction]) -> None:
        """`channels` in and out, `width` while pooling; directions (top, left) or (bottom, right)."""
        super().__init__()
        self.directions = directions
        self.look1, self.look2 = ConvBlock(channels, width), ConvBlock(channels, width)
        self.border1, self.border2 = ConvBlock(channels, width), ConvBlock(channels, width)
        self.inside1, self.inside2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.merge = PoolMerge(channels, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        first, second = self.directions
        one = self.inside1(self.border1(features) + corner_pool(self.look1(features), second))
        two = self.inside2(self.border2(features) + corner_pool(self.look2(features), first))
        return self.merge(features, corner_pool(one, first) + corner_pool(two, second))  # type: ignore[no-any-return]


class CentrePooling(nn.Module):
    """The maximum of the column and that of the row of each place."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.vertical, self.horizontal = ConvBlock(channels, width), ConvBlock(channels, width)
        self.merge = PoolMerge(channels, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        return self.merge(features, cross_pool(self.vertical(features), 2) + cross_pool(self.horizontal(features), 3))  # type: ignore[no-any-return]


class PoolMerge(nn.Module):
    """What was pooled, added to the features that it was pooled of."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.skip = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.out = ConvBlock(channels, channels)

    def forward(self, features: Tensor, pooled: Tensor) -> Tensor:
        """(B, channels, h, w) and (B, width, h, w) -> (B, channels, h, w)."""
        return self.out(functional.relu(self.pooled(pooled) + self.skip(features)))  # type: ignore[no-any-return]
