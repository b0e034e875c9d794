"""DELG: local features chosen by attention and a global descriptor, of one network.

Cao, Araujo, Sim, "Unifying Deep Local and Global Features for Image Search", ECCV 2020. The local branch is that of the published weights,
or the paper's autoencoder (section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import pycls_resnet
from ros2_loc.models.pycls_resnet import PyclsResNet
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

STRIDE_PX = 16
# side of what one cell sees, and how far before the image that of the first begins
RECEPTIVE_PX, PADDING_PX = 291, 145
# the authors start at 260 and halve it until 1000 cells pass or this is reached; with 1000 keypoints at most, that comes to the same
ATTENTION_THRESHOLD = 260.0 / 2**11
# heads that only training needs
_OF_TRAINING = ("desc_cls.", "att_cls.")


class LocalMaps(NamedTuple):
    """What the local branch says of each cell of 16x16 px.

    Attributes:
        descriptors: (B, D, h, w) of unit length.
        attention: (B, 1, h, w), positive, how much a cell helps to tell places apart.
    """

    descriptors: Tensor
    attention: Tensor


class Delg(nn.Module):
    """Trunk with the global head, and the local branch."""

    @dataclass(frozen=True)
    class Config:
        """Sizes and parts.

        Attributes:
            depth: of the trunk, 50 or 101.
            dimension: of the global descriptor.
            local: projected: one projection is both described and attended, as in the published weights; autoencoder: as in the paper, a
                small code that the trunk's features can be rebuilt of, attention beside it.
            local_dimension: D of the local descriptors; 512 of the published weights, 128 in the paper.
        """

        depth: int = 50
        dimension: int = 512
        local: Literal["projected", "autoencoder"] = "projected"
        local_dimension: int = 512

        def __post_init__(self) -> None:
            if self.local not in ("projected", "autoencoder") or self.local_dimension < 1:
                raise ConfigError(f"delg: local is projected or autoencoder of at least 1 number: {self.local!r}, {self.local_dimension}")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.resnet = PyclsResNet(PyclsResNet.Config(config.depth, config.dimension))
        branch = Projected if config.local == "projected" else Autoencoder
        self.local: Projected | Autoencoder = branch(config.local_dimension)

    def forward(self, images: Tensor) -> tuple[Tensor, LocalMaps]:
        """(B, 3, H, W) as of `pycls_resnet.normalized` -> global descriptor (B, C), not normalized, and the local maps."""
        s3 = self.s3(images)
        return self.resnet.descriptor(s3), self.local(s3)

    def local_maps(self, images: Tensor) -> LocalMaps:
        """The local maps alone; images as of `forward`."""
        return self.local(self.s3(images))  # type: ignore[no-any-return]

    def s3(self, images: Tensor) -> Tensor:
        """(B, 1024, h, w), the trunk's features at stride 16; h and w are rounded up."""
        return functional.relu(self.resnet.s3_sums(images))


class Projected(nn.Module):
    """The published weights' branch: a projection is the descriptor, its ReLU is attended."""

    def __init__(self, dimension: int, channels: int = 1024) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Conv2d(channels, dimension, 1), nn.BatchNorm2d(dimension))
        self.attention = nn.Conv2d(dimension, 1, 1)

    def forward(self, s3: Tensor) -> LocalMaps:
        """(B, 1024, h, w)."""
        projected = self.projection(s3)
        attention = functional.softplus(self.attention(functional.relu(projected)))
        return LocalMaps(functional.normalize(projected, dim=1), attention)


class Autoencoder(nn.Module):
    """The paper's branch: a code of few numbers per cell (section 3.2, "Dimensionality reduction") and attention (as DELF's)."""

    def __init__(self, dimension: int, channels: int = 1024) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(channels, dimension, 1)
        self.decoder = nn.Sequential(nn.Conv2d(dimension, channels, 1), nn.ReLU())
        self.attention = nn.Sequential(nn.Conv2d(channels, 512, 1), nn.BatchNorm2d(512), nn.ReLU(), nn.Conv2d(512, 1, 1))

    def forward(self, s3: Tensor) -> LocalMaps:
        """(B, 1024, h, w)."""
        return LocalMaps(functional.normalize(self.encoder(s3), dim=1), functional.softplus(self.attention(s3)))

    def rebuilt(self, s3: Tensor) -> Tensor:
        """The trunk's features out of their code, for the loss of equation 6."""
        return self.decoder(self.encoder(s3))  # type: ignore[no-any-return]


def receptive_boxes(height: int, width: int, scale: float) -> Tensor:
    """What each cell of a level sees: (height * width, 4) first row, first column, last row, last column, px of the full image from 0."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    first = STRIDE_PX * torch.stack([row, column], dim=-1).reshape(-1, 2).to(torch.float32) - PADDING_PX
    return torch.cat([first, first + RECEPTIVE_PX - 1], dim=1) / scale


def best_boxes(boxes: Tensor, scores: Tensor, max_overlap: float, limit: int) -> Tensor:
    """Indices of the best `limit` boxes, best first, less those that overlap with a better one by more (intersection over union)."""
    best = torch.argsort(scores, descending=True, stable=True)[:limit]
    return best[nms(boxes[best], scores[best], max_overlap)]


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `Delg`; heads that only training needs are left out.

    Raises:
        DataError: a name that is not theirs.
    """
    kept = {key: value for key, value in state.items() if not key.startswith(_OF_TRAINING)}
    trunk = {key.removeprefix("globalmodel."): value for key, value in kept.items() if key.startswith("globalmodel.")}
    result = {f"resnet.{key}": value for key, value in pycls_resnet.renamed(trunk).items()}
    for key, value in kept.items():
        if key.startswith("globalmodel."):
            continue
        part, _, rest = key.removeprefix("localmodel.").partition(".")
        if not key.startswith("localmodel.") or part not in _LOCAL_NAMES:
            raise DataError(f"{key}: is no weight of DELG's authors; give a checkpoint of theirs with its model_state")
        result[f"local.{_LOCAL_NAMES[part]}.{rest}"] = value
    return result


def load_published(path: str | Path) -> Delg:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not DELG's weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        trunk = {key.removeprefix("resnet."): value for key, value in state.items() if key.startswith("resnet.")}
        if "local.attention.weight" not in state:
            raise DataError(f"{path}: has no local branch (localmodel): these are no weights of DELG's authors")
        resnet = pycls_resnet.config_of(trunk)
        network = Delg(Delg.Config(resnet.depth, resnet.dimension, local_dimension=state["local.attention.weight"].shape[1]))
        load_strictly(network, state, str(path))
    return network.eval()


_LOCAL_NAMES = {"conv1": "projection.0", "bn": "projection.1", "conv2": "attention"}
