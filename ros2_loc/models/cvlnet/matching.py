"""Scene-prior driven similarity matching (CVLNet, section 3.3): normalized cross-correlation over shifts, divided by an uncertainty.

`ros2_loc.retrieval.tile_matching` computes the same in numpy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.core.overhead import LEAST_ENERGY

LEAST_UNCERTAINTY = 0.1


def unit_length(features: Tensor) -> Tensor:
    """(B, C, S, S) with each of the B scaled to length 1; zeros stay."""
    return functional.normalize(features.flatten(1), dim=1, eps=1e-6).view_as(features)


def shifted(maps: Tensor, shift_cells: int) -> Tensor:
    """(B, C, S, S) -> (B, K, K, C, S, S): [:, i, j] is the map moved down by i - R and right by j - R cells, zeros moved in."""
    r, s = shift_cells, maps.shape[-1]
    windows = functional.pad(maps, (r, r, r, r)).unfold(2, s, 1).unfold(3, s, 1)
    return windows.flip(2, 3).permute(0, 2, 3, 1, 4, 5)


def similarity(query: Tensor, visible: Tensor, tiles: Tensor, uncertainty: Tensor | None, shift_cells: int) -> Tensor:
    """Similarity of each tile and query at each shift (equations 4 and 5), over the cells that the query sees and the tile covers.

    Args:
        query: (B, C, S, S), zero where not visible, unit length.
        visible: (B, S, S) bool. All True gives the paper's equation at no shift; what it does at the tile's edge it leaves open.
        tiles: (M, C, S, S), unit length.
        uncertainty: (M, K, K) in (0, 1], or None for 1, which leaves a cosine in [-1, 1].
        shift_cells: R.

    Returns:
        (M, B, K, K); [m, b, i, j] for base_link at `OverheadGrid.shift_offsets_m()[i, j]` from the centre of tile m.
    """
    b, k = len(query), 2 * shift_cells + 1
    moved = shifted(query, shift_cells).reshape(b * k * k, -1)
    # what moved beyond the tile's edge counts in neither length
    moved = moved / (moved.square().sum(dim=1, keepdim=True) + LEAST_ENERGY).sqrt()
    mask = shifted(visible[:, None].to(tiles.dtype), shift_cells).reshape(b * k * k, -1)
    energy = tiles.square().sum(dim=1).flatten(1) @ mask.T
    cosine = (tiles.flatten(1) @ moved.T / (energy + LEAST_ENERGY).sqrt()).view(len(tiles), b, k, k)
    return cosine if uncertainty is None else cosine / uncertainty[:, None]


class UncertaintyNet(nn.Module):
    """How unlikely a camera is at each shift from the tile's centre, from the tile's features alone (section 3.3).

    Convolutions only, so that a place gets the same answer wherever it lies in the tile.
    """

    def __init__(self, channels: int, cells: int, shift_cells: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1),  # with plain ones a strong step early in a training left none alive
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.LeakyReLU(0.1),
            # with an even number of cells the tile's centre is the corner between four of them
            nn.Conv2d(channels, 1, 2 if cells % 2 == 0 else 1),
        )
        first = (cells - 1) // 2 - shift_cells
        self._middle = slice(first, first + 2 * shift_cells + 1)

    def forward(self, features: Tensor) -> Tensor:
        """(M, c, S, S) features of tiles -> (M, K, K) in (0, 1]."""
        logits = self.convs(features)[:, 0, self._middle, self._middle]
        return LEAST_UNCERTAINTY + (1.0 - LEAST_UNCERTAINTY) * torch.sigmoid(logits)
