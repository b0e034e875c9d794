"""What D2Det is trained for: torchvision's losses of proposals, those of the dense regression, of the classes and of the masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from ros2_loc.errors import ConfigError
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.imagenet import normalized


class D2DetObjective(nn.Module):
    """The network and its losses, of a batch of `DetectionBatches`: `loss` is their sum, each with the weight of the published settings.

    Attributes:
        leaves_out: a step does not use all parameters, for the loop.
    """

    leaves_out = True

    @dataclass(frozen=True)
    class Config:
        """What is trained.

        Attributes:
            frozen_stages: so many of a ResNet's stages stay as they began, the stem with them; 1 in the published settings, which begin
                with ImageNet's weights.
        """

        frozen_stages: int = 0

        def __post_init__(self) -> None:
            if not 0 <= self.frozen_stages <= 4:
                raise ConfigError(f"d2det: frozen_stages is 0 to 4, got {self.frozen_stages}")

    def __init__(self, config: Config, network: D2Det) -> None:
        super().__init__()
        self.config, self.network = config, network
        body = network.backbone.body
        for name, part in body.named_children():
            if config.frozen_stages and not (name.startswith("layer") and int(name[5:]) > config.frozen_stages):
                part.requires_grad_(False)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the class."""
        images = normalized(batch["image"].float() / 255.0)
        sizes = [(int(height), int(width)) for height, width in batch["size_px"].tolist()]
        for image, (height, width) in zip(images, sizes, strict=True):  # what was padded is zero, as when images are detected in
            image[:, height:] = 0.0
            image[:, :, width:] = 0.0
        losses = self.network.losses(ImageList(images, sizes), targets_of(batch, self.network.config.masks))
        return {"loss": torch.stack(list(losses.values())).sum(), **{name.removeprefix("loss_"): value for name, value in losses.items()}}


def targets_of(batch: Mapping[str, Tensor], with_masks: bool) -> list[dict[str, Tensor]]:
    """Of each image of a batch of `DetectionBatches`, as torchvision's detectors take them: labels count from 1."""
    targets = []
    for i in range(len(batch["image"])):
        own = batch["of_image"] == i
        target = {"boxes": batch["boxes"][own], "labels": batch["labels"][own] + 1}
        targets.append(target | ({"masks": batch["masks"][own]} if with_masks else {}))
    return targets
