"""CVLNet (Shi et al., ACCV 2022) with the geometry right: half-pixel centres, shifts of whole cells, nothing scaled in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.models.cvlnet.backbones import make_backbone
from ros2_loc.models.cvlnet.fusion import FUSIONS, make_fusion
from ros2_loc.models.cvlnet.matching import UncertaintyNet, similarity, unit_length
from ros2_loc.models.cvlnet.projection import UNet, project_features

VIEW_PROJECTIONS = ("gvp", "none", "unet")
VIEWS = ("level", "resized")


class CVLNet(nn.Module):
    """A video's overhead descriptor, a satellite tile's descriptor, and how alike they are at each shift."""

    @dataclass(frozen=True)
    class Config:
        """Sizes and parts; the defaults are the small variant, `CVLNet.Config.full()` is the paper's.

        Attributes:
            backbone: a name of `backbones.make_backbone`.
            fusion: one of `fusion.FUSIONS`.
            view_projection: gvp; none and unet are the stand-ins of table 2.
            channels: c of the features that are projected and fused.
            descriptor_channels: C of the descriptors, which have C S S numbers.
            cells, coverage_m, shift_cells: the overhead grid.
            tile_px: side of the tiles' images.
            image_px: (height, width) of the ground images.
            view: level: frames are resampled to one upright pinhole camera (`perception.cross_view.views`); resized: as the paper does.
            shifts: False compares at the tile's centre only ("w/o SSM", table 4).
            uncertainty: False leaves the cosine as it is ("w/o U", table 4).
        """

        backbone: str = "small"
        fusion: str = "pcsf"
        view_projection: str = "gvp"
        channels: int = 16
        descriptor_channels: int = 4
        cells: int = 32
        coverage_m: float = 102.4
        shift_cells: int = 3
        tile_px: int = 128
        image_px: tuple[int, int] = (64, 256)
        view: str = "level"
        shifts: bool = True
        uncertainty: bool = True

        def __post_init__(self) -> None:
            object.__setattr__(self, "image_px", tuple(self.image_px))
            if self.fusion not in FUSIONS or self.view_projection not in VIEW_PROJECTIONS:
                raise ValueError(f"fusion is one of {', '.join(FUSIONS)}, view_projection one of {', '.join(VIEW_PROJECTIONS)}")
            if self.view not in VIEWS:
                raise ValueError(f"view is one of {', '.join(VIEWS)}, not {self.view!r}")
            if self.tile_px % self.cells or self.channels % 2:
                raise ValueError(f"tile_px {self.tile_px} must be a multiple of cells {self.cells}, and channels even")

        @property
        def grid(self) -> OverheadGrid:
            """The overhead grid that these sizes make."""
            return OverheadGrid(self.cells, self.coverage_m / self.cells, self.shift_cells if self.shifts else 0)

        @staticmethod
        def full(backbone: str = "vgg16") -> CVLNet.Config:
            """The paper's sizes: tiles of 512 px, images of 256 x 1024 px, a backbone to stride 16."""
            return CVLNet.Config(backbone=backbone, tile_px=512, image_px=(256, 1024), view="resized")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid
        self.ground_backbone = make_backbone(config.backbone, config.channels)
        self.tile_backbone = make_backbone(config.backbone, config.channels)
        self.unet = UNet(config.channels) if config.view_projection == "unet" else None
        self.fusion = make_fusion(config.fusion, config.channels)
        self.ground_descriptor = _descriptor_head(config.channels, config.descriptor_channels)
        self.tile_descriptor = _descriptor_head(config.channels, config.descriptor_channels)
        self.uncertainty = UncertaintyNet(config.channels, config.cells, self.grid.shift_cells) if config.uncertainty else None

    def ground_features(self, images: Tensor) -> Tensor:
        """One pass of the ground backbone: (B, 3, h, w) RGB in 0..1 -> (B, c, h / stride, w / stride)."""
        return self.ground_backbone(images)

    def tile_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 3, tile_px, tile_px) RGB in 0..1, north up -> descriptors (M, C, S, S) of unit length, uncertainty (M, K, K) in (0, 1]."""
        features = self._at_cells(self.tile_backbone(images), images.shape[-1])
        k = self.grid.num_shifts
        uncertainty = features.new_ones(len(features), k, k) if self.uncertainty is None else self.uncertainty(features)
        return unit_length(self.tile_descriptor(features)), uncertainty

    def query_features(self, ground: Tensor, sampling_px: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors of videos: projection of each frame's features, then fusion.

        Args:
            ground: (B, N, c, h', w') of `ground_features`, the newest frame first.
            sampling_px: (B, N, S, S, 2) where each frame sees each cell, px of its input image (`core.overhead.project_overhead`).
            visible: (B, N, S, S) bool. All False for a frame that is there to fill the batch.

        Returns:
            (B, C, S, S) of unit length, zero where no frame sees the cell (everywhere if none sees any); (B, S, S) bool.
        """
        projected, visible = self._overhead_views(ground, sampling_px, visible)
        seen = visible.any(dim=1)
        fused = self.fusion(projected, visible) * seen[:, None]
        return unit_length(self.ground_descriptor(fused) * seen[:, None]), seen

    def similarity(self, query: Tensor, visible: Tensor, tiles: Tensor, uncertainty: Tensor | None) -> Tensor:
        """(B, C, S, S), (B, S, S), (M, C, S, S), (M, K, K) -> (M, B, K, K): see `matching.similarity`."""
        return similarity(query, visible, tiles, uncertainty if self.config.uncertainty else None, self.grid.shift_cells)

    def forward(self, images: Tensor, sampling_px: Tensor, visible: Tensor, tiles: Tensor) -> Tensor:
        """Videos (B, N, 3, h, w) with their (B, N, S, S, 2) and (B, N, S, S), tiles (M, 3, H, H) -> similarity (M, B, K, K)."""
        ground = self.ground_features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        query, seen = self.query_features(ground, sampling_px, visible)
        return self.similarity(query, seen, *self.tile_features(tiles))

    def _overhead_views(self, ground: Tensor, sampling_px: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        b, n, s = *ground.shape[:2], self.config.cells
        flat = ground.flatten(0, 1)
        if self.config.view_projection == "gvp":
            px = self._feature_px(sampling_px.flatten(0, 1))
            return project_features(flat, px, visible.flatten(0, 1)).unflatten(0, (b, n)), visible
        resized = functional.interpolate(flat, size=(s, s), mode="bilinear", align_corners=False, antialias=True)
        views = resized if self.unet is None else self.unet(resized)
        present = visible.flatten(2).any(dim=2)[..., None, None].expand(b, n, s, s)
        return views.unflatten(0, (b, n)) * present[:, :, None], present

    def _feature_px(self, input_px: Tensor) -> Tensor:
        backbone = self.ground_backbone
        return (input_px - backbone.first_centre_px) / backbone.stride + 0.5

    def _at_cells(self, features: Tensor, tile_px: int) -> Tensor:
        """Features of a tile at the centres of the cells, whatever the backbone's stride and centres."""
        backbone, s = self.tile_backbone, self.config.cells
        cell_px = tile_px / s
        if (backbone.stride, backbone.first_centre_px) == (cell_px, 0.5 * cell_px):
            return features
        centres = (torch.arange(s, device=features.device, dtype=torch.float32) + 0.5) * cell_px
        centres = (centres - backbone.first_centre_px) / backbone.stride + 0.5
        px = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).expand(len(features), s, s, 2)
        return project_features(features, px, px.new_ones(px.shape[:3], dtype=torch.bool))


def _descriptor_head(channels: int, descriptor_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(channels, descriptor_channels, 3, padding=1, bias=False),
    )
