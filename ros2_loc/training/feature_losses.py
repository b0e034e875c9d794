"""Losses of R2D2 on a pair of images with known correspondences.

Sources: Revaud et al. 2019 (R2D2), and Hong et al. 2021 (context aggregation), equations 2 to 6, which take them over. Equation 4 there has
the difference of a maximum and the same maximum; R2D2's is meant, the maximum less the mean. Where the two papers leave a choice (smoothing
before peakiness, samples of the average precision), it is that of R2D2's published code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ros2_loc.errors import ConfigError
from ros2_loc.models.r2d2 import DenseFeatures

_MIN_PATCH_PX = 8  # correspondences in a patch: the cosine of one or two values says nothing


def warped(maps: Tensor, points_px: Tensor) -> Tensor:
    """(B, C, h, w) at (B, H, W, 2) px (centre of the first pixel at 0.5, 0.5) -> (B, C, H, W), bilinear; the border's values beyond it."""
    size = points_px.new_tensor([maps.shape[-1], maps.shape[-2]])
    return F.grid_sample(maps, 2.0 * points_px / size - 1.0, mode="bilinear", padding_mode="border", align_corners=False)


def cosine_loss(first: Tensor, second: Tensor, valid: Tensor, patch_px: int = 16) -> Tensor:
    """One less the mean cosine similarity of patches of two repeatability maps (equation 3); patches overlap by half, as in R2D2's code.

    Args:
        first: (B, 1, H, W) repeatability.
        second: (B, 1, H, W) of the other image, `warped` to the first.
        valid: (B, H, W) bool, where a correspondence is known; the rest counts for nothing.
        patch_px: N.

    Returns:
        A scalar; zero where no patch has enough correspondences.
    """
    known = valid[:, None].to(first)
    masked = (first * known, second * known, known)
    patches = [F.unfold(values, patch_px, stride=max(1, patch_px // 2)).transpose(1, 2) for values in masked]
    similarity = (F.normalize(patches[0], dim=2) * F.normalize(patches[1], dim=2)).sum(dim=2)
    counted = patches[2].sum(dim=2) >= min(_MIN_PATCH_PX, patch_px**2)
    return torch.where(counted, 1.0 - similarity, 0.0).sum() / counted.sum().clamp(min=1)


def peaky_loss(repeatability: Tensor, patch_px: int = 16) -> Tensor:
    """One less the mean of (maximum less mean) over all patches that lie in the image (equation 4), after a smoothing of 3x3.

    Args:
        repeatability: (B, 1, H, W) in 0..1.
        patch_px: N.
    """
    smooth = F.avg_pool2d(repeatability, 3, stride=1, padding=1, count_include_pad=False)
    return 1.0 - (F.max_pool2d(smooth, patch_px, stride=1) - F.avg_pool2d(smooth, patch_px, stride=1)).mean()


def quantized_average_precision(scores: Tensor, positive: Tensor, counted: Tensor, bins: int = 20) -> Tensor:
    """Average precision of ranked lists, differentiable: each score is shared between the two nearest of equally spaced bins.

    The same value as R2D2's (He et al. 2018, "Local Descriptors Optimized for Average Precision"), by adding to bins in place of a
    convolution whose memory grows with their number.

    Args:
        scores: (N, M) similarities; beyond 0..1 they count as 0 or 1.
        positive: (N, M) bool, the right ones: at least one in each row.
        counted: (N, M) bool; the others are left out.
        bins: Q.

    Returns:
        (N,) in 0..1.
    """
    place = (1.0 - scores.clamp(0.0, 1.0)) * (bins - 1)  # the best score in bin 0
    lower = place.detach().floor().clamp(max=bins - 2)
    above = place - lower
    weight = counted.to(scores)
    total, right = (_histogram(lower.long(), above, weight * kind, bins) for kind in (1.0, positive.to(scores)))
    precision = right.cumsum(dim=1) / total.cumsum(dim=1).clamp(min=1e-16)
    return (precision * right).sum(dim=1) / right.sum(dim=1).clamp(min=1e-16)


def _histogram(lower: Tensor, above: Tensor, weight: Tensor, bins: int) -> Tensor:
    counts = above.new_zeros(len(above), bins)
    return counts.scatter_add(1, lower, weight * (1.0 - above)).scatter_add(1, lower + 1, weight * above)


def reliability_loss(precision: Tensor, reliability: Tensor, kappa: float = 0.5) -> Tensor:
    """Mean of 1 - [AP R + kappa (1 - R)] (equation 5): a pixel whose precision is below kappa does better by being unreliable.

    Args:
        precision, reliability: (N,) in 0..1.
    """
    return (1.0 - (precision * reliability + kappa * (1.0 - reliability))).mean() if len(precision) else precision.sum()


@dataclass(frozen=True)
class PixelSampling:
    """Which pixels are asked for, and among which others their correspondence is to be found; lengths in px.

    Attributes:
        step_px: one query in each square of this side, at random; as many distractors from every image of the batch.
        border_px: kept free in the first image.
        right_px: within this distance of the truth a pixel is right; the best of them counts.
        wrong_px: a pixel between these distances is wrong; so is any distractor beyond the first of them.
    """

    step_px: int = 8
    border_px: int = 16
    right_px: int = 3
    wrong_px: tuple[int, int] = (5, 7)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wrong_px", tuple(self.wrong_px))
        if not 0 <= self.right_px < self.wrong_px[0] <= self.wrong_px[1] or min(self.step_px, self.border_px) < 1:
            raise ConfigError(f"{self}: needs right_px < wrong_px[0] <= wrong_px[1], and step_px and border_px of at least 1")

    def offsets(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(P, 2) and (Q, 2) int64 (x, y) of right and of wrong pixels around the truth."""
        reach = torch.arange(-self.wrong_px[1], self.wrong_px[1] + 1, device=device)
        xy = torch.cartesian_prod(reach, reach)
        squared = xy.square().sum(dim=1)
        wrong = (squared >= self.wrong_px[0] ** 2) & (squared <= self.wrong_px[1] ** 2)
        return xy[squared <= self.right_px**2], xy[wrong]


class Queries(NamedTuple):
    """Pixels of the first image and their correspondences: image (N,), xy (N, 2), xy2 (N, 2), all int64."""

    image: Tensor
    xy: Tensor
    xy2: Tensor


def draw_queries(points_px: Tensor, valid: Tensor, sampling: PixelSampling) -> Queries:
    """Pixels at random among those with a correspondence, drawn with torch's random numbers.

    Args:
        points_px: (B, H, W, 2) px in the second image, of the same size.
        valid: (B, H, W) bool.
    """
    height, width = valid.shape[1:]
    border = min(sampling.border_px, (min(height, width) - 1) // 2)
    inner = torch.zeros_like(valid)
    inner[:, border : height - border, border : width - border] = True
    count = max(1, (height - 2 * border) * (width - 2 * border) // sampling.step_px**2)
    drawn, at = torch.rand(valid.shape, device=valid.device).masked_fill(~(valid & inner), -1.0).flatten(1).topk(count)
    image, _ = kept = (drawn >= 0).nonzero(as_tuple=True)
    at = at[kept]
    limit = torch.tensor([width - 1, height - 1], device=valid.device)
    xy2 = points_px.flatten(1, 2)[image, at].floor().long().clamp(min=0).minimum(limit)
    return Queries(image, torch.stack([at % width, at // width], dim=1), xy2)


def pixel_precision(
    first: DenseFeatures, second: DenseFeatures, queries: Queries, sampling: PixelSampling, bins: int = 20
) -> tuple[Tensor, Tensor]:
    """How well each query finds its correspondence among the pixels around it and distractors from all images.

    Args:
        first, second: of images of one size; reliability is that of both.

    Returns:
        Average precision (N,) and reliability (N,): mean of the query's and of the right pixel's that is most like it.
    """
    image, xy, xy2 = queries
    right_at, wrong_at = sampling.offsets(xy.device)
    first_map, second_map = _Pixels.of(first.descriptors), _Pixels.of(second.descriptors)
    asked = first_map.at(image, xy)
    right = torch.einsum("nd,nkd->nk", asked, second_map.at(image[:, None], xy2[:, None] + right_at))
    best, which = right.max(dim=1, keepdim=True)
    wrong = torch.einsum("nd,nkd->nk", asked, second_map.at(image[:, None], xy2[:, None] + wrong_at))
    others, allowed = _distractors(second_map, len(second.descriptors), queries, sampling, asked)
    scores = torch.cat([best, wrong, others], dim=1)
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[:, 0] = True
    counted = torch.cat([torch.ones_like(positive[:, : 1 + wrong.shape[1]]), allowed], dim=1)
    chosen = xy2 + right_at[which[:, 0]]
    reliability = 0.5 * (_Pixels.of(first.reliability).at(image, xy) + _Pixels.of(second.reliability).at(image, chosen))[:, 0]
    return quantized_average_precision(scores, positive, counted, bins), reliability


class _Pixels(NamedTuple):
    """Maps as rows of pixels, (B * H * W, C): picking rows is several times faster than indexing maps, above all backwards."""

    rows: Tensor
    height: int
    width: int

    @staticmethod
    def of(maps: Tensor) -> _Pixels:
        return _Pixels(maps.movedim(1, -1).flatten(0, 2), maps.shape[2], maps.shape[3])

    def at(self, image: Tensor, xy: Tensor) -> Tensor:
        """(..., C) at (...) images and (..., 2) pixels, those outside moved to the border."""
        index = (image * self.height + xy[..., 1].clamp(0, self.height - 1)) * self.width + xy[..., 0].clamp(0, self.width - 1)
        return self.rows.index_select(0, index.flatten()).unflatten(0, index.shape)


def _distractors(maps: _Pixels, batch: int, queries: Queries, sampling: PixelSampling, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity (N, M) with pixels at random, and which of them are no right ones."""
    count = max(1, maps.height * maps.width // sampling.step_px**2)
    image = torch.arange(batch, device=asked.device).repeat_interleave(count)
    xy = torch.stack([torch.randint(size, (len(image),), device=asked.device) for size in (maps.width, maps.height)], dim=1)
    near = (xy[None] - queries.xy2[:, None]).square().sum(dim=2) < sampling.wrong_px[0] ** 2
    return asked @ maps.at(image, xy).T, ~(near & (image[None] == queries.image[:, None]))
