"""D2-Net: one feature map that both detects and describes.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Detection and Description of Local Features", CVPR 2019: VGG16 up to conv4_3, at test
time with the last pooling replaced by an average of stride 1 and dilation (section 4.2), hard detection and refinement (section 4.3).
What the paper leaves open (edges, scores of the levels) is as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import DataError
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

STRIDE_PX = 4
# the smallest image with a cell that has neighbours
SMALLEST_PX = 16
# of BGR in 0..255
MEAN = (103.939, 116.779, 123.68)
_PREFIX = "dense_feature_extraction.model."


class D2Points(NamedTuple):
    """Keypoints of one image.

    Attributes:
        pixels: (N, 2) column and row, the centre of the first pixel at (0, 0).
        descriptors: (N, D) of unit length.
        scores: (N,) value of the strongest channel, divided by the number of the level.
        scales: (N,) size of the image to that of the level which has the keypoint.
    """

    pixels: Tensor
    descriptors: Tensor
    scores: Tensor
    scales: Tensor


class Peaks(NamedTuple):
    """Detections in one feature map, in the order of channel, row, column; all (N,) int64."""

    channel: Tensor
    row: Tensor
    column: Tensor

    def select(self, kept: Tensor) -> Peaks:
        """Those under a mask."""
        return Peaks(*(index[kept] for index in self))


class D2Net(nn.Module):
    """The features; layers have the authors' numbers."""

    @dataclass(frozen=True)
    class Config:
        """`width`: channels of the first layers; the published weights have 64."""

        width: int = 64

    @property
    def dimension(self) -> int:
        """Of the descriptors."""
        return 8 * self.config.width

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        w = config.width
        blocks = ((3, w, w), (w, 2 * w, 2 * w), (2 * w, 4 * w, 4 * w, 4 * w), (4 * w, 8 * w, 8 * w, 8 * w))
        layers: list[nn.Module] = []
        for index, channels in enumerate(blocks):
            dilation = 2 if index == 3 else 1
            for inputs, outputs in zip(channels, channels[1:], strict=False):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2, stride=2)] if index < 2 else [nn.AvgPool2d(2, stride=1)] if index == 2 else []
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `normalized` -> (B, dimension, H / 4 - 1, W / 4 - 1), not negative."""
        return self.layers(images)  # type: ignore[no-any-return]


def normalized(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..1 -> as the published weights want it: BGR in 0..255 less MEAN."""
    return images.flip(1) * 255.0 - torch.tensor(MEAN, device=images.device, dtype=images.dtype)[:, None, None]


def detected(features: Tensor, edge_threshold: float = 5.0) -> Peaks:
    """Hard detection in one map (C, h, w): strongest of its pixel's channels, of the 3x3 around it in its channel, and no edge.

    `edge_threshold` bounds the ratio of the principal curvatures, as of Lowe, IJCV 2004, section 4.1.
    """
    strongest, channel = features.max(dim=0)
    around = _neighbours(features, channel)
    dii, djj, dij = _hessian(around)
    det, trace = dii * djj - dij.square(), dii + djj
    is_corner = (det > 0) & (trace.square() <= (edge_threshold + 1.0) ** 2 / edge_threshold * det)
    row, column = (is_corner & (around.amax(dim=(0, 1)) <= strongest)).nonzero(as_tuple=True)
    channel = channel[row, column]
    order = torch.argsort((channel * features.shape[1] + row) * features.shape[2] + column)
    return Peaks(channel[order], row[order], column[order])


def refined(features: Tensor, peaks: Peaks) -> tuple[Tensor, Tensor]:
    """Sub-cell positions by a Newton step on the peak's channel.

    Returns:
        (N, 2) row and column in cells; (N,) bool, whether the step is under half a cell and the position on the map.
    """
    padded = functional.pad(features, (1, 1, 1, 1))
    around = torch.stack([torch.stack([padded[peaks.channel, peaks.row + i, peaks.column + j] for j in range(3)]) for i in range(3)])
    dii, djj, dij = _hessian(around)
    det = dii * djj - dij.square()
    di, dj = (around[2, 1] - around[0, 1]) / 2.0, (around[1, 2] - around[1, 0]) / 2.0
    step = torch.stack([dij * dj - djj * di, dij * di - dii * dj], dim=1) / det[:, None]
    cells = torch.stack([peaks.row, peaks.column], dim=1) + step
    last = torch.tensor(features.shape[1:], device=cells.device) - 1
    return cells, ((step.abs() < 0.5) & (cells >= 0) & (cells <= last)).all(dim=1)


def descriptors_at(features: Tensor, cells: Tensor) -> Tensor:
    """(C, h, w) at (N, 2) rows and columns on the map, bilinear -> (N, C) of unit length."""
    low = cells.floor()
    weight = (cells - low)[..., None]
    (i0, j0), (i1, j1) = low.long().unbind(1), cells.ceil().long().unbind(1)
    y, x = weight[:, 0], weight[:, 1]
    top = (1.0 - x) * features[:, i0, j0].T + x * features[:, i0, j1].T
    bottom = (1.0 - x) * features[:, i1, j0].T + x * features[:, i1, j1].T
    return functional.normalize((1.0 - y) * top + y * bottom, dim=1)


