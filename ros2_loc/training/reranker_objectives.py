"""What re-rankers learn: whether two images show one place."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ros2_loc.models.cvnet import CvNet
from ros2_loc.models.pycls_resnet import normalized
from ros2_loc.models.rrt import Described, Rrt


class RrtObjective(nn.Module):
    """Binary cross-entropy of batches of `FeaturePairBatches` (the re-ranking paper, equation 4.45): `loss`, and `accuracy`."""

    def __init__(self, network: Rrt) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See the class."""
        query, place = (Described(*(batch[f"{side}_{name}"] for name in Described._fields)) for side in ("query", "place"))
        logits = self.network(query, place).float()
        right = ((logits.detach() > 0) == (batch["label"] > 0.5)).float().mean()
        return {"loss": F.binary_cross_entropy_with_logits(logits, batch["label"]), "accuracy": right}


class CvnetObjective(nn.Module):
    """Cross-entropy of the four orders qp, pq, qn, nq of batches of `ImageTripletBatches`: `loss`, and `accuracy`.

    Source: the re-ranking paper, equations 4.54 and 4.55. A frozen trunk stays as it is, its normalization too.

    Attributes:
        leaves_out: the head of the global descriptor does not learn here, for the loop.
    """

    leaves_out = True

    def __init__(self, network: CvNet, train_trunk: bool) -> None:
        super().__init__()
        self.network, self._train_trunk = network, train_trunk
        for part in (network.trunk.s4, network.trunk.pool, network.trunk.fc):
            part.requires_grad_(False)
        if not train_trunk:
            network.trunk.requires_grad_(False)

    def train(self, mode: bool = True) -> CvnetObjective:
        """Training mode, but for what is frozen."""
        super().train(mode)
        trunk = self.network.trunk
        for part in (trunk.s4, trunk.pool, trunk.fc) if self._train_trunk else (trunk,):
            part.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See the class."""
        names = ("query", "same", "other")
        images = normalized(torch.cat([batch[name] for name in names]).float() / 255.0)
        with torch.set_grad_enabled(self._train_trunk and torch.is_grad_enabled()):
            features = self.network.features(images)
        maps = self.network.maps(features)
        query, same, other = (tuple(parts) for parts in zip(*(scale.chunk(3) for scale in maps), strict=True))
        logits = [self.network(*order) for order in ((query, same), (same, query), (query, other), (other, query))]
        labels = torch.tensor([1, 1, 0, 0], device=images.device).repeat_interleave(len(batch["query"]))
        joined = torch.cat(logits).float()
        right = (joined.detach().argmax(dim=1) == labels).float().mean()
        return {"loss": F.cross_entropy(joined, labels), "accuracy": right}
