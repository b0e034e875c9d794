"""CVLNet as its authors' code computes it, quirks included: what their weights mean. `network.CVLNet` has the geometry right.

Differences from the paper and from correct geometry, all kept here: images in 0..1 without normalization; the projection of
`official_projection`; no residual in the attention (`official_fusion`); the uncertainty stands in the denominator, so a similarity can pass
1, and is made from the tile's descriptor whose first layer is a ReLU; an index of the shift becomes metres by `index - 3.5` and by the
tile's side divided by 38, the padded number of cells, instead of `index - 3` and 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.models.cvlnet.backbones import vgg16_trunk
from ros2_loc.models.cvlnet.official_fusion import CHANNELS, FUSE_METHODS, conv3, make_fusion
from ros2_loc.models.cvlnet.official_projection import CELLS, METRES_PER_CELL, METRES_PER_PX, STRIDE, TILE_PX, sample_at

SHIFT_CELLS = 3
NUM_SHIFTS = 2 * SHIFT_CELLS + 1
DESCRIPTOR_CHANNELS = 4
LEAST_DIVISOR = 1e-12


class OfficialGrid(OverheadGrid):
    """The authors' overhead grid: cells at their upper-left corners, shifts of half-integer numbers of cells that are too small."""

    __slots__ = ()

    def cell_centres_m(self) -> NDArray[np.float64]:
        """(S, S, 2) m: (east, north) of the points that stand for the cells: half a cell west and north of their centres."""
        return super().cell_centres_m() + np.array([-0.5, 0.5]) * self.metres_per_cell

    def shift_offset_m(self, row: ArrayLike, column: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) m: (east, north) that the authors' code gives for shift [row, column]."""
        east = np.asarray(column, dtype=np.float64) - 0.5 * self.num_shifts
        north = 0.5 * self.num_shifts - np.asarray(row, dtype=np.float64)
        return np.stack([east, north], axis=-1) * self.coverage_m / (self.cells + 2 * self.shift_cells)


class Branch(nn.Module):
    """VGG16 to stride 16 and two convolutions 512 -> 128 -> 16."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = vgg16_trunk()
        self.reduce = nn.Sequential(conv3(512, 128), nn.ReLU(), conv3(128, CHANNELS))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 -> (B, 16, H / 16, W / 16)."""
        return self.reduce(self.trunk(images))


class UncertaintyNet(nn.Module):
    """From a tile's descriptor to one value in (0, 1) per shift."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(7):
            layers += [nn.ReLU(), nn.Conv2d(DESCRIPTOR_CHANNELS, DESCRIPTOR_CHANNELS, 5)]
        self.convs = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(DESCRIPTOR_CHANNELS, 1, 4))

    def logits(self, descriptors: Tensor) -> Tensor:
        """(M, 4, 32, 32) -> (M, 1, 7, 7) before the sigmoid."""
        return self.convs(functional.pad(descriptors, (SHIFT_CELLS,) * 4))

    def forward(self, descriptors: Tensor) -> Tensor:
        """(M, 4, 32, 32) -> (M, 7, 7) in (0, 1)."""
        return torch.sigmoid(self.logits(descriptors))[:, 0]


def authors_similarity(query: Tensor, tiles: Tensor, uncertainty: Tensor) -> Tensor:
    """Normalized cross-correlation over shifts, divided by the uncertainty.

    Args:
        query: (B, 4, 32, 32), of any length.
        tiles: (M, 4, 32, 32), of any length.
        uncertainty: (M, 7, 7); ones for none.

    Returns:
        (M, B, 7, 7).
    """
    query = functional.normalize(query.flatten(1), dim=1).view_as(query)
    padded = functional.pad(tiles, (SHIFT_CELLS,) * 4)
    padded = functional.normalize(padded.flatten(1), dim=1).view_as(padded)
    correlation = functional.conv2d(padded, query)
    energy = functional.conv2d(padded.square().sum(dim=1, keepdim=True), padded.new_ones(1, 1, CELLS, CELLS))
    return correlation / (energy.clamp(min=0).sqrt() * uncertainty[:, None]).clamp(min=LEAST_DIVISOR)


def best_shift(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Of (M, B, 7, 7): the greatest similarity (M, B), and its shift in the authors' metres (M, B, 2), north first, then east."""
    best, index = similarity.flatten(2).max(dim=2)
    row, column = index // NUM_SHIFTS, index % NUM_SHIFTS
    cells = torch.stack([NUM_SHIFTS / 2 - row, column - NUM_SHIFTS / 2], dim=-1)
    return best, cells * METRES_PER_PX * TILE_PX / (CELLS + 2 * SHIFT_CELLS)  # in the order of their roundings


