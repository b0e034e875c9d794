"""Recipes of place recognition: the retriever and the re-rankers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ros2_loc.errors import ConfigError
from ros2_loc.models.cosplace import CosPlace
from ros2_loc.models.cvnet import CvNet
from ros2_loc.models.rrt import Rrt
from ros2_loc.training.covisibility import Covisibility
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.place_batches import PlaceBatches
from ros2_loc.training.place_classes import PlaceClasses
from ros2_loc.training.place_objective import CosPlaceObjective
from ros2_loc.training.place_towns import PlaceTowns
from ros2_loc.training.place_validation import PlaceValidation
from ros2_loc.training.reranker_batches import Curriculum, FeaturePairBatches, ImageTripletBatches
from ros2_loc.training.reranker_validation import RerankValidation


@dataclass(frozen=True)
class CosPlaceRecipe:
    """The sections of config/training/cosplace_*.yaml.

    Attributes:
        towns: of synthetic places only.
        held_out: share of the images that is kept for validation where no others are given for it.
        frozen: so many of the backbone's layers, counted as its children, don't learn (CosPlace: 6 of a ResNet's 8).
        begin_with: name or file of weights of the same network, this project's or its authors'; "" begins with `trunk`.
        trunk: file of torchvision's ImageNet weights of the backbone; "" begins with random ones.
        whiten_by: batches by which the last layer begins: as the whitening of what the backbone makes of them; 0: as it is. A random
            backbone gives almost the same descriptor to all images, and then learns nothing for long.
        licence: of the weights that come out: say what the images allow.
    """

    name: ClassVar[str] = "cosplace"

    network: CosPlace.Config = field(default_factory=CosPlace.Config)
    classes: PlaceClasses.Config = field(default_factory=PlaceClasses.Config)
    samples: PlaceBatches.Config = field(default_factory=PlaceBatches.Config)
    losses: CosPlaceObjective.Config = field(default_factory=CosPlaceObjective.Config)
    validation: PlaceValidation.Config = field(default_factory=PlaceValidation.Config)
    loop: TrainingLoop.Config = field(default_factory=TrainingLoop.Config)
    towns: PlaceTowns.Config = field(default_factory=PlaceTowns.Config)
    held_out: float = 0.2
    frozen: int = 0
    begin_with: str = ""
    trunk: str = ""
    whiten_by: int = 0
    licence: str = "that of the training images"

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or min(self.frozen, self.whiten_by) < 0:
            raise ConfigError(f"held_out {self.held_out}: is a share; frozen {self.frozen} and whiten_by {self.whiten_by} count from 0")
        if self.begin_with and self.whiten_by:
            raise ConfigError("begin_with and whiten_by: give one of them; the last layer of those weights is what they learned")
        if self.begin_with and self.trunk:
            raise ConfigError("begin_with and trunk: give one of them; the weights of a network hold its trunk")
        if self.frozen and not (self.begin_with or self.trunk):
            raise ConfigError(
                f"the first {self.frozen} layers are frozen and have no weights: give --trunk FILE (torchvision's ImageNet weights of "
                f"{self.network.backbone}) or --begin-with, or let them learn with --set frozen=0"
            )


@dataclass(frozen=True)
class _RerankerSections:
    """What the recipes of re-rankers have in common.

    Attributes:
        covisibility: which places are one.
        curriculum: how it gets harder.
        held_out: share of each map that is kept for validation where no other map is given for it.
        begin_with: name or file of weights of the same network, this project's or its authors'; "" begins with random ones.
        licence: of the weights that come out: say what the images allow.
    """

    covisibility: Covisibility = field(default_factory=Covisibility)
    curriculum: Curriculum = field(default_factory=Curriculum)
    validation: RerankValidation.Config = field(default_factory=RerankValidation.Config)
    loop: TrainingLoop.Config = field(default_factory=lambda: TrainingLoop.Config(monitor="auc"))
    held_out: float = 0.3
    begin_with: str = ""
    licence: str = "that of the training images"

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out {self.held_out}: is a share, between 0 and 1")


@dataclass(frozen=True)
class RrtRecipe(_RerankerSections):
    """The sections of config/training/rrt_*.yaml; `listen_to_likes`: how random weights begin, see `rrt_start`."""

    name: ClassVar[str] = "rrt"

    network: Rrt.Config = field(default_factory=Rrt.Config)
    samples: FeaturePairBatches.Config = field(default_factory=FeaturePairBatches.Config)
    listen_to_likes: bool = False


@dataclass(frozen=True)
class CvnetRerankRecipe(_RerankerSections):
    """The sections of config/training/cvnet_rerank_*.yaml.

    Attributes:
        train_trunk: not only the head learns.
        whiten_by: batches by which the pyramid's convolutions begin, where no weights are given: as the whitening of what the random trunk
            makes of them; 0: as they are.
    """

    name: ClassVar[str] = "cvnet_rerank"

    network: CvNet.Config = field(default_factory=CvNet.Config)
    samples: ImageTripletBatches.Config = field(default_factory=ImageTripletBatches.Config)
    train_trunk: bool = False
    whiten_by: int = 0


RerankerRecipe = RrtRecipe | CvnetRerankRecipe
