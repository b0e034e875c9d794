"""Recipes: everything that decides how a network is trained, as one frozen dataclass and its YAML in config/training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from ros2_loc.config import build, read_yaml, share_folder, to_dict
from ros2_loc.errors import ConfigError
from ros2_loc.io.files import atomic_path
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.training.cross_view_batches import CrossViewBatches
from ros2_loc.training.cross_view_objective import CrossViewObjective
from ros2_loc.training.cross_view_validation import CrossViewValidation
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.towns import Towns


@dataclass(frozen=True)
class CvlnetRecipe:
    """The sections of config/training/cvlnet_*.yaml.

    Attributes:
        towns: of synthetic towns only.
        begin_with: name or file of weights of the same network, to go on learning in other places; "" begins with random ones.
        trunk: file with ImageNet weights to begin with (see `models.cvlnet.loading.load_trunk`); "" begins with random ones.
        licence: of the weights that come out.
    """

    network: CVLNet.Config = field(default_factory=CVLNet.Config)
    samples: CrossViewBatches.Config = field(default_factory=CrossViewBatches.Config)
    losses: CrossViewObjective.Config = field(default_factory=CrossViewObjective.Config)
    validation: CrossViewValidation.Config = field(default_factory=CrossViewValidation.Config)
    loop: TrainingLoop.Config = field(default_factory=TrainingLoop.Config)
    towns: Towns.Config = field(default_factory=Towns.Config)
    begin_with: str = ""
    trunk: str = ""
    licence: str = "Apache-2.0"


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> CvlnetRecipe:
    """A recipe by its name (`small`, `paper`) or by the path of a YAML file; overrides as `loop.epochs=5`.

    Raises:
        ConfigError: no such recipe, or a key or value that is wrong (said in one line).
    """
    path = recipe_path(name_or_path)
    return build(CvlnetRecipe, read_yaml(path, overrides), str(path))


def save_recipe(recipe: CvlnetRecipe, path: Path) -> None:
    """Write a recipe as `load_recipe` reads it; raises DataError when it can't be written."""
    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.create(to_dict(recipe)), temporary)


def recipe_path(name_or_path: str | Path) -> Path:
    """The YAML file of a recipe; raises ConfigError where there is none of that name."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    folder = share_folder() / "config" / "training"
    named = folder / f"cvlnet_{name_or_path}.yaml"
    if not named.is_file():
        names = ", ".join(sorted(p.stem.removeprefix("cvlnet_") for p in folder.glob("cvlnet_*.yaml")))
        raise ConfigError(f"there is no recipe {str(name_or_path)!r}; there are: {names}; or give the path of a YAML file")
    return named
