"""SuperPoint: keypoints and descriptors by one encoder with two heads.

DeTone, Malisiewicz, Rabinovich, "SuperPoint: Self-Supervised Interest Point Detection and Description", CVPR 2018 Workshops, section 3;
the suppression and the selection of keypoints are those that SuperGlue was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import DataError
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

CELL_PX = 8
DIMENSION = 256


class SuperPointMaps(NamedTuple):
    """What the heads say of each cell of 8x8 px; h and w are those of the image by 8, rounded down.

    Attributes:
        logits: (B, 65, h, w), row by row the cell's pixels, then "no keypoint here".
        descriptors: (B, D, h, w), not normalized.
    """

    logits: Tensor
    descriptors: Tensor


class SuperPoint(nn.Module):
    """The whole network; layers have the authors' names."""

    @dataclass(frozen=True)
    class Config:
        """`dimension` of the descriptors."""

        dimension: int = DIMENSION

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        inputs = 1
        for stage, channels in enumerate((64, 64, 128, 128), start=1):
            setattr(self, f"conv{stage}a", nn.Conv2d(inputs, channels, 3, padding=1))
            setattr(self, f"conv{stage}b", nn.Conv2d(channels, channels, 3, padding=1))
            inputs = channels
        self.convPa = nn.Conv2d(inputs, 256, 3, padding=1)
        self.convPb = nn.Conv2d(256, CELL_PX**2 + 1, 1)
        self.convDa = nn.Conv2d(inputs, 256, 3, padding=1)
        self.convDb = nn.Conv2d(256, config.dimension, 1)

    def forward(self, images: Tensor) -> SuperPointMaps:
        """(B, 1, H, W) gray in 0..1, H and W at least 8."""
        x = images
        for stage in range(1, 5):
            x = functional.relu(getattr(self, f"conv{stage}a")(x))
            x = functional.relu(getattr(self, f"conv{stage}b")(x))
            x = functional.max_pool2d(x, 2) if stage < 4 else x
        logits = self.convPb(functional.relu(self.convPa(x)))
        return SuperPointMaps(logits, self.convDb(functional.relu(self.convDa(x))))


def heatmap(logits: Tensor) -> Tensor:
    """(B, 65, h, w) -> probability of a keypoint (B, 8h, 8w): softmax, less "no keypoint here"."""
    return functional.pixel_shuffle(functional.softmax(logits, dim=1)[:, :-1], CELL_PX)[:, 0]


def suppressed(heat: Tensor, radius: int) -> Tensor:
    """(B, H, W) -> the same, 0 but where it is largest within `radius` px in x and y.

    Two more rounds find the maxima among what lies beyond the radius of those found before.
    """

    def highest(values: Tensor) -> Tensor:
        # by rows, then by columns: the same, in a third of the time
        rows = functional.max_pool2d(values[:, None], (1, 2 * radius + 1), stride=1, padding=(0, radius))
        return functional.max_pool2d(rows, (2 * radius + 1, 1), stride=1, padding=(radius, 0))[:, 0]

    kept = heat == highest(heat)
    for _ in range(2):
        near = highest(kept.to(heat.dtype)) > 0
        rest = heat.masked_fill(near, 0.0)
        kept = kept | ((rest == highest(rest)) & ~near)
    return heat.masked_fill(~kept, 0.0)


def strongest(heat: Tensor, threshold: float, border_px: int, limit: int = -1) -> tuple[Tensor, Tensor]:
    """Pixels of one map above a threshold.

    Args:
        heat: (H, W), suppressed.
        threshold: a score must be larger.
        border_px: so many rows and columns are left out at each side.
        limit: if more are found, the best so many, best first; -1 for all. Otherwise they come row by row.

    Returns:
        (N, 2) column and row of each, int64; scores (N,).
    """
    height, width = heat.shape
    row, column = (heat > threshold).nonzero(as_tuple=True)
    inside = (row >= border_px) & (row < height - border_px) & (column >= border_px) & (column < width - border_px)
    row, column = row[inside], column[inside]
    scores = heat[row, column]
    if 0 <= limit < len(scores):
        scores, best = scores.topk(limit)
        row, column = row[best], column[best]
    return torch.stack([column, row], dim=1), scores


def descriptors_at(descriptors: Tensor, pixels: Tensor, as_authors: bool = False) -> Tensor:
    """Bilinear between the cells' centres.

    Args:
        descriptors: (D, h, w), not normalized.
        pixels: (N, 2) column and row.
        as_authors: their formula stretches the map by half a cell, so that at the right and bottom it looks 3.5 px too far to the left
            and top.

    Returns:
        (N, D) of unit length.
    """
    size = torch.tensor([descriptors.shape[2], descriptors.shape[1]], device=pixels.device) * CELL_PX
    at = (pixels - CELL_PX / 2 + 0.5) / (size - CELL_PX / 2 - 0.5) if as_authors else (pixels + 0.5) / size
    # the length of a cell's descriptor must not weigh it
    unit = functional.normalize(descriptors, dim=0)[None]
    found = functional.grid_sample(unit, (2.0 * at - 1.0).to(unit.dtype)[None, None], align_corners=as_authors)
    return functional.normalize(found[0, :, 0].T, dim=1)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict: their names are ours.

    Raises:
        DataError: it is not theirs.
    """
    if "convPa.weight" not in state or "convDb.weight" not in state:
        raise DataError("no convPa.weight: these are no weights of SuperPoint's authors; give their superpoint_v1.pth")
    return dict(state)


def load_published(path: str | Path) -> SuperPoint:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not SuperPoint's weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        network = SuperPoint(SuperPoint.Config(state["convDb.weight"].shape[0]))
        load_strictly(network, state, str(path))
    return network.eval()
