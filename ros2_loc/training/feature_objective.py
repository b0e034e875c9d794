"""What R2D2 and Context-R2D2 are trained for: repeatable keypoints where descriptors are reliable, on pairs with known correspondences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ros2_loc.errors import ConfigError
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.r2d2 import DenseFeatures
from ros2_loc.training import feature_losses as losses
from ros2_loc.training.feature_losses import PixelSampling


class FeatureObjective(nn.Module):
    """A network of dense features and the losses on top of it; of Context-R2D2 those of the first and of the final prediction."""

    @dataclass(frozen=True)
    class Config:
        """Weights and settings of the losses.

        Attributes:
            cosine: of equation 3.
            peaky: of equation 4, for each of the two images: 1 in equation 2, 0.5 in R2D2.
            reliability: of equation 5.
            patch_px: N of repeatability.
            kappa: least average precision that is worth a keypoint.
            bins: of the quantized average precision.
            final: lambda of equation 6, for a network with a final prediction beside the first.
            sampling: pixels of the average precision.
        """

        cosine: float = 1.0
        peaky: float = 0.5
        reliability: float = 1.0
        patch_px: int = 16
        kappa: float = 0.5
        bins: int = 20
        final: float = 1.0
        sampling: PixelSampling = field(default_factory=PixelSampling)

        def __post_init__(self) -> None:
            weights = (self.cosine, self.peaky, self.reliability, self.final)
            if min(weights) < 0 or max(weights[:3]) == 0 or not 0 <= self.kappa <= 1 or self.patch_px < 2 or self.bins < 2:
                raise ConfigError(f"{self}: weights must not be negative nor all 0, kappa in 0..1, patch_px and bins at least 2")

    def __init__(self, config: Config, network: nn.Module) -> None:
        super().__init__()
        self.config, self.network = config, network

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of `FeaturePairs` -> "loss", each loss by its name, and "precision": mean average precision of the queries."""
        images = torch.cat([batch["image"], batch["image2"]])
        seen = self.network(as_input(images))
        # places in images and sums over many products need all their digits
        with torch.autocast(images.device.type, enabled=False):
            if isinstance(seen, DenseFeatures):
                return self._losses(seen, batch)
            first, final = self._losses(seen.initial, batch), self._losses(seen.final, batch)
        total = first["loss"] + self.config.final * final["loss"]
        return {**final, **{f"initial_{name}": value for name, value in first.items()}, "final_loss": final["loss"], "loss": total}

    def _losses(self, seen: DenseFeatures, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        c, points, valid = self.config, batch["points2_px"], batch["valid"]
        pairs = len(valid)
        first = DenseFeatures(*(maps[:pairs].float() for maps in seen))
        second = DenseFeatures(*(maps[pairs:].float() for maps in seen))
        queries = losses.draw_queries(points, valid, c.sampling)
        precision, reliability = losses.pixel_precision(first, second, queries, c.sampling, c.bins)
        parts = {
            "cosine": losses.cosine_loss(first.repeatability, losses.warped(second.repeatability, points), valid, c.patch_px),
            "peaky": losses.peaky_loss(first.repeatability, c.patch_px) + losses.peaky_loss(second.repeatability, c.patch_px),
            "reliability": losses.reliability_loss(precision, reliability, c.kappa),
        }
        total = torch.stack([getattr(c, name) * value for name, value in parts.items()]).sum()
        return {"loss": total, **parts, "precision": precision.detach().sum() / max(len(precision), 1)}


def final_features(network: nn.Module, images: Tensor) -> DenseFeatures:
    """What a network of either kind says in the end of (B, H, W, 3) uint8 images."""
    seen = network(as_input(images))
    return seen if isinstance(seen, DenseFeatures) else seen.final  # type: ignore[no-any-return]


def as_input(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) as the networks want it."""
    return normalized(images.movedim(-1, 1).float() / 255.0)
