"""What every training has around its loop: a folder that may hold one already, and sources that fill a cache first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

from ros2_loc.config import to_dict
from ros2_loc.errors import ConfigError
from ros2_loc.models.weights import save_model
from ros2_loc.training.loop import CHECKPOINT, Batches, TrainingLoop
from ros2_loc.training.processes import Processes
from ros2_loc.training.recipes import RECIPE, load_recipe_of

T = TypeVar("T")


class _LoopRecipe(Protocol):
    name: ClassVar[str]

    @property
    def network(self) -> Any: ...

    @property
    def loop(self) -> TrainingLoop.Config: ...

    @property
    def licence(self) -> str: ...


R = TypeVar("R", bound=_LoopRecipe)


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out: the weight file of the best epoch, the step and the validated number that made it the best."""

    weights: Path
    best_step: int
    monitor: str
    best: float


def has_begun(folder: Path, weights: str, resume: bool) -> bool:
    """Whether a folder holds a training.

    Raises:
        ConfigError: it does, and shall not be gone on with.
    """
    begun = (folder / CHECKPOINT).exists() or (folder / weights).exists()
    if begun and not resume:
        raise ConfigError(f"{folder}: holds a training already: go on with --resume, or choose another --out")
    return begun


def resumed(schema: type[R], folder: Path, overrides: Sequence[str]) -> R:
    """The recipe of a training that was begun, for instance with `loop.epochs=60` to train longer.

    Raises:
        ConfigError: no training of this network there, or an override that would make it another one.
    """
    if not (folder / RECIPE).is_file():
        raise ConfigError(f"{folder}: holds no training to resume (no {RECIPE}); leave --resume out")
    before, after = (load_recipe_of(schema, folder / RECIPE, changes) for changes in ((), overrides))
    if (before.network, before.loop.steps_per_epoch, before.loop.seed) != (after.network, after.loop.steps_per_epoch, after.loop.seed):
        raise ConfigError("network, loop.steps_per_epoch and loop.seed can't change in the middle of a training; begin another one")
    return after


def first_then_all(source: Callable[[], T], group: Processes) -> T:
    """What a source gives to each process; the first one fills its cache while the others wait."""
    if not group.is_first:
        group.wait()
        return source()
    given = source()
    group.wait()
    return given


def trained(
    recipe: _LoopRecipe,
    network: nn.Module,
    objective: nn.Module,
    batches: Batches,
    validate: Callable[[], dict[str, float]],
    weights: Path,
    *,
    group: Processes,
    begun: bool,
    source_name: str,
    show_progress: bool,
) -> Trained:
    """Train to the end; write the weights whenever validation is better than ever.

    Args:
        network: what is written.
        objective: holds it, and is what is minimized on `batches`.
        validate: the numbers of the network as it is.
        weights: the file to write; its folder gets the last checkpoint, the history, and TensorBoard's files.
        begun: whether to go on from the folder's checkpoint.
        source_name: goes into the header of the weights.
    """

    def export(metrics: dict[str, float]) -> None:
        about = {"recipe": to_dict(recipe), "seed": recipe.loop.seed, "licence": recipe.licence, "data": source_name}
        save_model(weights, network, {**about, "validation": metrics, "step": loop.done.step})

    loop = TrainingLoop(
        recipe.loop, objective, batches, weights.parent, validate=validate, on_best=export, group=group, show_progress=show_progress
    )
    if begun:
        loop.resume()
    done = loop.run()
    return Trained(weights, done.best_step, recipe.loop.monitor, done.best)
