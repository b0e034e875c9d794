"""Recipes of object detectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ros2_loc.errors import ConfigError
from ros2_loc.models.centernet.network import CenterNet
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.training.centernet_objective import CenterNetObjective
from ros2_loc.training.d2det_objective import D2DetObjective
from ros2_loc.training.detection_batches import DetectionBatches
from ros2_loc.training.detection_towns import ObjectTowns
from ros2_loc.training.detection_validation import DetectionValidation
from ros2_loc.training.loop import TrainingLoop


@dataclass(frozen=True)
class _DetectorSections:
    """What the recipes of detectors have in common.

    Attributes:
        towns: of synthetic images only.
        held_out: share of the images that is kept for validation where no others are given for it.
        begin_with: name or file of weights of the same network, this project's or its authors'; of other labels too: what depends on the
            labels then begins anew. "" begins with random ones.
        licence: of the weights that come out: say what the images allow.
    """

    samples: DetectionBatches.Config = field(default_factory=DetectionBatches.Config)
    validation: DetectionValidation.Config = field(default_factory=DetectionValidation.Config)
    loop: TrainingLoop.Config = field(default_factory=lambda: TrainingLoop.Config(monitor="ap"))
    towns: ObjectTowns.Config = field(default_factory=ObjectTowns.Config)
    held_out: float = 0.1
    begin_with: str = ""
    licence: str = "that of the training images"

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out {self.held_out}: is a share, between 0 and 1")


@dataclass(frozen=True)
class CenterNetRecipe(_DetectorSections):
    """The sections of config/training/centernet_*.yaml; `network.labels` are those of the images unless they are given."""

    name: ClassVar[str] = "centernet"

    network: CenterNet.Config = field(default_factory=CenterNet.Config)
    losses: CenterNetObjective.Config = field(default_factory=CenterNetObjective.Config)


@dataclass(frozen=True)
class D2DetRecipe(_DetectorSections):
    """The sections of config/training/d2det_*.yaml; `network.labels` are those of the images unless they are given.

    Attributes:
        trunk: file of torchvision's ImageNet weights of the backbone; "" begins with random ones.
    """

    name: ClassVar[str] = "d2det"

    network: D2Det.Config = field(default_factory=D2Det.Config)
    losses: D2DetObjective.Config = field(default_factory=D2DetObjective.Config)
    trunk: str = ""

    def __post_init__(self) -> None:
        _DetectorSections.__post_init__(self)
        if self.begin_with and self.trunk:
            raise ConfigError("begin_with and trunk: give one of them; the weights of a network hold its trunk")
        if self.losses.frozen_stages and not (self.begin_with or self.trunk):
            raise ConfigError(
                f"the first {self.losses.frozen_stages} stages are frozen and have no weights: give --trunk FILE (torchvision's ImageNet "
                f"weights of resnet{self.network.depth}) or --begin-with, or let them learn with --set losses.frozen_stages=0"
            )


DetectorRecipe = CenterNetRecipe | D2DetRecipe
