"""SAFA trained like CVLNet: the same drives, batches, losses and loop, so that table 5 compares networks and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.errors import ConfigError
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.models.safa import Safa
from ros2_loc.training.cross_view_batches import CrossViewBatches
from ros2_loc.training.cross_view_objective import CrossViewObjective
from ros2_loc.training.cross_view_validation import CrossViewValidation
from ros2_loc.training.processes import processes
from ros2_loc.training.recipes import RECIPE, CvlnetRecipe, save_recipe
from ros2_loc.training.runs import Trained, trained
from ros2_loc.training.train_cvlnet import DriveSource, drives_of

WEIGHTS = "safa.safetensors"


class SafaMatcher(nn.Module):
    """SAFA behind the methods of CVLNet that training asks for: vectors are maps of one cell, a video is its newest image, no shifts."""

    def __init__(self, network: Safa, grid: OverheadGrid) -> None:
        super().__init__()
        self.network = network
        self.grid = OverheadGrid(grid.cells, grid.metres_per_cell, shift_cells=0)

    def ground_features(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, D, 1, 1)."""
        return self.network.ground_descriptor(images)[:, :, None, None]

    def tile_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 3, H, H) -> (M, D, 1, 1), ones (M, 1, 1)."""
        vectors = self.network.tile_descriptor(images)
        return vectors[:, :, None, None], vectors.new_ones(len(vectors), 1, 1)

    def query_features(self, ground: Tensor, sampling_px: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D, 1, 1) -> (B, D, 1, 1) of the newest images, (B, 1, 1) True."""
        return ground[:, 0], torch.ones(len(ground), 1, 1, dtype=torch.bool, device=ground.device)

    def similarity(self, query: Tensor, visible: Tensor, tiles: Tensor, uncertainty: Tensor) -> Tensor:
        """(B, D, 1, 1), (M, D, 1, 1) -> cosines (M, B, 1, 1)."""
        return (tiles.flatten(1) @ query.flatten(1).T)[:, :, None, None]


def train_safa(
    recipe: CvlnetRecipe,
    config: Safa.Config,
    source: Callable[[CvlnetRecipe], DriveSource],
    folder: Path,
    *,
    source_name: str = "",
    resume: bool = False,
    device: str = "auto",
    show_progress: bool = False,
) -> Trained:
    """Train to the end and write `safa.safetensors` whenever validation is better than ever.

    Args:
        recipe: as CVLNet's; of `network` only the overhead grid and the sizes of images count, which must be those of `config`.
        source, folder, source_name, resume, device, show_progress: as `train_cvlnet`.

    Raises:
        ConfigError: sizes that differ.
        KeyboardInterrupt: Ctrl-C, with a checkpoint to resume from.
    """
    sizes = (config.tile_px, tuple(config.image_px)), (recipe.network.tile_px, tuple(recipe.network.image_px))
    if sizes[0] != sizes[1]:
        raise ConfigError(f"safa has tiles and images of {sizes[0]} px, the recipe of {sizes[1]}: make them alike")
    with processes(device) as group:
        train, validate = drives_of(source(recipe), group, 1, show_progress)
        torch.manual_seed(recipe.loop.seed)
        matcher = SafaMatcher(Safa(config), recipe.network.grid)
        like_cvlnet = cast(CVLNet, matcher)
        batches = CrossViewBatches(recipe.samples, matcher.grid, config.tile_px, train)
        validation = CrossViewValidation(recipe.validation, recipe.samples.frames, matcher.grid, config.tile_px, validate)
        if group.is_first:
            save_recipe(recipe, folder / RECIPE)
        return trained(
            recipe,
            matcher.network,
            CrossViewObjective(recipe.losses, like_cvlnet),
            batches,
            lambda: validation(like_cvlnet),
            folder / WEIGHTS,
            group=group,
            begun=resume,
            source_name=source_name,
            show_progress=show_progress,
        )
