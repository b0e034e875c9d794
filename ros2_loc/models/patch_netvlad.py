"""NetVLAD, and Patch-NetVLAD: the same pooling over squares of the feature map.

Arandjelovic et al., "NetVLAD: CNN Architecture for Weakly Supervised Place Recognition", CVPR 2016: VGG16 up to conv5_3, soft assignment to
clusters, residuals (equation 4). Hausler et al., "Patch-NetVLAD: Multi-Scale Fusion of Locally-Global Descriptors for Place Recognition",
CVPR 2021: patches (section 3.2), by integral VLAD (section 3.5), whitened as the global vector is. One file of weights serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weights import load_strictly, new_name, tensors_of, told_of

STRIDE_PX = 16
# convolutions of each block in multiples of `width`
_BLOCKS = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
_NAMES = (
    (r"encoder\.(?:module\.)?(\d+)\.(weight|bias)$", r"layers.\1.\2"),
    (r"pool\.(?:module\.)?centroids$", "pool.centroids"),
    (r"pool\.(?:module\.)?conv\.(weight|bias)$", r"pool.assignment.\1"),
    (r"WPCA\.0\.(weight|bias)$", r"whitening.\1"),
)


class Described(NamedTuple):
    """What is said of a batch.

    Attributes:
        vectors: (B, D) global descriptors of unit length.
        patches: for each size (B, n, D) of unit length, n squares of the feature map row by row.
    """

    vectors: Tensor
    patches: list[Tensor]


class NetVlad(nn.Module):
    """Trunk, pooling and, where the weights have it, whitening (WPCA); layers have the authors' numbers."""

    @dataclass(frozen=True)
    class Config:
        """Sizes.

        Attributes:
            num_clusters: 16 of Patch-NetVLAD's weights, 64 of NetVLAD's.
            num_pcs: D after whitening, 0 for none: D is then num_clusters * 8 * width.
            with_bias: of the soft assignment; Patch-NetVLAD's "vladv2".
            width: channels of the first layers; the published weights have 64.
        """

        num_clusters: int = 16
        num_pcs: int = 4096
        with_bias: bool = False
        width: int = 64

        def __post_init__(self) -> None:
            if self.num_clusters < 1 or self.width < 1 or not 0 <= self.num_pcs <= self.num_clusters * 8 * self.width:
                raise ConfigError(
                    f"netvlad: of {self.num_clusters} clusters of {8 * self.width} numbers whitening can't leave {self.num_pcs}; "
                    "both counts are positive, and num_pcs is at most their product"
                )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.layers = _vgg16(config.width)
        self.pool = VladPool(config.num_clusters, 8 * config.width, config.with_bias)
        vlad = config.num_clusters * 8 * config.width
        self.whitening = nn.Linear(vlad, config.num_pcs) if config.num_pcs else None

    @property
    def dimension(self) -> int:
        """D of all descriptors."""
        return self.config.num_pcs or self.config.num_clusters * 8 * self.config.width

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `imagenet.normalized` -> conv5_3 before its ReLU (B, 8 * width, H / 16, W / 16), sizes rounded down."""
        return self.layers(images)  # type: ignore[no-any-return]

    def descriptor(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `imagenet.normalized` -> (B, D) of unit length."""
        return self.whitened(self.pool(self.features(images)))

    def forward(self, images: Tensor) -> Tensor:
        """`descriptor`."""
        return self.descriptor(images)

    def whitened(self, vlad: Tensor) -> Tensor:
        """(..., clusters * channels) -> (..., D) of unit length."""
        return vlad if self.whitening is None else functional.normalize(self.whitening(vlad), dim=-1)


