"""Recipes: everything that decides how a network is trained, as one frozen dataclass and its YAML in config/training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from omegaconf import OmegaConf

from ros2_loc.config import build, read_yaml, share_folder, to_dict
from ros2_loc.errors import ConfigError
from ros2_loc.io.files import atomic_path
from ros2_loc.models.context_r2d2 import ContextR2D2
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.models.r2d2 import R2D2
from ros2_loc.training.cross_view_batches import CrossViewBatches
from ros2_loc.training.cross_view_objective import CrossViewObjective
from ros2_loc.training.cross_view_validation import CrossViewValidation
from ros2_loc.training.feature_objective import FeatureObjective
from ros2_loc.training.feature_pairs import FeaturePairs
from ros2_loc.training.feature_towns import TownScenes
from ros2_loc.training.feature_validation import FeatureValidation
from ros2_loc.training.feature_warps import Warp
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.towns import Towns

RECIPE = "recipe.yaml"  # beside the weights


@dataclass(frozen=True)
class CvlnetRecipe:
    """The sections of config/training/cvlnet_*.yaml.

    Attributes:
        towns: of synthetic towns only.
        begin_with: name or file of weights of the same network, to go on learning in other places; "" begins with random ones.
        trunk: file with ImageNet weights to begin with (see `models.cvlnet.loading.load_trunk`); "" begins with random ones.
        licence: of the weights that come out.
    """

    name: ClassVar[str] = "cvlnet"

    network: CVLNet.Config = field(default_factory=CVLNet.Config)
    samples: CrossViewBatches.Config = field(default_factory=CrossViewBatches.Config)
    losses: CrossViewObjective.Config = field(default_factory=CrossViewObjective.Config)
    validation: CrossViewValidation.Config = field(default_factory=CrossViewValidation.Config)
    loop: TrainingLoop.Config = field(default_factory=TrainingLoop.Config)
    towns: Towns.Config = field(default_factory=Towns.Config)
    begin_with: str = ""
    trunk: str = ""
    licence: str = "Apache-2.0"


@dataclass(frozen=True)
class _SharedSections:
    """What the recipes of local features have in common.

    Attributes:
        warp: of pairs made of single images only.
        town: of synthetic scenes only.
        held_out: share of the images that is kept for validation where no others are given for it.
        begin_with: name or file of weights of R2D2; "" begins with random ones.
        licence: of the weights that come out: say what the images allow.
    """

    samples: FeaturePairs.Config = field(default_factory=FeaturePairs.Config)
    warp: Warp = field(default_factory=Warp)
    losses: FeatureObjective.Config = field(default_factory=FeatureObjective.Config)
    validation: FeatureValidation.Config = field(default_factory=FeatureValidation.Config)
    loop: TrainingLoop.Config = field(default_factory=lambda: TrainingLoop.Config(monitor="mma_at_3"))
    town: TownScenes.Config = field(default_factory=TownScenes.Config)
    held_out: float = 0.1
    begin_with: str = ""
    licence: str = "that of the training images"

    def __post_init__(self) -> None:
        _check_held_out(self.held_out)


@dataclass(frozen=True)
class R2d2Recipe(_SharedSections):
    """The sections of config/training/r2d2_*.yaml; `begin_with` may be of its authors or of this project."""

    name: ClassVar[str] = "r2d2"

    network: R2D2.Config = field(default_factory=R2D2.Config)


@dataclass(frozen=True)
class ContextR2d2Recipe(_SharedSections):
    """The sections of config/training/context_r2d2_*.yaml.

    Attributes:
        begin_with: for the local branch and both heads.
        semantic: name or file of weights of HRNet; "" begins with random ones, for a semantic branch that learns.
    """

    name: ClassVar[str] = "context_r2d2"

    network: ContextR2D2.Config = field(default_factory=ContextR2D2.Config)
    semantic: str = ""


FeatureRecipe = R2d2Recipe | ContextR2d2Recipe


class Recipe(Protocol):
    """A dataclass with the name that its YAML files begin with."""

    name: ClassVar[str]


R = TypeVar("R", bound=Recipe)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> CvlnetRecipe:
    """A recipe of CVLNet; see `load_recipe_of`."""
    return load_recipe_of(CvlnetRecipe, name_or_path, overrides)


def load_recipe_of(schema: type[R], name_or_path: str | Path, overrides: Sequence[str] = ()) -> R:
    """A recipe by its name (`small`, `paper`) or by the path of a YAML file; overrides as `loop.epochs=5`.

    Args:
        schema: whose recipe it is.

    Raises:
        ConfigError: no such recipe, or a key or value that is wrong (said in one line).
    """
    path = recipe_path(name_or_path, schema.name)
    return build(schema, read_yaml(path, overrides), str(path))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as `load_recipe` reads it; raises DataError when it can't be written."""
    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.create(to_dict(recipe)), temporary)


def recipe_path(name_or_path: str | Path, network: str = "cvlnet") -> Path:
    """The YAML file of a network's recipe; raises ConfigError where there is none of that name."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    folder = share_folder() / "config" / "training"
    named = folder / f"{network}_{name_or_path}.yaml"
    if not named.is_file():
        names = ", ".join(sorted(p.stem.removeprefix(f"{network}_") for p in folder.glob(f"{network}_*.yaml")))
        raise ConfigError(f"there is no recipe {str(name_or_path)!r}; there are: {names}; or give the path of a YAML file")
    return named


def _check_held_out(share: float) -> None:
    if not 0 < share < 1:
        raise ConfigError(f"held_out {share}: is a share, between 0 and 1")