def detect_and_describe(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    scales: Sequence[float] = (1.0,),
    edge_threshold: float = 5.0,
    as_authors: bool = False,
) -> list[D2Points]:
    """Keypoints at several scales (section 4.3): each level's map has the coarser ones' added, and a cell where a coarser level has a
    keypoint gets no other.

    Args:
        network: `D2Net` in evaluation mode, or one exported from it.
        images: (B, 3, H, W) as the network wants them.
        scales: sizes of the levels, the smallest first; those under SMALLEST_PX are left out, and one must be left.
        edge_threshold: as of `detected`.
        as_authors: their positions, which leave out that the average pooling moves cells by 2 px, and that a resize keeps the corners.

    Returns:
        for each image, level by level, each in the order of `detected`.
    """
    found: list[list[D2Points]] = [[] for _ in images]
    banned: list[Tensor | None] = [None for _ in images]
    sum_so_far: Tensor | None = None
    for index, scale in enumerate(scales):
        level = _resized(images, (int(images.shape[2] * scale), int(images.shape[3] * scale)))
        if min(level.shape[2:]) < SMALLEST_PX:
            continue
        features = network(level)
        if sum_so_far is not None:
            features = features + _resized(sum_so_far, features.shape[2:])
        sum_so_far = features
        place = _Level(index, scale, images.shape[2:], level.shape[2:], as_authors)
        for image, one in enumerate(features):
            banned[image], peaks = _without_banned(banned[image], detected(one, edge_threshold), one)
            found[image].append(_points(one, peaks, place))
    return [D2Points(*(torch.cat(parts) for parts in zip(*levels, strict=True))) for levels in found]


def cells_to_pixels(cells: Tensor, as_authors: bool = False) -> Tensor:
    """(N, 2) rows and columns in cells -> in pixels of the level, from 0: the middle of what a cell sees.

    Two poolings of stride 2 make 4 c + 1.5, and the average pooling adds half a cell, which the authors leave out.
    """
    return STRIDE_PX * cells + (1.5 if as_authors else 3.5)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `D2Net`; their numbers of layers are kept.

    Raises:
        DataError: a name that is not theirs.
    """
    foreign = next((key for key in state if not key.startswith(_PREFIX)), None)
    if foreign is not None:
        raise DataError(f"{foreign}: is no weight of D2-Net's authors; give their d2_tf.pth or another of theirs")
    return {f"layers.{key.removeprefix(_PREFIX)}": value for key, value in state.items()}


def load_published(path: str | Path) -> D2Net:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not D2-Net's weights.
    """
    with told_of(path):
        network = D2Net(D2Net.Config())
        load_strictly(network, renamed(tensors_of(path)), str(path))
    return network.eval()


def _neighbours(features: Tensor, channel: Tensor) -> Tensor:
    """(3, 3, h, w): the 3x3 around each pixel in its strongest channel; 0 beyond the border."""
    height, width = channel.shape
    padded = functional.pad(features, (1, 1, 1, 1))
    shifted = [[padded[:, i : i + height, j : j + width].gather(0, channel[None])[0] for j in range(3)] for i in range(3)]
    return torch.stack([torch.stack(row) for row in shifted])


def _hessian(around: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Second derivatives by rows, by columns, and mixed, of (3, 3, ...)."""
    dii = around[0, 1] - 2.0 * around[1, 1] + around[2, 1]
    djj = around[1, 0] - 2.0 * around[1, 1] + around[1, 2]
    return dii, djj, (around[0, 0] - around[0, 2] - around[2, 0] + around[2, 2]) / 4.0


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size); corners stay corners, as the authors have it."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


def _without_banned(banned: Tensor | None, peaks: Peaks, features: Tensor) -> tuple[Tensor, Peaks]:
    """The cells (h, w) that are banned now, and the peaks that were not."""
    size = features.shape[1:]
    if banned is None:
        before = torch.zeros(size, dtype=torch.bool, device=features.device)
    else:
        before = functional.interpolate(banned[None, None].float(), tuple(size))[0, 0] > 0
    peaks = peaks.select(~before[peaks.row, peaks.column])
    after = before.clone()
    after[peaks.row, peaks.column] = True
    return after, peaks


@dataclass(frozen=True)
class _Level:
    """Of the image pyramid; sizes are (H, W) px of the image and of the level."""

    index: int
    scale: float
    image_size: Sequence[int]
    level_size: Sequence[int]
    as_authors: bool

    def ratio(self, cells: Tensor) -> Tensor:
        """Pixels from 0 of the image per one of the level, in y and x."""
        image, level = (torch.tensor(size, device=cells.device, dtype=cells.dtype) for size in (self.image_size, self.level_size))
        return image / level if self.as_authors else (image - 1.0) / (level - 1.0)


def _points(features: Tensor, peaks: Peaks, level: _Level) -> D2Points:
    cells, good = refined(features, peaks)
    cells, peaks = cells[good], peaks.select(good)
    pixels = cells_to_pixels(cells, level.as_authors) * level.ratio(cells)
    scores = features[peaks.channel, peaks.row, peaks.column] / (level.index + 1)
    return D2Points(pixels.flip(1), descriptors_at(features, cells), scores, torch.full_like(scores, 1.0 / level.scale))
