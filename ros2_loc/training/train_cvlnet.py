"""CVLNet from a recipe and drives to a weight file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from ros2_loc.errors import ConfigError
from ros2_loc.models.cvlnet import CVLNet, random
from ros2_loc.models.cvlnet.loading import load_cvlnet, load_trunk
from ros2_loc.training.cross_view_batches import CrossViewBatches
from ros2_loc.training.cross_view_objective import CrossViewObjective
from ros2_loc.training.cross_view_validation import CrossViewValidation
from ros2_loc.training.drives import CachedDrive, Progress
from ros2_loc.training.processes import Processes, processes
from ros2_loc.training.recipes import RECIPE, CvlnetRecipe, save_recipe
from ros2_loc.training.runs import Trained, has_begun, trained

WEIGHTS = "cvlnet.safetensors"


class DriveSource(Protocol):
    """Towns, lists of KITTI-CVL, recordings."""

    def drives(self, workers: int = 1, progress: Progress | None = None) -> tuple[list[CachedDrive], list[CachedDrive]]: ...


def train_cvlnet(
    recipe: CvlnetRecipe,
    source: Callable[[CvlnetRecipe], DriveSource],
    folder: Path,
    *,
    source_name: str = "",
    resume: bool = False,
    device: str = "auto",
    render_workers: int = 1,
    show_progress: bool = False,
) -> Trained:
    """Train to the end and write `cvlnet.safetensors` whenever validation is better than ever.

    Args:
        recipe: what to train and how; with `resume`, that of `runs.resumed`.
        source: gives the drives that fit the recipe's network.
        folder: beside the weights it holds the recipe, the last checkpoint, the history, and TensorBoard's files.
        source_name: goes into the header of the weights.
        device: "auto", "cpu", "cuda"; under torchrun each process takes the GPU of its number.
        render_workers: processes that make what the cache of drives lacks.

    Raises:
        KeyboardInterrupt: Ctrl-C, with a checkpoint to resume from.
        Ros2LocError: anything else, in one line.
    """
    begun = has_begun(folder, WEIGHTS, resume)
    with processes(device) as group:
        given = source(recipe)
        if group.is_first:
            save_recipe(recipe, folder / RECIPE)
        train, validate = drives_of(given, group, render_workers, show_progress)
        network, tile_px = _start(recipe), recipe.network.tile_px
        batches = CrossViewBatches(recipe.samples, network.grid, tile_px, train)
        validation = CrossViewValidation(recipe.validation, recipe.samples.frames, network.grid, tile_px, validate)
        return trained(
            recipe,
            network,
            CrossViewObjective(recipe.losses, network),
            batches,
            lambda: validation(network),
            folder / WEIGHTS,
            group=group,
            begun=begun,
            source_name=source_name,
            show_progress=show_progress,
        )


def drives_of(source: DriveSource, group: Processes, workers: int, show: bool) -> tuple[list[CachedDrive], list[CachedDrive]]:
    """Those to train and those to validate with; one process fills the cache while the others wait."""
    if not group.is_first:
        group.wait()  # until the first one has filled the cache
        return source.drives()
    with tqdm(desc="   drives", disable=not show, leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = source.drives(workers, progress)
    group.wait()
    return found


def _start(recipe: CvlnetRecipe) -> CVLNet:
    if recipe.begin_with:
        return _begun(recipe)
    network = random(recipe.network, recipe.loop.seed)
    if recipe.trunk:
        for backbone in (network.ground_backbone, network.tile_backbone):
            load_trunk(backbone, recipe.trunk)
    return network


def _begun(recipe: CvlnetRecipe) -> CVLNet:
    network, _ = load_cvlnet(recipe.begin_with)
    if not isinstance(network, CVLNet) or network.config != recipe.network:
        raise ConfigError(f"begin_with={recipe.begin_with}: is another network than the recipe's: {network.config}")
    if recipe.trunk:
        raise ConfigError("begin_with and trunk: give one of them; the weights of a network hold its trunk")
    return network
