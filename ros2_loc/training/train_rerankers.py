"""RRT and CVNet's re-ranking head from a recipe and maps to a weight file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ros2_loc.errors import ConfigError
from ros2_loc.io.images import RGB
from ros2_loc.models import cvnet, rrt
from ros2_loc.models.cvnet import CvNet
from ros2_loc.models.pycls_resnet import normalized
from ros2_loc.models.rrt import Described, Rrt
from ros2_loc.models.weights import load_strictly, tensors_of, told_of
from ros2_loc.training.covisibility import LabelledPlaces, labelled, split
from ros2_loc.training.feature_maps import image_loader
from ros2_loc.training.loop import Batches
from ros2_loc.training.place_batches import resized
from ros2_loc.training.place_recipes import CvnetRerankRecipe, RerankerRecipe, RrtRecipe
from ros2_loc.training.processes import Processes, processes
from ros2_loc.training.recipes import RECIPE, save_recipe
from ros2_loc.training.reranker_batches import FeaturePairBatches, ImageTripletBatches, described
from ros2_loc.training.reranker_objectives import CvnetObjective, RrtObjective
from ros2_loc.training.reranker_validation import RerankValidation, Score
from ros2_loc.training.rrt_start import listen_to_likes
from ros2_loc.training.runs import Trained, has_begun, trained
from ros2_loc.training.whitening import whiten

Load = Callable[[str], RGB]

_DAMPING = 0.02  # share of the largest variance


@dataclass(frozen=True, slots=True, eq=False)
class MapImages:
    """A map, and where its images are: a folder with them, or the recording that it was built from; None where none are needed."""

    folder: Path
    images: Path | None = None


def weights_file(recipe: RerankerRecipe | type[RerankerRecipe]) -> str:
    """Name of the file of weights: `rrt.safetensors` or `cvnet_rerank.safetensors`."""
    return f"{recipe.name}.safetensors"


def train_reranker(
    recipe: RerankerRecipe,
    maps: Sequence[MapImages],
    folder: Path,
    *,
    validate_on: Sequence[MapImages] = (),
    source_name: str = "",
    resume: bool = False,
    device: str = "auto",
    show_progress: bool = False,
) -> Trained:
    """Train to the end and write the weights whenever validation is better than ever.

    Args:
        recipe: what to train and how; its type says which network.
        maps: labels come from the points that their places have in common.
        folder: beside the weights it holds the recipe, the last checkpoint, the history, and TensorBoard's files.
        validate_on: maps to validate with; default: the places at one end of each of `maps`, which are then not trained on.
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
        if group.is_first:
            save_recipe(recipe, folder / RECIPE)
        train, held = _labelled(recipe, maps, validate_on)
        loads = _loaders(recipe, [*maps, *(validate_on or maps)], [*train, *held])
        batches = _batches(recipe, train, loads[: len(train)], group)
        if not begun and not recipe.begin_with:
            _begin(recipe, network, train, batches)
        validation = RerankValidation(recipe.validation, held)
        score = _score(recipe, network, held, loads[len(train) :])
        return trained(
            recipe,
            network,
            RrtObjective(network) if isinstance(network, Rrt) else CvnetObjective(network, _trains_trunk(recipe)),
            batches,
            lambda: validation(score),
            weights,
            group=group,
            begun=begun,
            source_name=source_name,
            show_progress=show_progress,
        )


def random(recipe: RerankerRecipe) -> Rrt | CvNet:
    """The network of a recipe with random weights, the same for the same `loop.seed`."""
    if isinstance(recipe, RrtRecipe):
        return rrt.random(recipe.network, recipe.loop.seed)
    return cvnet.random(recipe.network, recipe.loop.seed)


def start(recipe: RerankerRecipe) -> Rrt | CvNet:
    """The network as its training begins.

    Raises:
        ConfigError, DataError: no such weights, weights of another network, or a frozen trunk without any.
    """
    network = random(recipe)
    if recipe.begin_with:
        with told_of(recipe.begin_with):
            state = tensors_of(recipe.begin_with)
            if not set(state) & set(network.state_dict()):
                state = rrt.renamed(state) if isinstance(network, Rrt) else cvnet.renamed(state)
        load_strictly(network, state, recipe.begin_with)
    elif isinstance(recipe, CvnetRerankRecipe) and not (recipe.train_trunk or recipe.whiten_by):
        raise ConfigError("the trunk is frozen and has no weights: give --begin-with cvnet_r50, or let it learn: --set train_trunk=true")
    return network


@torch.no_grad()
def begin_whitened(network: CvNet, batches: Sequence[Tensor]) -> None:
    """Makes the convolutions of the pyramid the whitening of what the trunk makes of these images, (B, 3, H, W) uint8 each.

    The trunk's normalization learns its statistics from them.
    """
    network.train()
    features = [network.features(normalized(batch.float() / 255.0)) for batch in batches]
    rows = torch.cat([one.flatten(2).transpose(1, 2).flatten(0, 1) for one in features])
    for layer in network.compress:
        whiten(cast(nn.Conv2d, layer), rows, _DAMPING)