class VladPool(nn.Module):
    """Residuals of the features to the clusters that they belong to."""

    def __init__(self, num_clusters: int, channels: int, with_bias: bool) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.rand(num_clusters, channels))
        self.assignment = nn.Conv2d(channels, num_clusters, 1, bias=with_bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K * C) of unit length, each cluster's part normalized first."""
        features, shares = self._shares(features)
        flat, shares = features.flatten(2), shares.flatten(2)
        sums = shares @ flat.transpose(1, 2) - shares.sum(dim=2)[..., None] * self.centroids
        return _flat_unit(sums)

    def residuals(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> what each cell adds to the sum, (B, K, C, h, w)."""
        features, shares = self._shares(features)
        return (features[:, None] - self.centroids[None, :, :, None, None]) * shares[:, :, None]

    def _shares(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features of unit length, and how much each belongs to each cluster (B, K, h, w)."""
        features = functional.normalize(features, dim=1)
        return features, torch.softmax(self.assignment(features), dim=1)


class PatchNetVlad(nn.Module):
    """A `NetVlad` that also describes all squares of some sizes, in cells of the feature map, at steps of one cell."""

    def __init__(self, netvlad: NetVlad, sizes: Sequence[int] = (2, 5, 8)) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ConfigError(f"patch_netvlad: patches have a side of 1 cell or more, got {list(sizes)}")
        self.netvlad = netvlad
        self.sizes = tuple(sizes)

    def forward(self, images: Tensor) -> Described:
        """(B, 3, H, W) as of `imagenet.normalized`."""
        features = self.netvlad.features(images)
        vlads = self.patch_vlads(features)
        return Described(self.netvlad.whitened(self.netvlad.pool(features)), [self.netvlad.whitened(vlad) for vlad in vlads])

    def patches(self, images: Tensor) -> list[Tensor]:
        """The patches alone: for each size (B, n, D)."""
        return [self.netvlad.whitened(vlad) for vlad in self.patch_vlads(self.netvlad.features(images))]

    def patch_vlads(self, features: Tensor) -> list[Tensor]:
        """(B, C, h, w) -> for each size (B, n, K * C) of unit length, before whitening.

        Raises:
            DataError: the map is smaller than a patch.
        """
        rows, columns = features.shape[2:]
        if min(rows, columns) < max(self.sizes):
            raise DataError(f"patch_netvlad: {rows} x {columns} cells have no patch of {max(self.sizes)}: enlarge the image")
        integral = integral_image(self.netvlad.pool.residuals(features))
        return [_flat_unit(box_means(integral, size).flatten(3).permute(0, 3, 1, 2)) for size in self.sizes]


def integral_image(cells: Tensor) -> Tensor:
    """(..., h, w) -> (..., h + 1, w + 1): sums of all that is above and to the left."""
    return functional.pad(cells.cumsum(dim=-1).cumsum(dim=-2), (1, 0, 1, 0))


def box_means(integral: Tensor, size: int) -> Tensor:
    """Means over all squares of `size` cells: (..., h + 1, w + 1) of `integral_image` -> (..., h - size + 1, w - size + 1)."""
    above, below = integral[..., :-size, :], integral[..., size:, :]
    return (above[..., :-size] - above[..., size:] - below[..., :-size] + below[..., size:]) / size**2


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict (encoder, pool, WPCA; also of NetVLAD alone) with the names of `NetVlad`.

    Raises:
        DataError: a name that is not theirs.
    """
    result = {}
    for key, value in state.items():
        name = new_name(_NAMES, key, "is no weight of NetVLAD's or Patch-NetVLAD's authors; give a checkpoint of theirs")
        # a 1x1 convolution there
        result[name] = value.flatten(1) if name == "whitening.weight" else value
    return result


def load_published(path: str | Path) -> NetVlad:
    """A checkpoint of the authors of Patch-NetVLAD, or of NetVLAD in PyTorch, in evaluation mode; it tells its sizes itself.

    Raises:
        ConfigError, DataError: no such file; other weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        network = NetVlad(config_of(state))
        load_strictly(network, state, str(path))
    return network.eval()


def config_of(state: Mapping[str, Tensor]) -> NetVlad.Config:
    """The sizes of renamed weights.

    Raises:
        KeyError: an array is missing that tells them.
    """
    num_pcs = len(state["whitening.weight"]) if "whitening.weight" in state else 0
    return NetVlad.Config(len(state["pool.centroids"]), num_pcs, "pool.assignment.bias" in state, len(state["layers.0.weight"]))


def truncated(network: NetVlad, num_pcs: int, where: str) -> NetVlad:
    """The network with the leading components of its whitening: they are those that whitening to so many would have.

    Args:
        network: in evaluation mode.
        num_pcs: of them.
        where: said in errors.

    Raises:
        ConfigError: it has fewer.
    """
    if num_pcs > network.config.num_pcs:
        raise ConfigError(
            f"{where}: whitens to {network.config.num_pcs} numbers, not {num_pcs}: set num_pcs to at most that, or take other weights "
            "(0: these have no WPCA)"
        )
    if num_pcs == network.config.num_pcs:
        return network
    state = {key: value[:num_pcs] if key.startswith("whitening.") else value for key, value in network.state_dict().items()}
    smaller = NetVlad(replace(network.config, num_pcs=num_pcs))
    load_strictly(smaller, state, where)
    return smaller.eval()


def _vgg16(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for block in _BLOCKS:
        layers += [nn.MaxPool2d(2, stride=2)] if layers else []
        for multiple in block:
            layers += [nn.Conv2d(inputs, multiple * width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = multiple * width
    return nn.Sequential(*layers[:-1])


def _flat_unit(vlad: Tensor) -> Tensor:
    """(..., K, C) -> (..., K * C)."""
    return functional.normalize(functional.normalize(vlad, dim=-1).flatten(-2), dim=-1)
