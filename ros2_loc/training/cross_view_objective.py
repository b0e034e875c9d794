"""What CVLNet is trained for: the weighted sum of losses over a batch, on the device of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ros2_loc.errors import ConfigError
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.training import losses

_GREY = (0.299, 0.587, 0.114)


class CrossViewObjective(nn.Module):
    """A network and the losses on top of it; temperatures are learned along with it."""

    @dataclass(frozen=True)
    class Config:
        """Weights of the losses; 0 leaves one out. The paper has the triplet alone."""

        triplet: float = 1.0
        alpha: float = 10.0
        info_nce: float = 0.0  # the right tile among the wrong ones
        shift: float = 0.0  # the true shift among those of the right tile
        place: float = 0.0  # the true shift of the right tile among all shifts of all tiles
        temperature: float = 0.1  # at the start

        def __post_init__(self) -> None:
            weights = (self.triplet, self.info_nce, self.shift, self.place)
            if min(weights) < 0 or max(weights) == 0 or not self.temperature > 0 or not self.alpha > 0:
                raise ConfigError(f"{self}: needs weights of at least 0, one of them above, and positive alpha and temperature")

    def __init__(self, config: Config, network: CVLNet) -> None:
        super().__init__()
        self.config, self.network = config, network
        learned = [name for name in ("info_nce", "shift", "place") if getattr(config, name) > 0]
        start = torch.log(torch.tensor(config.temperature))
        self.log_temperature = nn.ParameterDict({name: nn.Parameter(start.clone()) for name in learned})

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of `CrossViewBatches` -> "loss", each loss by its name, and "accuracy": share of videos whose tile scores best."""
        similarity = self.similarity(batch)
        scores, negative = losses.best_over_shifts(similarity), batch["negative"]
        parts: dict[str, Tensor] = {}
        if self.config.triplet:
            parts["triplet"] = losses.soft_margin_triplet(scores, negative, self.config.alpha)
        if self.config.info_nce:
            parts["info_nce"] = losses.info_nce(scores, negative, self._temperature("info_nce"))
        if self.config.shift:
            parts["shift"] = losses.shift_cross_entropy(similarity, batch["cells"], self._temperature("shift"))
        if self.config.place:
            parts["place"] = losses.place_cross_entropy(similarity, batch["cells"], negative, self._temperature("place"))
        total = torch.stack([getattr(self.config, name) * value for name, value in parts.items()]).sum()
        return {"loss": total, **parts, "accuracy": _accuracy(scores.detach(), negative)}

    def similarity(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(M, N, K, K) of each tile with each video of the batch."""
        network = self.network
        videos, tiles = (as_images(batch[name]) for name in ("images", "tiles"))
        if "image_jitter" in batch:
            videos, tiles = jittered(videos, batch["image_jitter"]), jittered(tiles, batch["tile_jitter"])
        ground = network.ground_features(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])
        descriptors, uncertainty = network.tile_features(tiles)
        # places in images and sums over thousands of products need all their digits
        with torch.autocast(videos.device.type, enabled=False):
            query, seen = network.query_features(ground.float(), batch["sampling_px"], batch["visible"])
            return network.similarity(query, seen, descriptors.float(), uncertainty.float())

    def _temperature(self, name: str) -> Tensor:
        return self.log_temperature[name].exp().clamp(min=1e-3)


def as_images(pictures: Tensor) -> Tensor:
    """(..., h, w, 3) uint8 -> (..., 3, h, w) in 0..1."""
    return pictures.movedim(-1, -3).float() / 255.0


def jittered(images: Tensor, amounts: Tensor) -> Tensor:
    """(B, ..., 3, h, w) with brightness, contrast, saturation and the gain of each colour changed by (B, 6); zeros change nothing."""
    a = amounts.view(len(amounts), *[1] * (images.ndim - 4), 6, 1, 1)
    grey = (images * images.new_tensor(_GREY).view(3, 1, 1)).sum(dim=-3, keepdim=True)
    colours = grey + (images - grey) * (1.0 + a[..., 2:3, :, :])
    mean = colours.mean(dim=(-1, -2, -3), keepdim=True)
    contrasted = mean + (colours - mean) * (1.0 + a[..., 1:2, :, :])
    return (contrasted * (1.0 + a[..., 3:6, :, :]) + a[..., 0:1, :, :]).clamp(0.0, 1.0)


def _accuracy(scores: Tensor, negative: Tensor) -> Tensor:
    rivals = scores.masked_fill(~negative, -torch.inf).amax(dim=0)
    return (scores.diagonal() > rivals).float().mean()
