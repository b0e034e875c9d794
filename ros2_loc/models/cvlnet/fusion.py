"""From the projected features of a video's frames to one overhead map: PCSF and the alternatives of the paper's table 2.

All take (B, N, c, S, S) features, zero where invisible, and (B, N, S, S) bool, and give (B, c, S, S). Frames that don't see a cell have no
part in it, so frames that pad a batch change nothing. The number of frames is free.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

FUSIONS = ("pcsf", "conv2d", "conv3d", "lstm", "conv2d_attention", "conv3d_attention", "lstm_attention")


def make_fusion(name: str, channels: int) -> nn.Module:
    """The fusion of that name in `FUSIONS`; `..._attention` weighs the frames, the others fuse directly."""
    if name == "pcsf":
        return PhotoConsistency(channels)
    method, _, suffix = name.partition("_")
    over_time = _OVER_TIME[method](channels)
    return AttentionFusion(over_time, channels) if suffix == "attention" else DirectFusion(over_time)


def masked_softmax(logits: Tensor, visible: Tensor, dim: int) -> Tensor:
    """Softmax over the entries that are visible; zeros where none is."""
    weights = logits.masked_fill(~visible, torch.finfo(logits.dtype).min).softmax(dim)
    return weights * visible


def masked_mean(features: Tensor, visible: Tensor) -> Tensor:
    """Mean over the frames that see a cell: (B, N, c, S, S), (B, N, S, S) -> (B, c, S, S); zeros where none does."""
    count = visible.sum(dim=1).clamp(min=1)
    return (features * visible[:, :, None]).sum(dim=1) / count[:, None]


def frame_encoding(frames: int, channels: int, like: Tensor) -> Tensor:
    """(N, c): sine and cosine of the frame's index at c / 2 wavelengths, newest frame first; any number of frames (Vaswani et al. 2017)."""
    index = torch.arange(frames, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, channels, 2, device=like.device, dtype=torch.float32) * (-math.log(1e4) / channels))
    return torch.cat([torch.sin(index * rate), torch.cos(index * rate)], dim=1)[:, :channels].to(like.dtype)


class PhotoConsistency(nn.Module):
    """Photo-consistency constrained sequence fusion (section 3.2, equations 2 and 3): self-attention over the frames at every cell.

    Features that several frames agree on count more. The frames' mean is added, so that a single frame, or a network at the start of its
    training, passes its features on.
    """

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self._heads = heads
        self.shared = nn.Conv2d(channels, channels, 3, padding=1)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """(B, N, c, S, S), (B, N, S, S) -> (B, c, S, S)."""
        b, n, c, s, _ = features.shape
        encoded = features + frame_encoding(n, c, features)[:, :, None, None]
        qkv = self.query_key_value(functional.relu(self.shared((encoded * visible[:, :, None]).flatten(0, 1))))
        query, key, value = qkv.view(b, n, 3, self._heads, c // self._heads, s, s).unbind(2)
        weights = self._frame_weights(query, key, visible)
        attended = (weights[:, :, :, None] * value).sum(dim=1)
        return masked_mean(features, visible) + self.out(attended.reshape(b, c, s, s))

    def _frame_weights(self, query: Tensor, key: Tensor, visible: Tensor) -> Tensor:
        """(B, N, heads, S, S): each frame's weight, the mean of M_ij over the frames i that see the cell."""
        logits = (query[:, :, None] * key[:, None]).sum(dim=4) / math.sqrt(query.shape[3])
        attention = masked_softmax(logits, visible[:, None, :, None], dim=2)
        seen_by = visible[:, :, None, None] / visible.sum(dim=1).clamp(min=1)[:, None, None, None]
        return (attention * seen_by.to(attention.dtype)).sum(dim=1)


class DirectFusion(nn.Module):
    """A network over the frames, and the mean of what it gives ("direct fusion", section 5.1.2)."""

    def __init__(self, over_time: nn.Module) -> None:
        super().__init__()
        self.over_time = over_time

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """(B, N, c, S, S), (B, N, S, S) -> (B, c, S, S)."""
        return masked_mean(self.over_time(features, visible), visible)


class AttentionFusion(nn.Module):
    """A network over the frames gives each a weight at each cell ("attention based fusion", section 5.1.2)."""

    def __init__(self, over_time: nn.Module, channels: int) -> None:
        super().__init__()
        self.over_time = over_time
        self.logit = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """(B, N, c, S, S), (B, N, S, S) -> (B, c, S, S)."""
        b, n, _, s, _ = features.shape
        logits = self.logit(functional.relu(self.over_time(features, visible)).flatten(0, 1)).view(b, n, s, s)
        return (masked_softmax(logits, visible, dim=1)[:, :, None] * features).sum(dim=1)


class OverTimeConv2D(nn.Module):
    """Two 3x3 convolutions on each frame by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """(B, N, c, S, S), (B, N, S, S) -> (B, N, c, S, S)."""
        return self.second(functional.relu(self.first(features.flatten(0, 1)))).view_as(features)


class OverTimeConv3D(nn.Module):
    """Two 3x3x3 convolutions, the first axis of which is time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """(B, N, c, S, S), (B, N, S, S) -> (B, N, c, S, S)."""
        hidden = functional.relu(self.first(features.transpose(1, 2))) * visible[:, None]
        return self.second(hidden).transpose(1, 2)


class OverTimeLSTM(nn.Module):
    """Two bidirectional LSTM layers over the frames that see a cell, the oldest last; each cell by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels // 2, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """(B, N, c, S, S), (B, N, S, S) -> (B, N, c, S, S)."""
        b, n, c, s, _ = features.shape
        cells = features.permute(0, 3, 4, 1, 2).reshape(-1, n, c)
        seen = visible.permute(0, 2, 3, 1).reshape(-1, n)
        order = seen.int().argsort(dim=1, descending=True, stable=True)[..., None].expand(-1, -1, c)
        lengths = seen.sum(dim=1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(cells.gather(1, order), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=n)
        placed = torch.zeros_like(cells).scatter(1, order, hidden)
        return placed.view(b, s, s, n, c).permute(0, 3, 4, 1, 2)


_OVER_TIME = {"conv2d": OverTimeConv2D, "conv3d": OverTimeConv3D, "lstm": OverTimeLSTM}