class OfficialCVLNet(nn.Module):
    """The authors' network behind the methods of `network.CVLNet`, so that either can serve an encoder."""

    @dataclass(frozen=True)
    class Config:
        """`fuse_method`: one of `official_fusion.FUSE_METHODS`. All sizes are the authors'."""

        fuse_method: str = "fuse_Transformer"

        def __post_init__(self) -> None:
            if self.fuse_method not in FUSE_METHODS:
                raise ValueError(f"there is no fuse_method {self.fuse_method!r}; there are: {', '.join(FUSE_METHODS)}")

        @property
        def tile_px(self) -> int:
            """Side of the tiles' images."""
            return TILE_PX

        @property
        def descriptor_channels(self) -> int:
            """C of the descriptors."""
            return DESCRIPTOR_CHANNELS

        @property
        def image_px(self) -> tuple[int, int]:
            """(height, width) of the ground images."""
            return 256, 1024

        @property
        def view(self) -> str:
            """Images are resized."""
            return "resized"

        @property
        def grid(self) -> OfficialGrid:
            """The authors' overhead grid."""
            return OfficialGrid(CELLS, METRES_PER_CELL, SHIFT_CELLS)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid
        self.ground_branch, self.tile_branch = Branch(), Branch()
        self.fusion = make_fusion(config.fuse_method)
        self.ground_descriptor, self.tile_descriptor = _descriptor(), _descriptor()
        self.uncertainty = UncertaintyNet()

    def ground_features(self, images: Tensor) -> Tensor:
        """(B, 3, 256, 1024) RGB in 0..1 -> (B, 16, 16, 64)."""
        return self.ground_branch(images)

    def tile_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 3, 512, 512) RGB in 0..1, north up -> descriptors (M, 4, 32, 32) of unit length, uncertainty (M, 7, 7) in (0, 1)."""
        descriptors = self.tile_descriptor(self.tile_branch(images))
        return functional.normalize(descriptors.flatten(1), dim=1).view_as(descriptors), self.uncertainty(descriptors)

    def query_features(self, ground: Tensor, sampling_px: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors of videos: as `CVLNet.query_features`, with every cell taking part in the matching.

        The authors' attention knows of no missing frames: those of which nothing is visible are left out, the newest excepted.
        """
        batch, frames = ground.shape[:2]
        # their intrinsics have whole numbers at pixel centres, ours halves
        projected = sample_at(ground.flatten(0, 1), (sampling_px.flatten(0, 1) - 0.5) / STRIDE)
        projected = (projected * visible.flatten(0, 1)[:, None]).unflatten(0, (batch, frames))
        present = visible.flatten(2).any(dim=2)
        present[:, 0] = True
        fused = torch.cat([self.fusion(video[here][None]) for video, here in zip(projected, present, strict=True)])
        descriptors = self.ground_descriptor(fused)
        everywhere = torch.ones(batch, CELLS, CELLS, dtype=torch.bool, device=ground.device)
        return functional.normalize(descriptors.flatten(1), dim=1).view_as(descriptors), everywhere

    def similarity(self, query: Tensor, visible: Tensor, tiles: Tensor, uncertainty: Tensor) -> Tensor:
        """(B, 4, 32, 32), unused visibility, (M, 4, 32, 32), (M, 7, 7) -> (M, B, 7, 7)."""
        return authors_similarity(query, tiles, uncertainty)

    def forward(self, images: Tensor, sampling_px: Tensor, visible: Tensor, tiles: Tensor) -> Tensor:
        """As `CVLNet.forward`: similarity (M, B, 7, 7)."""
        ground = self.ground_features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        query, seen = self.query_features(ground, sampling_px, visible)
        return self.similarity(query, seen, *self.tile_features(tiles))


def _descriptor() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, DESCRIPTOR_CHANNELS, 3, padding=1, bias=False),
    )


# (prefix in the authors' checkpoint, prefix here); the first that fits is taken
RENAMING = (
    ("SatFeatureNet.model.0.", "tile_branch.trunk."),
    ("SatFeatureNet.model.1.", "tile_branch.reduce.0."),
    ("SatFeatureNet.model.3.", "tile_branch.reduce.2."),
    ("GrdFeatureNet.model.0.", "ground_branch.trunk."),
    ("GrdFeatureNet.model.1.", "ground_branch.reduce.0."),
    ("GrdFeatureNet.model.3.", "ground_branch.reduce.2."),
    ("SatDownch.", "tile_descriptor."),
    ("GrdDownch.", "ground_descriptor."),
    ("UncertaintyNet.convs.", "uncertainty.convs."),
    ("FuseNet.nn_layers.", "fusion.layers."),
    ("FuseNet.SeqNet.LSTM_layer.cell_list.0.conv.", "fusion.frames.cells.0.gates."),
    ("FuseNet.SeqNet.LSTM_layer.cell_list.0.outconv.", "fusion.frames.cells.0.output."),
    ("FuseNet.SeqNet.LSTM_layer.cell_list.1.conv.", "fusion.frames.cells.1.gates."),
    ("FuseNet.SeqNet.LSTM_layer.cell_list.1.outconv.", "fusion.frames.cells.1.output."),
    ("FuseNet.SeqNet.convs.", "fusion.frames.refine."),
    ("FuseNet.SeqNet.", "fusion.frames."),
    ("FuseNet.Conv3D.", "fusion.frames."),
    ("FuseNet.convs0.", "fusion.frames."),
    ("FuseNet.convs.", "fusion.head."),
)


_FIRST_LAYERS = {
    "SeqNet.LSTM_layer.cell_list.0.conv.0": "LSTM",
    "SeqNet.0": "Conv3D",
    "Conv3D.0": "Conv3D",
    "SeqNet.1": "Conv2D",
    "convs0.0": "Conv2D",
}


def renamed(authors_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' flat checkpoint under the names of `OfficialCVLNet`. A key that fits no rule stays, for strict loading to refuse."""
    return {_renamed(key): value for key, value in authors_state.items()}


def _renamed(key: str) -> str:
    return next((ours + key[len(theirs) :] for theirs, ours in RENAMING if key.startswith(theirs)), key)


def fuse_method_of(authors_state: Mapping[str, Tensor]) -> str | None:
    """Which fusion a checkpoint of the authors is of, or None when it is none of theirs."""
    keys = set(authors_state)
    if any(key.startswith("FuseNet.nn_layers.") for key in keys):
        return "fuse_Transformer"
    kind = next((kind for layer, kind in _FIRST_LAYERS.items() if f"FuseNet.{layer}.weight" in keys), None)
    if kind is None or "FuseNet.convs.4.weight" not in keys:
        return None
    return f"{'vis' if len(authors_state['FuseNet.convs.4.weight']) == 1 else 'fuse'}_{kind}"
