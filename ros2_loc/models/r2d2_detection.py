"""From R2D2's maps to keypoints: image pyramid, local maxima, sub-pixel peaks, and all of it just as the authors' extract.py does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ros2_loc.models.r2d2 import DenseFeatures


@dataclass(frozen=True)
class Pyramid:
    """Which levels are looked at; the defaults are the authors'.

    Attributes:
        scale_factor: between levels.
        min_scale, max_scale: of a level's size to the image's.
        min_edge_px, max_edge_px: of the long edge of a level.
    """

    scale_factor: float = 2.0**0.25
    min_scale: float = 0.0
    max_scale: float = 1.0
    min_edge_px: int = 256
    max_edge_px: int = 1024

    def levels(self, images: Tensor) -> Iterator[tuple[float, Tensor]]:
        """(scale, images (B, 3, h, w)) from the largest to the smallest level, each bilinear of the one before, as the authors have it."""
        height, width = images.shape[-2:]
        edge = max(height, width)
        scale = 1.0
        # the authors' tolerance keeps a level that rounding would drop
        while scale + 0.001 >= max(self.min_scale, self.min_edge_px / edge):
            if scale - 0.001 <= min(self.max_scale, self.max_edge_px / edge):
                yield scale, images
            scale /= self.scale_factor
            size = (round(height * scale), round(width * scale))
            if min(size) < 1:
                return
            images = functional.interpolate(images, size, mode="bilinear", align_corners=False)


def local_maxima(
    dense: DenseFeatures, min_reliability: float, min_repeatability: float, border_px: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels whose repeatability is that of the 3x3 around them, with both maps at least at their thresholds.

    Args:
        dense: of a batch.
        min_reliability, min_repeatability: thresholds.
        border_px: none nearer to the edge of the image.

    Returns:
        image, row and column of each, (N,) int64, in this order of importance.
    """
    highest = functional.max_pool2d(dense.repeatability, 3, stride=1, padding=1)
    found = (dense.repeatability == highest) & (dense.repeatability >= min_repeatability) & (dense.reliability >= min_reliability)
    if border_px:
        inside = torch.zeros_like(found)
        inside[..., border_px:-border_px, border_px:-border_px] = True
        found &= inside
    image, _, row, column = found.nonzero(as_tuple=True)
    return image, row, column


def peaks(repeatability: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Where parabolas through a maximum and its neighbours have their peaks, in x and y.

    Args:
        repeatability: (B, 1, H, W).
        image, row, column: (N,) of maxima.

    Returns:
        (N, 2) px from the pixel's centre, x and y, within half a pixel; zero where the neighbours are as high, and across the edge.
    """
    height, width = repeatability.shape[-2:]
    along_x = [repeatability[image, 0, row, (column + step).clamp(0, width - 1)] for step in (-1, 0, 1)]
    along_y = [repeatability[image, 0, (row + step).clamp(0, height - 1), column] for step in (-1, 0, 1)]
    edge_x, edge_y = (column == 0) | (column == width - 1), (row == 0) | (row == height - 1)
    return torch.stack([_peak(*along_x).masked_fill(edge_x, 0.0), _peak(*along_y).masked_fill(edge_y, 0.0)], dim=1)


def sampled(descriptors: Tensor, image: Tensor, points: Tensor) -> Tensor:
    """Bilinear between pixels.

    Args:
        descriptors: (B, D, H, W).
        image: (N,) index into the batch.
        points: (N, 2) px, x and y, the first pixel's centre being (0.5, 0.5).

    Returns:
        (N, D) float32, of any length.
    """
    height, width = descriptors.shape[-2:]
    corner = (points - 0.5).floor().long()
    right, down = (points - 0.5 - corner).unbind(dim=1)
    total = torch.zeros(len(points), descriptors.shape[1], device=descriptors.device)
    for step_x, weight_x in ((0, 1.0 - right), (1, right)):
        for step_y, weight_y in ((0, 1.0 - down), (1, down)):
            column, row = (corner[:, 0] + step_x).clamp(0, width - 1), (corner[:, 1] + step_y).clamp(0, height - 1)
            total += (weight_x * weight_y)[:, None] * descriptors[image, :, row, column]
    return total


def _peak(before: Tensor, centre: Tensor, after: Tensor) -> Tensor:
    curvature = before - 2.0 * centre + after
    offset = 0.5 * (before - after) / torch.where(curvature < 0, curvature, torch.ones_like(curvature))
    return torch.where(curvature < 0, offset.clamp(-0.5, 0.5), torch.zeros_like(offset))


@dataclass(frozen=True, eq=False)
class OfficialKeypoints:
    """In the order of levels, then rows.

    Attributes:
        xys: (N, 3) column and row of the pixel, multiplied by the ratio of the sizes, so that they are off by up to half a pixel of the
            level; the patch's diameter, px.
        descriptors: (N, 128) of unit length.
        scores: (N,) reliability times repeatability.
    """

    xys: Tensor
    descriptors: Tensor
    scores: Tensor


@torch.inference_mode()
def official_keypoints(
    network: Callable[[Tensor], DenseFeatures],
    image: Tensor,
    pyramid: Pyramid,
    min_reliability: float = 0.7,
    min_repeatability: float = 0.7,
) -> OfficialKeypoints:
    """What extract.py of the authors finds before it keeps the best, in its pixel convention: for comparisons only.

    Args:
        network: R2D2 in evaluation mode.
        image: (1, 3, H, W) RGB, normalized.
        pyramid: the levels.
        min_reliability, min_repeatability: thresholds.
    """
    height, width = image.shape[-2:]
    found = []
    for scale, level in pyramid.levels(image):
        dense = network(level)
        _, row, column = local_maxima(dense, min_reliability, min_repeatability)
        x, y = column * width / level.shape[-1], row * height / level.shape[-2]
        score = dense.reliability[0, 0, row, column] * dense.repeatability[0, 0, row, column]
        found.append((torch.stack([x, y, torch.full_like(x, 32.0 / scale)], dim=1), dense.descriptors[0, :, row, column].T, score))
    return OfficialKeypoints(*(torch.cat(arrays) for arrays in zip(*found, strict=True)))