def _begin(recipe: RerankerRecipe, network: Rrt | CvNet, train: Sequence[LabelledPlaces], batches: Batches) -> None:
    """Random weights, so that they learn."""
    torch.manual_seed(recipe.loop.seed)
    if isinstance(recipe, RrtRecipe) and recipe.listen_to_likes:
        listen_to_likes(cast(Rrt, network), [each for places in train for each in places.found], recipe.samples.max_features)
    if isinstance(recipe, CvnetRerankRecipe) and recipe.whiten_by:
        begin_whitened(cast(CvNet, network), [image for k in range(recipe.whiten_by) for image in batches.batch(k).values()])


def _labelled(
    recipe: RerankerRecipe, maps: Sequence[MapImages], validate_on: Sequence[MapImages]
) -> tuple[list[LabelledPlaces], list[LabelledPlaces]]:
    if validate_on:
        train, held = ([labelled(one.folder, recipe.covisibility) for one in given] for given in (maps, validate_on))
    else:
        halves = [split(one.folder, recipe.covisibility, recipe.held_out) for one in maps]
        train, held = [half[0] for half in halves], [half[1] for half in halves]
    if isinstance(recipe, RrtRecipe):
        _check_sizes(recipe.network, [*train, *held])
    return train, held


def _check_sizes(network: Rrt.Config, places: Sequence[LabelledPlaces]) -> None:
    for one in places:
        given = one.found[0].descriptors.shape[1], one.vectors.shape[1]
        if given[0] != network.local_dimension or network.global_dimension not in (0, given[1]):
            raise ConfigError(
                f"rrt: {one.found[0].extractor} gives {given[0]} numbers of a keypoint, the map {given[1]} of an image; the network takes "
                f"{network.local_dimension} and {network.global_dimension}: set network.local_dimension={given[0]} and "
                f"network.global_dimension={given[1]}, or 0 for local features alone"
            )


def _loaders(recipe: RerankerRecipe, maps: Sequence[MapImages], places: Sequence[LabelledPlaces]) -> list[Load]:
    if isinstance(recipe, RrtRecipe):
        return []
    loads = []
    for one, named in zip(maps, places, strict=True):
        if one.images is None:
            raise ConfigError(f"{one.folder}: CVNet looks at images: give the recording that the map was built from")
        loads.append(image_loader(one.images, named.names))
    return loads


def _trains_trunk(recipe: RerankerRecipe) -> bool:
    return isinstance(recipe, CvnetRerankRecipe) and recipe.train_trunk


def _batches(
    recipe: RerankerRecipe, places: Sequence[LabelledPlaces], loads: Sequence[Load], group: Processes
) -> FeaturePairBatches | ImageTripletBatches:
    total = recipe.loop.epochs * recipe.loop.steps_per_epoch * group.size
    if isinstance(recipe, RrtRecipe):
        with_vector = recipe.network.global_dimension > 0
        return FeaturePairBatches(recipe.samples, places, recipe.curriculum, recipe.network.scale_px, with_vector, total)
    return ImageTripletBatches(recipe.samples, places, loads, recipe.curriculum, total)


def _score(recipe: RerankerRecipe, network: Any, held: Sequence[LabelledPlaces], loads: Sequence[Load]) -> Score:
    if isinstance(recipe, RrtRecipe):
        return lambda places, query, rows: _rrt_scores(recipe, network, places, query, rows)
    by_map = {id(places): load for places, load in zip(held, loads, strict=True)}
    px = recipe.samples.image_px
    return lambda places, query, rows: _cvnet_scores(network, [by_map[id(places)](places.names[row]) for row in (query, *rows)], px)


def _rrt_scores(recipe: RrtRecipe, network: Rrt, places: LabelledPlaces, query: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    most, with_vector = recipe.samples.max_features, recipe.network.global_dimension > 0
    device = network.classifier.weight.device

    def of(features: list[Any], at: NDArray[np.int64]) -> Described:
        images = described(features, list(places.vectors[at]) if with_vector else None, recipe.network.scale_px, most)
        return Described(*(tensor.to(device) for tensor in images))

    asked, given = of([places.found[query]], np.array([query])), of([places.mapped[row] for row in rows], rows)
    with torch.no_grad():
        return np.asarray(network(asked, given).float().cpu().numpy(), np.float32)


def _cvnet_scores(network: CvNet, images: Sequence[RGB], image_px: tuple[int, int]) -> NDArray[np.float32]:
    """Logits of "the same place" of the first image with each of the others."""
    device = next(iter(nn.Module.parameters(network))).device
    batch = normalized(torch.stack([resized(image, image_px) for image in images]).to(device).float() / 255.0)
    with torch.no_grad():
        maps = network.maps(network.features(batch))
        logits = network(tuple(scale[:1] for scale in maps), tuple(scale[1:] for scale in maps)).float()
    return np.asarray((logits[:, 1] - logits[:, 0]).cpu().numpy(), np.float32)
