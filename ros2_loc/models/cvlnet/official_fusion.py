"""The authors' ways of making one overhead map of several frames, by the names of their `fuse_method`.

Each maps projected features (B, N, 16, S, S), newest frame first, to (B, 16, S, S). `fuse_Transformer` and `vis_Conv2D` are held to
numbers of the published code. Of the others the shapes of the weights are known; what the shapes leave open is said at each class.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

CHANNELS = 16
HIDDEN = 8
HEADS = 2


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def head(outputs: int) -> nn.Sequential:
    """Three convolutions 8 -> 8 -> 8 -> outputs."""
    return nn.Sequential(conv3(HIDDEN, HIDDEN), nn.ReLU(), conv3(HIDDEN, HIDDEN), nn.ReLU(), conv3(HIDDEN, outputs))


def per_frame(module: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """A network of single pictures on (B, N, C, H, W)."""
    return module(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


def position_encoding(length: int, channels: int, device: torch.device) -> Tensor:
    """(length, channels): sine and cosine of the frame's index at falling frequencies, in turn."""
    index = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / channels))
    return torch.stack([torch.sin(index * frequency), torch.cos(index * frequency)], dim=-1).flatten(1)


class AttentionLayer(nn.Module):
    """Attention over the frames at every cell; neither a residual nor a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.value = (
            nn.Sequential(conv3(CHANNELS, CHANNELS), nn.ReLU(), conv3(CHANNELS, CHANNELS)) for _ in range(3)
        )
        self.proj = conv3(CHANNELS, CHANNELS)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C, S, S) of the same shape, and the attention (B * S * S, heads, N, N)."""
        batch, length, channels, height, width = frames.shape
        encoded = frames + position_encoding(length, channels, frames.device)[:, :, None, None]

        def tokens(module: nn.Module) -> Tensor:  # (B * S * S, heads, N, 8)
            split = per_frame(module, encoded).unflatten(2, (HEADS, channels // HEADS))
            return split.permute(0, 4, 5, 2, 1, 3).flatten(0, 2)

        query, key, value = tokens(self.query), tokens(self.key), tokens(self.value)
        attention = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(channels // HEADS), dim=-1)
        mixed = (attention @ value).unflatten(0, (batch, height, width)).permute(0, 4, 3, 5, 1, 2).flatten(2, 3)
        return per_frame(self.proj, mixed), attention


class Transformer(nn.Module):
    """fuse_Transformer: two attention layers, then the mean over the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer() for _ in range(2))

    def stages(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The frames after the last layer (B, N, 16, S, S) and that layer's attention."""
        attention = frames
        for layer in self.layers:
            frames, attention = layer(frames)
        return frames, attention

    def forward(self, frames: Tensor) -> Tensor:
        return self.stages(frames)[0].mean(dim=1)


class Conv2dFrames(nn.Sequential):
    """Three convolutions 16 -> 8 -> 8 -> 8 on each frame by itself.

    vis_Conv2D begins with a dropout that is 0 when testing; here it keeps the numbers of the layers behind it.
    """

    def __init__(self, dropout_first: bool) -> None:
        layers = [conv3(CHANNELS, HIDDEN), nn.ReLU(), conv3(HIDDEN, HIDDEN), nn.ReLU(), conv3(HIDDEN, HIDDEN)]
        super().__init__(*([nn.Identity(), *layers] if dropout_first else layers))

    def forward(self, frames: Tensor) -> Tensor:
        return per_frame(super().forward, frames)


class Conv3dFrames(nn.Sequential):
    """3D convolutions over (time, row, column) with these extents in time.

    Even extents are padded by one frame more at the older end so that the number of frames stays: our reading, the shapes leave it open.
    """

    def __init__(self, extents: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for index, extent in enumerate(extents):
            layers += [nn.ReLU()] if index else []
            layers.append(nn.Conv3d(HIDDEN if index else CHANNELS, HIDDEN, (extent, 3, 3), padding=(0, 1, 1)))
        super().__init__(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        volume = frames.transpose(1, 2)
        for layer in self:
            if isinstance(layer, nn.Conv3d):
                extent = layer.kernel_size[0]
                volume = nn.functional.pad(volume, (0, 0, 0, 0, (extent - 1) // 2, extent // 2))
            volume = layer(volume)
        return volume.transpose(1, 2)


class LstmCell(nn.Module):
    """A convolutional LSTM cell whose gates and output pass batch normalization."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.gates = nn.Sequential(conv3(inputs + HIDDEN, 4 * HIDDEN), nn.BatchNorm2d(4 * HIDDEN))
        self.output = nn.Sequential(conv3(HIDDEN, HIDDEN), nn.BatchNorm2d(HIDDEN))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, inputs, S, S) in the order given -> (B, N, 8, S, S)."""
        hidden = frames.new_zeros(frames.shape[0], HIDDEN, *frames.shape[-2:])
        cell, outputs = hidden, []
        for frame in frames.unbind(1):
            into, forget, out, new = self.gates(torch.cat([frame, hidden], dim=1)).chunk(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
            hidden = torch.sigmoid(out) * torch.tanh(cell)
            outputs.append(self.output(hidden))
        return torch.stack(outputs, dim=1)


class LstmFrames(nn.Module):
    """Two LSTM layers, both directions of time with the same weights and added, then ReLU, a convolution and a normalization.

    The order of the gates and the sum of the directions are our reading: the shapes leave them open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([LstmCell(CHANNELS), LstmCell(HIDDEN)])
        self.refine = nn.Sequential(nn.ReLU(), conv3(HIDDEN, HIDDEN), nn.BatchNorm2d(HIDDEN))

    def forward(self, frames: Tensor) -> Tensor:
        for cell in self.cells:
            frames = cell(frames) + cell(frames.flip(1)).flip(1)
        return per_frame(self.refine, frames)


class Weighted(nn.Module):
    """vis_*: one weight per frame and cell, softmax over the frames, weighted sum of the projected features."""

    def __init__(self, frames: nn.Module) -> None:
        super().__init__()
        self.frames, self.head = frames, head(1)

    def forward(self, frames: Tensor) -> Tensor:
        return (torch.softmax(per_frame(self.head, self.frames(frames)), dim=1) * frames).sum(dim=1)


class Direct(nn.Module):
    """fuse_*: the mean over the frames of what the network makes of each."""

    def __init__(self, frames: nn.Module) -> None:
        super().__init__()
        self.frames, self.head = frames, head(CHANNELS)

    def forward(self, frames: Tensor) -> Tensor:
        return per_frame(self.head, self.frames(frames)).mean(dim=1)


FUSE_METHODS = ("fuse_Transformer", "vis_Conv2D", "vis_Conv3D", "vis_LSTM", "fuse_Conv2D", "fuse_Conv3D", "fuse_LSTM")


def make_fusion(fuse_method: str) -> nn.Module:
    """The network of one of FUSE_METHODS."""
    if fuse_method == "fuse_Transformer":
        return Transformer()
    rule, _, kind = fuse_method.partition("_")
    frames: nn.Module
    if kind == "Conv2D":
        frames = Conv2dFrames(dropout_first=rule == "vis")
    elif kind == "Conv3D":
        frames = Conv3dFrames((3, 3) if rule == "vis" else (4, 8, 2))
    else:
        frames = LstmFrames()
    return Weighted(frames) if rule == "vis" else Direct(frames)
