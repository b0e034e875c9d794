"""R2D2 and Context-R2D2 from a recipe and pairs of images to a weight file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ros2_loc.errors import ConfigError
from ros2_loc.models import r2d2
from ros2_loc.models.context_r2d2 import ContextR2D2, start_from
from ros2_loc.models.r2d2 import R2D2
from ros2_loc.models.weights import load_strictly, tensors_of
from ros2_loc.training.feature_objective import FeatureObjective
from ros2_loc.training.feature_pairs import FeaturePairs, Loader, PairData
from ros2_loc.training.feature_validation import FeatureValidation
from ros2_loc.training.processes import processes
from ros2_loc.training.recipes import RECIPE, ContextR2d2Recipe, FeatureRecipe, R2d2Recipe, save_recipe
from ros2_loc.training.runs import Trained, first_then_all, has_begun, trained


def weights_file(recipe: FeatureRecipe | type[FeatureRecipe]) -> str:
    """Name of the file of weights: `r2d2.safetensors` or `context_r2d2.safetensors`."""
    return f"{recipe.name}.safetensors"


def train_features(
    recipe: FeatureRecipe,
    source: Callable[[], PairData],
    folder: Path,
    *,
    validate_on: Sequence[Loader] = (),
    source_name: str = "",
    resume: bool = False,
    device: str = "auto",
    show_progress: bool = False,
) -> Trained:
    """Train to the end and write the weights whenever validation is better than ever.

    Args:
        recipe: what to train and how; its type says which network.
        source: gives the pairs; called by each process, the first one first.
        folder: beside the weights it holds the recipe, the last checkpoint, the history, and TensorBoard's files.
        validate_on: images to validate with; default: those that the source holds out.
        source_name: goes into the header of the weights.
        device: "auto", "cpu", "cuda"; under torchrun each process takes the GPU of its number.

    Raises:
        KeyboardInterrupt: Ctrl-C, with a checkpoint to resume from.
        Ros2LocError: anything else, in one line.
    """
    weights = folder / weights_file(recipe)
    begun = has_begun(folder, weights.name, resume)
    with processes(device) as group:
        network = random(recipe) if begun else start(recipe)
        data = first_then_all(source, group)
        if group.is_first:
            save_recipe(recipe, folder / RECIPE)
        validation = FeatureValidation(recipe.validation, validate_on or data.held_out)
        return trained(
            recipe,
            network,
            FeatureObjective(recipe.losses, network),
            FeaturePairs(recipe.samples, data.pairs),
            lambda: validation(network),
            weights,
            group=group,
            begun=begun,
            source_name=source_name,
            show_progress=show_progress,
        )


def random(recipe: FeatureRecipe) -> R2D2 | ContextR2D2:
    """The network of a recipe with random weights, the same for the same `loop.seed`."""
    torch.manual_seed(recipe.loop.seed)
    return ContextR2D2(recipe.network) if isinstance(recipe, ContextR2d2Recipe) else R2D2(recipe.network)


def start(recipe: FeatureRecipe) -> R2D2 | ContextR2D2:
    """The network as its training begins: random, with the weights that the recipe names.

    Raises:
        ConfigError, DataError: no such weights, weights of another network, or a frozen semantic branch without any.
    """
    network = random(recipe)
    if isinstance(recipe, R2d2Recipe):
        if recipe.begin_with:
            state = tensors_of(recipe.begin_with)
            load_strictly(network, state if "layers.0.weight" in state else r2d2.renamed(state), recipe.begin_with)
        return network
    config = recipe.network
    if config.has_context and not config.train_semantic and not recipe.semantic:
        raise ConfigError(
            "the semantic branch is frozen and has no weights: give --semantic FILE (HRNetV2-W48 of Cityscapes), "
            "or let it learn with --set network.train_semantic=true"
        )
    start_from(network, recipe.begin_with, recipe.semantic)  # type: ignore[arg-type]
    return network
