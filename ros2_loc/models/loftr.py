"""LoFTR: matches two images without keypoints, cell by cell of 8 px, then within windows of 5x5 half-pixels.

Sun, Shen, Wang, Bao, Zhou, "LoFTR: Detector-Free Local Feature Matching with Transformers", CVPR 2021, section 3, with dual softmax. The
backbone and the attention layers are kornia's; matching and refinement are here, for several pairs in one batch, and in parts, so that what
does not depend on the other image is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from kornia.feature.loftr.backbone import ResNetFPN_8_2
from kornia.feature.loftr.loftr_module.transformer import LoFTREncoderLayer
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

CELL_PX, FINE_PX = 8, 2
WINDOW, STRIDE = 5, CELL_PX // FINE_PX
THRESHOLD, BORDER_CELLS, TEMPERATURE = 0.2, 2, 0.1
Encoding = Literal["buggy", "fixed"]


class Cells(NamedTuple):
    """The cells of one image for each pair.

    Attributes:
        tokens: (B, h * w, C), row by row.
        size: (h, w).
        valid: (B, h * w) bool, False for filling or what must not match; None where all are.
    """

    tokens: Tensor
    size: tuple[int, int]
    valid: Tensor | None = None


class CellMatches(NamedTuple):
    """Mutual matches of all pairs: (M,) pair, cell of the first image, cell of the second, confidence in 0..1."""

    pair: Tensor
    first: Tensor
    second: Tensor
    confidence: Tensor


class LoFTR(nn.Module):
    """Backbone, attention between cells, attention within windows."""

    @dataclass(frozen=True)
    class Config:
        """Sizes; the defaults are those of the published weights.

        Attributes:
            encoding: of positions; buggy is what the first weights were trained with (outdoor_ds, indoor_ds), fixed the later ones
                (indoor_ds_new). No weight tells.
            widths: channels at strides 2, 4 and 8; the first and the last are those of windows and of cells.
            coarse_rounds: of attention within and between images, for cells.
            heads: of the attention.
        """

        encoding: Encoding = "buggy"
        widths: tuple[int, ...] = (128, 196, 256)
        coarse_rounds: int = 4
        heads: int = 8

        def __post_init__(self) -> None:
            object.__setattr__(self, "widths", tuple(self.widths))
            fits = len(self.widths) == 3 and all(width >= self.heads and width % self.heads == 0 for width in self.widths[::2])
            if self.encoding not in ("buggy", "fixed") or not fits or self.coarse_rounds < 1 or self.widths[-1] % 4:
                raise ConfigError(
                    f"loftr: encoding is buggy or fixed, widths are 3 that heads divide, rounds at least 1, got {self.encoding!r}, "
                    f"{list(self.widths)}, {self.heads}, {self.coarse_rounds}"
                )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        fine, coarse = config.widths[0], config.widths[-1]
        self.backbone = ResNetFPN_8_2({"initial_dim": fine, "block_dims": list(config.widths)})
        self.coarse_layers = nn.ModuleList(LoFTREncoderLayer(coarse, config.heads) for _ in range(2 * config.coarse_rounds))
        self.down_proj = nn.Linear(coarse, fine)
        self.merge_feat = nn.Linear(2 * fine, fine)
        self.fine_layers = nn.ModuleList(LoFTREncoderLayer(fine, config.heads) for _ in range(2))

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) gray in 0..1, H and W multiples of 8 -> coarse (B, C, H / 8, W / 8) and fine (B, c, H / 2, W / 2) features."""
        coarse, fine = self.backbone(images)
        return coarse, fine

    def coarse_features(self, images: Tensor) -> Tensor:
        """The first of `features` for little more than half its time."""
        trunk = self.backbone
        first = trunk.relu(trunk.bn1(trunk.conv1(images)))
        return trunk.layer3_outconv(trunk.layer3(trunk.layer2(trunk.layer1(first))))  # type: ignore[no-any-return]

    def cells(self, coarse: Tensor, valid: Tensor | None = None) -> Cells:
        """Coarse features -> cells that know where they are and what is around them in their own image: this needs no other image.

        Args:
            coarse: (B, C, h, w).
            valid: (B, h, w) bool, or None for everywhere.
        """
        encoded = coarse + position_encoding(coarse.shape[1], (coarse.shape[2], coarse.shape[3]), self.config.encoding).to(coarse)
        tokens = encoded.flatten(2).transpose(1, 2).contiguous()
        mask = None if valid is None else valid.flatten(1)
        return Cells(self.coarse_layers[0](tokens, tokens, mask, mask), (coarse.shape[2], coarse.shape[3]), mask)

    def attended(self, first: Cells, second: Cells) -> tuple[Cells, Cells]:
        """Both as of `cells` -> what they are in each other's light (section 3.2)."""
        a, b = first.tokens, second.tokens
        for index, layer in enumerate(self.coarse_layers):
            if index % 2:
                a = layer(a, b, first.valid, second.valid)
                b = layer(b, a, second.valid, first.valid)
            elif index:
                a, b = layer(a, a, first.valid, first.valid), layer(b, b, second.valid, second.valid)
        return first._replace(tokens=a), second._replace(tokens=b)

    def windows(self, fine: tuple[Tensor, Tensor], cells: tuple[Cells, Cells], matches: CellMatches) -> tuple[Tensor, Tensor]:
        """Windows about matched cells, (M, WINDOW * WINDOW, c) of each image, that know of each other.

        Args:
            fine: of both images, as of `features`.
            cells: of both, as of `attended`.
            matches: of their pairs.
        """
        unfolded = self.unfolded(fine, cells, matches)
        a, b = unfolded
        if len(a):
            within, between = self.fine_layers
            a, b = within(a, a), within(b, b)
            a = between(a, b)
            b = between(b, a)
        return a, b

    def unfolded(self, fine: tuple[Tensor, Tensor], cells: tuple[Cells, Cells], matches: CellMatches) -> tuple[Tensor, Tensor]:
        """`windows` before the attention."""
        result = []
        for maps, (tokens, (_, width), _), index in zip(fine, cells, (matches.first, matches.second), strict=True):
            around = _windows_at(maps, matches.pair, index // width, index % width)
            cell = self.down_proj(tokens[matches.pair, index])[:, None].expand(-1, WINDOW * WINDOW, -1)
            result.append(self.merge_feat(torch.cat([around, cell], dim=-1)))
        return result[0], result[1]


def position_encoding(channels: int, size: tuple[int, int], encoding: Encoding) -> Tensor:
    """(channels, h, w) of sines and cosines; columns and rows are counted from 1."""
    steps = torch.arange(0, channels // 2, 2).float()
    # floor(-ln(1e4) / channels / 2) is -1
    rate = -math.log(10000.0) / (channels // 2) if encoding == "fixed" else -1.0
    turns = torch.exp(steps * rate)[:, None, None]
    rows, columns = (torch.arange(1, side + 1).float() for side in size)
    x, y = (columns[None, None, :] * turns).expand(-1, *size), (rows[None, :, None] * turns).expand(-1, *size)
    return torch.stack([x.sin(), x.cos(), y.sin(), y.cos()], dim=1).reshape(channels, *size)


def confidences(first: Cells, second: Cells) -> Tensor:
    """Dual softmax (B, cells of the first, cells of the second) (equation 2)."""
    scale = first.tokens.shape[-1] ** 0.5  # of each, as sums of products are too much for 16 bits
    similarity = torch.einsum("blc,bsc->bls", first.tokens / scale, second.tokens / scale) / TEMPERATURE
    for cells, axis in ((first, 2), (second, 1)):
        if cells.valid is not None:
            similarity = similarity.masked_fill(~cells.valid.unsqueeze(axis), -1e9)
    return functional.softmax(similarity, dim=1) * functional.softmax(similarity, dim=2)


def matched(confidence: Tensor, first: Cells, second: Cells, threshold: float = THRESHOLD) -> CellMatches:
    """Cells that choose each other with more confidence than the threshold, none near the border (section 3.3)."""
    best, partner = confidence.max(dim=2)
    mutual = confidence.amax(dim=1).gather(1, partner) == best
    batch = len(confidence)
    inside = _inside(first, batch, confidence.device), _inside(second, batch, confidence.device).gather(1, partner)
    pair, cell = ((best > threshold) & mutual & inside[0] & inside[1]).nonzero(as_tuple=True)
    return CellMatches(pair, cell, partner[pair, cell], best[pair, cell])


def positions(index: Tensor, size: tuple[int, int]) -> Tensor:
    """(M,) cells -> (M, 2) px, x and y, where the first image's matches are."""
    return CELL_PX * torch.stack([index % size[1], index // size[1]], dim=1).float()


def refined(windows: tuple[Tensor, Tensor]) -> Tensor:
    """Where in the second window the centre of the first is: (M, 3) x and y in -1..1 of the window, sum of standard deviations."""
    first, second = windows
    heat = functional.softmax(torch.einsum("mc,mwc->mw", first[:, WINDOW * WINDOW // 2], second) / first.shape[-1] ** 0.5, dim=1)
    steps = torch.linspace(-1.0, 1.0, WINDOW, device=heat.device, dtype=heat.dtype)
    grid = torch.stack([steps.repeat(WINDOW), steps.repeat_interleave(WINDOW)], dim=1)
    mean = heat @ grid
    variance = heat @ grid**2 - mean**2
    return torch.cat([mean, variance.clamp(min=1e-10).sqrt().sum(dim=1, keepdim=True)], dim=1)


def refined_positions(index: Tensor, size: tuple[int, int], expectation: Tensor) -> Tensor:
    """(M,) cells of the second image and what `refined` says -> (M, 2) px."""
    return positions(index, size) + expectation[:, :2] * (WINDOW // 2) * FINE_PX


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `LoFTR`.

    Raises:
        DataError: a name that is not theirs.
    """
    result = {}
    for key, value in state.items():
        name = key.removeprefix("matcher.")
        theirs = next((prefix for prefix in _NAMES if name.startswith(prefix)), None)
        if theirs is None:
            raise DataError(f"{key}: is no weight of LoFTR's authors; give their outdoor_ds.ckpt")
        result[_NAMES[theirs] + name.removeprefix(theirs)] = value
    return result


def load_published(path: str | Path, encoding: Encoding = "buggy") -> LoFTR:
    """A checkpoint of the authors (dual softmax), in evaluation mode.

    Args:
        path: outdoor_ds.ckpt or another.
        encoding: that it was trained with: see `LoFTR.Config`.

    Raises:
        ConfigError, DataError: no such file; not LoFTR's weights.
    """
    with told_of(path):
        network = LoFTR(LoFTR.Config(encoding))
        load_strictly(network, renamed(tensors_of(path)), str(path))
    return network.eval()


_NAMES = {
    "backbone.": "backbone.",
    "loftr_coarse.layers.": "coarse_layers.",
    "loftr_fine.layers.": "fine_layers.",
    "fine_preprocess.": "",
}


def _windows_at(maps: Tensor, pair: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """(M, WINDOW * WINDOW, c) of maps (B, c, h, w), zero outside."""
    half = WINDOW // 2
    padded = functional.pad(maps, (half, half, half, half))
    steps = torch.arange(WINDOW, device=maps.device)
    rows, columns = STRIDE * row[:, None] + steps, STRIDE * column[:, None] + steps
    found = padded[pair[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return found.reshape(len(pair), WINDOW * WINDOW, maps.shape[1])


def _inside(cells: Cells, batch: int, device: torch.device) -> Tensor:
    """(B, h * w) bool, False within BORDER_CELLS of the border of what is valid."""
    height, width = cells.size
    valid = torch.ones(1, height * width, dtype=torch.bool, device=device) if cells.valid is None else cells.valid
    valid = valid.reshape(-1, height, width)
    inside = []
    for side, other in ((height, 2), (width, 1)):
        steps = torch.arange(side, device=device)
        last = (valid.any(dim=other) * (steps + 1)).amax(dim=1)
        inside.append((steps >= BORDER_CELLS) & (steps < last[:, None] - BORDER_CELLS))
    return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1).expand(batch, -1)
