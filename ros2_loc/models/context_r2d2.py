"""Context-R2D2: R2D2 whose features are refined by what the surroundings mean.

Hong et al., "Learning Local Features with Context Aggregation for Visual Localization", sections 3.2 to 3.5. No code or weights were
published. What the paper leaves open is chosen so:

* The trunk is R2D2's with its three 2x2 convolutions (section 3.1; section 3.2 writes 3x3), so that weights of R2D2 can be the start.
* The score map has the image's resolution, so the semantic features are enlarged to it. They are brought to `context_channels` by a 1x1
  convolution before that: the two steps commute, and this order is 16 times cheaper.
* A layer of the aggregation is convolution, batch norm without parameters and ReLU, as R2D2's are; a short connection adds a layer's input
  to its output, so that the last one holds fields of 1, 3, 5 and 7 pixels.
* The 1x1 convolution of the fusion begins at zero: before training, the residual is nothing and the final features are the initial ones.
* The semantic network is frozen unless `train_semantic`, its batch norms always.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.models import hrnet, r2d2
from ros2_loc.models.hrnet import HRNet
from ros2_loc.models.r2d2 import DIMENSION, R2D2, DenseFeatures, Heads
from ros2_loc.models.weights import load_strictly, tensors_of

# one side of a pixel of the semantic features, px of the image
SEMANTIC_STRIDE = 4


class ContextOutput(NamedTuple):
    """The same heads before and after the refinement; the training supervises both (equation 6)."""

    initial: DenseFeatures
    final: DenseFeatures


class ContextR2D2(nn.Module):
    """The whole network; `trunk` and `heads` give the final features as those of `R2D2` do."""

    @dataclass(frozen=True)
    class Config:
        """The defaults are the paper's; `ContextR2D2.Config.tiny()` has a small semantic branch.

        Attributes:
            local_guided: the score map masks the semantic features (+LG of table 2).
            multi_scale: three convolutions aggregate them (+MA). With neither, the network is R2D2.
            context_channels: of the semantic features at full resolution.
            train_semantic: the semantic network learns as well.
            semantic: HRNetV2.
            r2d2: variant of the local branch.
        """

        local_guided: bool = True
        multi_scale: bool = True
        context_channels: int = DIMENSION
        train_semantic: bool = False
        semantic: HRNet.Config = field(default_factory=HRNet.Config)
        r2d2: R2D2.Config = field(default_factory=R2D2.Config)

        @property
        def has_context(self) -> bool:
            """Whether there is a semantic branch at all."""
            return self.local_guided or self.multi_scale

        @staticmethod
        def tiny() -> ContextR2D2.Config:
            """The fast R2D2 with 32 channels of context from HRNet's tiny setting, trained with all else."""
            return ContextR2D2.Config(context_channels=32, train_semantic=True, semantic=HRNet.Config.tiny(), r2d2=R2D2.Config("fast"))

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.local = R2D2(config.r2d2)
        if config.has_context:
            channels = config.context_channels
            self.semantic = HRNet(config.semantic).requires_grad_(config.train_semantic)
            self.reduction = nn.Conv2d(sum(config.semantic.channels), channels, 1)
            self.aggregation = nn.Sequential(*([ContextLayer(channels) for _ in range(3)] if config.multi_scale else []))
            self.fusion = nn.Conv2d(DIMENSION + channels, DIMENSION, 1)
            nn.init.zeros_(self.fusion.weight)
            nn.init.zeros_(self.fusion.bias)  # type: ignore[arg-type]
            self.final = Heads()

    @property
    def heads(self) -> Heads:
        """Those of the final prediction."""
        return self.final if self.config.has_context else self.local.heads

    def train(self, mode: bool = True) -> ContextR2D2:
        """As any module, but the semantic network's batch norms keep the statistics they were trained with."""
        super().train(mode)
        if self.config.has_context and not self.config.train_semantic:
            self.semantic.eval()
        return self

    def forward(self, images: Tensor) -> ContextOutput:
        """(B, 3, H, W) RGB less ImageNet's mean, by its deviation."""
        local = self.local.trunk(images)
        initial = self.local.heads(local)
        if not self.config.has_context:
            return ContextOutput(initial, initial)
        return ContextOutput(initial, self.heads(self._refined(images, local, initial.reliability * initial.repeatability)))

    def trunk(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as for `forward` -> (B, 128, H, W) refined, neither squared nor normalized."""
        local = self.local.trunk(images)
        if not self.config.has_context:
            return local
        reliability, repeatability = self.local.heads.maps(local)
        return self._refined(images, local, reliability * repeatability)

    def score_map(self, product: Tensor) -> Tensor:
        """Reliability times repeatability -> S of equation 1, in 0.5..0.73."""
        return torch.sigmoid(product)

    def _refined(self, images: Tensor, local: Tensor, product: Tensor) -> Tensor:
        context = self._context(images, local.shape[-2], local.shape[-1])
        if self.config.local_guided:
            context = context * self.score_map(product)
        context = self.aggregation(context)
        return local + self.fusion(torch.cat([local, context], dim=1))

    def _context(self, images: Tensor, height: int, width: int) -> Tensor:
        if self.config.train_semantic:
            semantic = self.semantic.features(images)
        else:
            with torch.no_grad():
                semantic = self.semantic.features(images)
        # a fixed factor: sides that are no multiple of 4 would stretch the features by their rounding
        factor = float(SEMANTIC_STRIDE)
        context = functional.interpolate(self.reduction(semantic), scale_factor=factor, mode="bilinear", align_corners=False)
        return context[..., :height, :width]


class ContextLayer(nn.Module):
    """One 3x3 convolution of the multi-scale aggregation, with its short connection (section 3.4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels, affine=False)

    def forward(self, context: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return context + functional.relu(self.bn(self.conv(context)))


def start_from(network: ContextR2D2, r2d2_weights: str | Path = "", semantic_weights: str | Path = "") -> None:
    """Lay trained weights into the branches, before training or for the ablation.

    Args:
        network: is changed.
        r2d2_weights: of R2D2, of its authors or of this project; its heads become the initial and the final ones. "" for none.
        semantic_weights: of HRNet for Cityscapes or ImageNet; its classes are left out. "" for none.

    Raises:
        ConfigError, DataError: no such weights; weights of another network or other settings.
    """
    if r2d2_weights:
        state = tensors_of(r2d2_weights)
        load_strictly(network.local, state if "layers.0.weight" in state else r2d2.renamed(state), str(r2d2_weights))
        if network.config.has_context:
            network.final.load_state_dict(network.local.heads.state_dict())
    if semantic_weights and network.config.has_context:
        load_strictly(network.semantic, hrnet.renamed(tensors_of(semantic_weights), with_head=False), str(semantic_weights))
