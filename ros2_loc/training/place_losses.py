"""The loss of places as classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class LargeMarginClassifier(nn.Module):
    """Large margin cosine loss: softmax over scaled cosines, that of the right class lessened by a margin.

    Source: Wang et al. 2018, CosFace, equation 4, as CosPlace uses it (scale 30, margin 0.4 in its authors' code).
    """

    def __init__(self, classes: int, dim: int, scale: float = 30.0, margin: float = 0.4) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dim)))

    def forward(self, descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss, and the share that would be classified right (without the margin).

        Args:
            descriptors: (B, D), of any length; labels: (B,) in [0, classes).
        """
        cosine = F.normalize(descriptors.float()) @ F.normalize(self.weight.float()).T
        right = (cosine.detach().argmax(dim=1) == labels).float().mean()
        logits = self.scale * (cosine - self.margin * F.one_hot(labels, cosine.shape[1]))
        return F.cross_entropy(logits, labels), right
