"""CosPlace from a recipe and images that know where they were taken to a weight file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cosplace import CosPlace, renamed
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.weights import load_strictly, tensors_of, told_of
from ros2_loc.training.place_batches import PlaceBatches
from ros2_loc.training.place_classes import PlaceClasses
from ros2_loc.training.place_images import PlaceData
from ros2_loc.training.place_objective import CosPlaceObjective
from ros2_loc.training.place_recipes import CosPlaceRecipe
from ros2_loc.training.place_validation import PlaceValidation
from ros2_loc.training.processes import processes
from ros2_loc.training.recipes import RECIPE, save_recipe
from ros2_loc.training.runs import Trained, first_then_all, has_begun, trained
from ros2_loc.training.whitening import whiten

WEIGHTS = "cosplace.safetensors"
_DAMPING = 0.01  # share of the largest variance
# names of torchvision's ResNets by the number of the layer among the children
_RESNET_LAYERS = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


def train_cosplace(
    recipe: CosPlaceRecipe,
    source: Callable[[], PlaceData],
    folder: Path,
    *,
    source_name: str = "",
    resume: bool = False,
    device: str = "auto",
    show_progress: bool = False,
) -> Trained:
    """Train to the end and write `cosplace.safetensors` whenever validation is better than ever.

    Args:
        recipe: what to train and how.
        source: gives the images; called by each process, the first one first.
        folder: beside the weights it holds the recipe, the last checkpoint, the history, and TensorBoard's files.
        source_name: goes into the header of the weights.
        device: "auto", "cpu", "cuda"; under torchrun each process takes the GPU of its number.

    Raises:
        KeyboardInterrupt: Ctrl-C, with a checkpoint to resume from.
        Ros2LocError: anything else, in one line.
    """
    weights = folder / WEIGHTS
    begun = has_begun(folder, WEIGHTS, resume)
    with processes(device) as group:
        network = random(recipe) if begun else start(recipe)
        _freeze(network, recipe.frozen)
        data = first_then_all(source, group)
        if group.is_first:
            save_recipe(recipe, folder / RECIPE)
        classes = PlaceClasses(recipe.classes, data.train.positions_m, data.train.headings_deg, data.train.areas)
        validation = PlaceValidation(recipe.validation, recipe.samples.image_px, data.validation)
        batches = PlaceBatches(recipe.samples, classes, data.train, recipe.loop.steps_per_epoch * group.size)
        if recipe.whiten_by and not begun:
            begin_whitened(network, [batches.batch(k)["image"] for k in range(recipe.whiten_by)])
        return trained(
            recipe,
            network,
            CosPlaceObjective(recipe.losses, network, [len(each) for each in classes.groups]),
            batches,
            lambda: validation(network),
            weights,
            group=group,
            begun=begun,
            source_name=source_name,
            show_progress=show_progress,
        )


def random(recipe: CosPlaceRecipe) -> CosPlace:
    """The network of a recipe with random weights, the same for the same `loop.seed`."""
    torch.manual_seed(recipe.loop.seed)
    return CosPlace(recipe.network)


def start(recipe: CosPlaceRecipe) -> CosPlace:
    """The network as its training begins.

    Raises:
        ConfigError, DataError: no such weights, or weights of another network.
    """
    network = random(recipe)
    if recipe.begin_with:
        with told_of(recipe.begin_with):
            state = tensors_of(recipe.begin_with)
            state = state if "fc.weight" in state else renamed(state)
        load_strictly(network, state, recipe.begin_with)
    if recipe.trunk:
        with told_of(recipe.trunk):
            state = backbone_of(tensors_of(recipe.trunk), network.backbone.state_dict())
        load_strictly(network.backbone, state, recipe.trunk)
    return network


@torch.no_grad()
def begin_whitened(network: CosPlace, batches: Sequence[Tensor]) -> None:
    """Makes the last layer the whitening of what the backbone pools of these images, (B, 3, H, W) uint8 each."""
    network.train()
    pooled = torch.cat([network.pooled(network.features(normalized(batch.float() / 255.0))) for batch in batches])
    whiten(network.fc, pooled, _DAMPING)


def backbone_of(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's weights of a whole classifier -> those of its layers that a backbone (`own`) has.

    Raises:
        DataError: none of a ResNet, nor of a network with `features`.
    """
    result = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        name = f"{_RESNET_LAYERS[first]}.{rest}" if first in _RESNET_LAYERS else rest if first == "features" else ""
        if name in own:
            result[name] = value
    if not result:
        raise DataError("has no layers of this backbone: give the weights that torchvision publishes for it")
    return result


def _freeze(network: CosPlace, layers: int) -> None:
    if layers >= len(network.backbone):
        raise ConfigError(f"frozen {layers}: the backbone has {len(network.backbone)} layers, of which at least the last one learns")
    for layer in network.backbone[:layers]:
        layer.requires_grad_(False)
