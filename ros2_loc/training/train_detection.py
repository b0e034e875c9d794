"""CenterNet and D2Det from a recipe and labelled images to a weight file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ros2_loc.models.centernet import official as official_centernet
from ros2_loc.models.centernet.network import CenterNet
from ros2_loc.models.d2det import official as official_d2det
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.weights import load_strictly, tensors_of, told_of
from ros2_loc.training.centernet_batches import CenterNetBatches
from ros2_loc.training.centernet_objective import CenterNetObjective
from ros2_loc.training.d2det_objective import D2DetObjective
from ros2_loc.training.detection_batches import DetectionBatches
from ros2_loc.training.detection_recipes import CenterNetRecipe, D2DetRecipe, DetectorRecipe
from ros2_loc.training.detection_sets import DetectionData
from ros2_loc.training.detection_validation import DetectionValidation
from ros2_loc.training.loop import Batches
from ros2_loc.training.processes import processes
from ros2_loc.training.recipes import RECIPE, save_recipe
from ros2_loc.training.runs import Trained, first_then_all, has_begun, trained

# the layers whose sizes follow from the number of labels, by parts of their names
_OF_LABELS = {"centernet": ("_heat.2.",), "d2det": ("roi_heads.box_predictor.", "roi_heads.masks.masks.", "roi_heads.masks.scores.4.")}
_OWN_NAMES = {"centernet": "stem.", "d2det": "backbone.body."}  # what weights of this project have, and their authors' have not
_OF_MASKS = "roi_heads.masks."
_NO_LABELS = ((), CenterNet.Config().labels)  # recipes that leave them to the images


def weights_file(recipe: DetectorRecipe) -> str:
    """Name of the file of weights: `centernet.safetensors` or `d2det.safetensors`."""
    return f"{recipe.name}.safetensors"


def train_detector(
    recipe: DetectorRecipe,
    source: Callable[[], DetectionData],
    folder: Path,
    *,
    source_name: str = "",
    resume: bool = False,
    device: str = "auto",
    show_progress: bool = False,
) -> Trained:
    """Train to the end and write the weights whenever validation is better than ever.

    Args:
        recipe: what to train and how; its type says which network.
        source: gives the images; called by each process, the first one first.
        folder: beside the weights it holds the recipe, the last checkpoint, the history, and TensorBoard's files.
        source_name: goes into the header of the weights.
        device: "auto", "cpu", "cuda"; under torchrun each process takes the GPU of its number.

    Raises:
        KeyboardInterrupt: Ctrl-C, with a checkpoint to resume from.
        Ros2LocError: anything else, in one line.
    """
    weights = folder / weights_file(recipe)
    begun = has_begun(folder, weights.name, resume)
    with processes(device) as group:
        recipe, data = with_labels(recipe, first_then_all(source, group))
        if group.is_first:
            save_recipe(recipe, folder / RECIPE)
        network = random(recipe) if begun else start(recipe)
        validation = DetectionValidation(recipe.validation, recipe.name, data.validation, group.device)
        objective, batches = objective_of(recipe, network, data)
        return trained(
            recipe,
            network,
            objective,
            batches,
            lambda: validation(network),
            weights,
            group=group,
            begun=begun,
            source_name=source_name,
            show_progress=show_progress,
        )


def with_labels(recipe: DetectorRecipe, data: DetectionData) -> tuple[DetectorRecipe, DetectionData]:
    """The labels of the images for a recipe that names none; else the images with those of the recipe.

    Raises:
        ConfigError: no label is common to both: the line has both lists.
    """
    if recipe.network.labels not in _NO_LABELS:
        return recipe, data.with_labels(recipe.network.labels)
    return replace(recipe, network=replace(recipe.network, labels=data.train.labels)), data  # type: ignore[type-var,return-value,arg-type]


def objective_of(recipe: DetectorRecipe, network: nn.Module, data: DetectionData) -> tuple[nn.Module, Batches]:
    """What is minimized, and what it eats."""
    if isinstance(recipe, CenterNetRecipe):
        assert isinstance(network, CenterNet)
        batches = DetectionBatches(recipe.samples, data.train, with_masks=False)
        return CenterNetObjective(recipe.losses, network), CenterNetBatches(batches, len(recipe.network.labels))
    assert isinstance(network, D2Det)
    return D2DetObjective(recipe.losses, network), DetectionBatches(recipe.samples, data.train, with_masks=recipe.network.masks)


def random(recipe: DetectorRecipe) -> CenterNet | D2Det:
    """The network of a recipe with random weights, the same for the same `loop.seed`."""
    torch.manual_seed(recipe.loop.seed)
    return CenterNet(recipe.network) if isinstance(recipe, CenterNetRecipe) else D2Det(recipe.network)


def start(recipe: DetectorRecipe) -> CenterNet | D2Det:
    """The network as its training begins: random, with the weights that the recipe names.

    Raises:
        ConfigError, DataError: no such weights, or weights of another network.
    """
    network = random(recipe)
    if recipe.begin_with:
        state, own = _begun_with(recipe), network.state_dict()
        if isinstance(recipe, D2DetRecipe) and not recipe.network.masks:
            state = {key: value for key, value in state.items() if not key.startswith(_OF_MASKS)}
        load_strictly(network, for_labels(state, own, _OF_LABELS[recipe.name]), recipe.begin_with)
    if isinstance(recipe, D2DetRecipe) and recipe.trunk:
        assert isinstance(network, D2Det)
        body = network.backbone.body
        load_strictly(body, body_of(tensors_of(recipe.trunk), body.state_dict()), recipe.trunk)
    return network


def _begun_with(recipe: DetectorRecipe) -> dict[str, Tensor]:
    """The weights that a recipe begins with, under this project's names."""
    state = tensors_of(recipe.begin_with)
    if any(key.startswith(_OWN_NAMES[recipe.name]) for key in state):
        return state
    with told_of(recipe.begin_with):
        return official_centernet.renamed(state) if isinstance(recipe, CenterNetRecipe) else official_d2det.renamed(state)


def for_labels(state: Mapping[str, Tensor], own: Mapping[str, Tensor], parts: Sequence[str]) -> dict[str, Tensor]:
    """Weights for a network of other labels: of the `parts` that depend on them, what has another shape begins as it is in `own`."""
    return {
        key: own[key] if key in own and own[key].shape != value.shape and any(part in key for part in parts) else value
        for key, value in state.items()
    }


def body_of(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's weights of a ResNet for the stages of a backbone; offsets of deformable convolutions begin as they are in `own`."""
    taken = {key: value for key, value in state.items() if not key.startswith("fc.")}
    return {key: value for key, value in own.items() if ".conv_offset." in key} | taken
