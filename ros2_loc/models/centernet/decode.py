"""From CenterNet's maps to pairs of corners and to centres (section 3.2; CornerNet, section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ros2_loc.models.centernet.network import Heads

# columns of Keypoints.pairs
BOX, SCORE, TL_SCORE, BR_SCORE, LABEL = slice(0, 4), 4, 5, 6, 7
# the score of a pair that is none
REFUSED = -1.0


class Keypoints(NamedTuple):
    """What one image has, in cells from its top left corner.

    Attributes:
        pairs: (B, N, 8): x0, y0, x1, y1, score, scores of both corners, index of the label; best first, REFUSED where corners don't fit.
        centres: (B, K, 4): x, y, index of the label, score; best first.
    """

    pairs: Tensor
    centres: Tensor


def decode(heads: Heads, top_k: int = 70, max_pairs: int = 1000, max_tag_distance: float = 0.5, kernel: int = 3) -> Keypoints:
    """The best corners of each image paired, and its best centres.

    Args:
        heads: of one stack.
        top_k: corners of each kind, and centres; of them all pairs are tried.
        max_pairs: the best ones.
        max_tag_distance: of corners of one object.
        kernel: cells; a keypoint is the greatest of so many by so many.
    """
    tl, br, ct = (_peaks(heat, top_k, kernel) for heat in (heads.tl_heat, heads.br_heat, heads.ct_heat))
    (tl_x, tl_y), (br_x, br_y), (ct_x, ct_y) = (
        _positions(found, offset) for found, offset in ((tl, heads.tl_offset), (br, heads.br_offset), (ct, heads.ct_offset))
    )
    first, second = [t[:, :, None] for t in (tl_x, tl_y, tl.scores)], [t[:, None] for t in (br_x, br_y, br.scores)]
    apart = (_at(heads.tl_tag, tl.cells)[..., 0][:, :, None] - _at(heads.br_tag, br.cells)[..., 0][:, None]).abs()
    fits = (tl.labels[:, :, None] == br.labels[:, None]) & (apart <= max_tag_distance)
    fits = fits & (second[0] >= first[0]) & (second[1] >= first[1])
    score = torch.where(fits, (first[2] + second[2]) / 2.0, REFUSED)
    columns = torch.broadcast_tensors(*first[:2], *second[:2], score, first[2], second[2], tl.labels[:, :, None].to(score))
    pairs = torch.stack(columns, dim=-1).flatten(1, 2)
    order = pairs[..., SCORE].topk(min(max_pairs, pairs.shape[1]), dim=1).indices
    centres = torch.stack([ct_x, ct_y, ct.labels.to(score), ct.scores], dim=-1)
    return Keypoints(pairs.gather(1, order[..., None].expand(-1, -1, pairs.shape[2])), centres)


class _Peaks(NamedTuple):
    """(B, K) each: score, index of the label, index of the cell row by row, column and row."""

    scores: Tensor
    labels: Tensor
    cells: Tensor
    x: Tensor
    y: Tensor


def _peaks(heat: Tensor, top_k: int, kernel: int) -> _Peaks:
    height, width = heat.shape[2:]
    heat = heat.sigmoid()
    heat = heat * (functional.max_pool2d(heat, kernel, 1, kernel // 2) == heat)
    scores, indices = heat.flatten(1).topk(min(top_k, heat[0].numel()), dim=1)
    cells = indices % (height * width)
    return _Peaks(scores, indices // (height * width), cells, cells % width, cells // width)


def _positions(found: _Peaks, offset: Tensor) -> tuple[Tensor, Tensor]:
    within = _at(offset, found.cells)
    return found.x + within[..., 0], found.y + within[..., 1]


def _at(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, C, h, w) at (B, K) cells -> (B, K, C)."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)
