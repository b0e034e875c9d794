"""Losses of cross-view matching, as functions of the similarity of M tiles with N queries at every shift, (M, N, K, K).

Query i belongs to tile i (the diagonal); tiles beyond the N first are nobody's, M >= N. Every other pair whose `negative` entry is True
is a wrong one: the exhaustive mini-batch. Pairs that are neither (another tile that covers the query too) count for nothing.

Sources: CVLNet 3.3 and 3.4 (equations 6 and 7); Hu et al. 2018, CVM-Net (weighted soft margin, exhaustive mini-batch);
van den Oord et al. 2018 (InfoNCE).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def best_over_shifts(similarity: Tensor) -> Tensor:
    """(M, N, K, K) -> (M, N): that of the best shift, for right and wrong pairs alike (equation 6)."""
    return similarity.flatten(2).amax(dim=2)


def soft_margin_triplet(scores: Tensor, negative: Tensor, alpha: float = 10.0) -> Tensor:
    """Mean of log(1 + exp(alpha (d_right - d_wrong))) over all triplets of both directions, with d = 2 - 2 similarity (equation 7).

    Args:
        scores: (M, N) similarity, right pairs on the diagonal.
        negative: (M, N) bool, the wrong pairs.

    Returns:
        A scalar; zero where there is no wrong pair.
    """
    distance = 2.0 - 2.0 * scores
    right = distance.diagonal()
    of_queries = F.softplus(alpha * (right[None, :] - distance))
    own = slice(len(right))
    of_tiles = F.softplus(alpha * (right[:, None] - distance[own]))
    return 0.5 * (masked_mean(of_queries, negative) + masked_mean(of_tiles, negative[own]))


def info_nce(scores: Tensor, negative: Tensor, temperature: Tensor | float) -> Tensor:
    """Cross-entropy of the right pair among the wrong ones, query to tile and tile to query.

    Args:
        scores: (M, N) similarity; negative: (M, N) bool; temperature: positive.
    """
    logits = _only_pairs(scores / temperature, negative)
    target = torch.arange(logits.shape[1], device=logits.device)
    return 0.5 * (F.cross_entropy(logits[: len(target)], target) + F.cross_entropy(logits.T, target))


def shift_cross_entropy(similarity: Tensor, cells: Tensor, temperature: Tensor | float) -> Tensor:
    """How well the shifts of the right tile tell where in it the query is: cross-entropy with the true shift.

    Args:
        similarity: (M, N, K, K).
        cells: (N, 2) true (row, column) among the shifts, with fractions; see `shift_targets`.
        temperature: positive.
    """
    right = torch.diagonal(similarity, dim1=0, dim2=1).permute(2, 0, 1).flatten(1) / temperature
    target = shift_targets(cells, similarity.shape[-1]).flatten(1)
    return F.cross_entropy(right, target.to(right))


def place_cross_entropy(similarity: Tensor, cells: Tensor, negative: Tensor, temperature: Tensor | float) -> Tensor:
    """Cross-entropy of the right tile's true shift among all shifts of the right and of the wrong tiles.

    What a filter over tiles and shifts needs: a likelihood that can be compared from place to place.

    Args:
        similarity, cells, negative, temperature: as above.
    """
    shifts = similarity.shape[-1] ** 2
    pairs = _only_pairs(torch.zeros_like(similarity[:, :, 0, 0]), negative)
    logits = similarity.flatten(2) / temperature + pairs[:, :, None]  # (M, N, K * K)
    target = torch.zeros_like(logits)
    own = torch.arange(logits.shape[1], device=logits.device)
    target[own, own] = shift_targets(cells, similarity.shape[-1]).flatten(1).to(logits)
    by_query = logits.permute(1, 0, 2).reshape(-1, len(logits) * shifts)
    # of a pair that counts for nothing the logarithm is -inf and the target 0: their product must not be NaN
    log_share = F.log_softmax(by_query, dim=1).masked_fill(by_query == -torch.inf, 0.0)
    return -(target.permute(1, 0, 2).reshape(by_query.shape) * log_share).sum(dim=1).mean()


def shift_targets(cells: Tensor, shifts: int) -> Tensor:
    """(N, 2) fractional (row, column), clamped to the grid -> (N, K, K) weights that sum to 1: bilinear, of the four cells around it."""
    place = cells.clamp(0, shifts - 1)
    grid = torch.arange(shifts, device=cells.device, dtype=place.dtype)
    weight = (1.0 - (grid - place[..., None]).abs()).clamp(min=0.0)  # (N, 2, K)
    return weight[:, 0, :, None] * weight[:, 1, None, :]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is True; zero, with a gradient of zero, where it is nowhere."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def _only_pairs(logits: Tensor, negative: Tensor) -> Tensor:
    """-inf at pairs that are neither right nor wrong."""
    counted = negative | torch.eye(*negative.shape, dtype=torch.bool, device=negative.device)
    return logits.masked_fill(~counted, -torch.inf)
