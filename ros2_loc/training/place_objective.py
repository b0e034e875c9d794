"""CosPlace as an objective: a classifier for each group, of which a batch trains one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ros2_loc.errors import ConfigError
from ros2_loc.models.cosplace import CosPlace
from ros2_loc.models.imagenet import normalized
from ros2_loc.training.place_losses import LargeMarginClassifier


class CosPlaceObjective(nn.Module):
    """Losses of a batch of `PlaceBatches`: `loss`, and `accuracy` among the classes of its group.

    Attributes:
        rates: factor on the learning rate by the beginning of parameters' names, for the loop.
        leaves_out: a step does not use all parameters, for the loop.
    """

    leaves_out = True

    @dataclass(frozen=True)
    class Config:
        """Of the large margin cosine loss.

        Attributes:
            classifier_rate: classifiers learn so many times as fast as the network (0.01 and 1e-5 in CosPlace).
        """

        scale: float = 30.0
        margin: float = 0.4
        classifier_rate: float = 1000.0

        def __post_init__(self) -> None:
            if not (self.scale > 0 and 0 <= self.margin < 1 and self.classifier_rate > 0):
                raise ConfigError(f"{self}: scale and classifier_rate are positive, margin from 0 to below 1")

    def __init__(self, config: Config, network: CosPlace, sizes: Sequence[int]) -> None:
        """`sizes`: how many classes each group has."""
        super().__init__()
        self.network = network
        dimension = network.config.dimension
        self.classifiers = nn.ModuleList(LargeMarginClassifier(size, dimension, config.scale, config.margin) for size in sizes)
        self.rates = {"classifiers.": config.classifier_rate}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See the class."""
        descriptors = self.network(normalized(batch["image"].float() / 255.0))
        loss, accuracy = self.classifiers[int(batch["group"])](descriptors, batch["label"])
        return {"loss": loss, "accuracy": accuracy}
