"""CVNet: a global descriptor, and a network that looks at all correlations of two images to say whether they show one place.

Lee, Seong, Lee, Kim, "Correlation Verification for Image Retrieval", CVPR 2022. Center-pivot 4-D convolutions: Min, Kang, Cho,
"Hypercorrelation Squeeze for Few-Shot Segmentation", ICCV 2021, section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import pycls_resnet
from ros2_loc.models.pycls_resnet import PyclsResNet
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

# of the feature pyramid, as shares of the area
AREAS = (0.25, 0.5, 1.0)
# share of the re-ranking probability in the score, beside the cosine of the global descriptors
RERANK_WEIGHT = 0.5
STRIDE_PX = 16
_S3_CHANNELS = 1024
_GROUPS = 4
# inputs and outputs in widths, and the stride
_LAYER_SIZES = ((1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 2, 1), (2, 4, 2), (4, 4, 1), (4, 4, 1), (4, 8, 1))

# (B, C, h, w) of each scale, each cell of unit length
Maps = tuple[Tensor, ...]


class CvNet(nn.Module):
    """Trunk with the global head, a convolution for each scale of the pyramid, and the correlation network."""

    @dataclass(frozen=True)
    class Config:
        """Sizes; the defaults are those of the published weights.

        Attributes:
            depth: of the trunk, 50 or 101.
            dimension: of the global descriptor.
            channels: of the maps that are correlated: what is kept of an image grows with it.
            width: channels of the correlation network's first layer, a multiple of 4; the last has eight times as many.
        """

        depth: int = 50
        dimension: int = 2048
        channels: int = 256
        width: int = 16

        def __post_init__(self) -> None:
            if min(self.dimension, self.channels, self.width) < 1 or self.width % _GROUPS:
                raise ConfigError(
                    f"cvnet: dimension and channels are positive and width a multiple of {_GROUPS}, got {self.dimension}, "
                    f"{self.channels}, {self.width}"
                )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.trunk = PyclsResNet(PyclsResNet.Config(config.depth, config.dimension))
        convolutions = (nn.Conv2d(_S3_CHANNELS, config.channels, 3, padding=1, bias=False) for _ in AREAS)
        self.compress = nn.ModuleList(convolutions)
        self.verifier = CorrelationVerifier(config.width)

    def forward(self, query: Maps, places: Maps) -> Tensor:
        """Maps of one query, or of one for each place, and of B places of one size -> logits (B, 2), the second of "the same place"."""
        return self.verifier(resized(query), resized(places))  # type: ignore[no-any-return]

    def descriptor(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `pycls_resnet.normalized` -> global descriptors (B, dimension) of unit length, of this one scale."""
        return functional.normalize(self.trunk(images), dim=1)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `pycls_resnet.normalized` -> what `maps` takes: s3 before its last ReLU (B, 1024, H / 16, W / 16)."""
        return self.trunk.s3_sums(images)

    def maps(self, features: Tensor) -> Maps:
        """The feature pyramid (section 3.2 there): (B, 1024, h, w) as of `features` -> (B, channels, h', w') for each of AREAS."""
        return tuple(self._map(index, features) for index in range(len(AREAS)))

    def describe(self, images: Tensor) -> tuple[Tensor, Maps]:
        """`descriptor` and `maps` in one pass."""
        features = self.features(images)
        return functional.normalize(self.trunk.descriptor(functional.relu(features)), dim=1), self.maps(features)

    def rerank_logits(self, query_features: Tensor, place_features: Tensor) -> Tensor:
        """`forward` of features as of `features`: (B, 1024, h, w), or one for all places, and (B, 1024, h', w') -> (B, 2)."""
        return self(self.maps(query_features), self.maps(place_features))  # type: ignore[no-any-return]

    def _map(self, index: int, features: Tensor) -> Tensor:
        size = [max(1, round(side * math.sqrt(AREAS[index]))) for side in features.shape[2:]]
        smaller = functional.interpolate(features, size, mode="bilinear", align_corners=True)
        return functional.normalize(self.compress[index](smaller), dim=1)


class CorrelationVerifier(nn.Module):
    """4-D convolutions over nine correlations, one for each pair of scales, their mean, and a perceptron (section 3.3 there)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # takes correlations as of `correlations`: over the query's plane those of the place with it, over the place's those of the query
        self.first = CenterPivot(len(AREAS) ** 2, width, kernel=5, stride=2)
        sizes = [(width * inputs, width * outputs, stride) for inputs, outputs, stride in _LAYER_SIZES]
        self.layers = nn.Sequential(*(CenterPivot(inputs, outputs, 3, stride) for inputs, outputs, stride in sizes))
        self.mlp = nn.Sequential(nn.Linear(8 * width, 8 * width), nn.ReLU(), nn.Linear(8 * width, 2))

    def forward(self, query: Tensor, places: Tensor) -> Tensor:
        """(B or 1, 3, C, h, w) and (B, 3, C, h', w') as of `resized` -> logits (B, 2)."""
        return self.mlp(self.layers(self.block1(query, places)).mean(dim=(1, 2, 3, 4)))  # type: ignore[no-any-return]

    def block1(self, query: Tensor, places: Tensor) -> Tensor:
        """The first layer of the correlations, of which half are never needed and never made: (B, h / 2, w / 2, h' / 2, w' / 2, width)."""
        step = self.first.stride
        return self.first.joined(
            correlations(places[..., ::step, ::step], query), correlations(query[..., ::step, ::step], places)
        )


class CenterPivot(nn.Module):
    """A 4-D convolution of two 2-D ones, over the query's plane and over the place's, then normalization and ReLU.

    Where it strides, each looks at every `stride`-th cell of the other plane only.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.over_query, self.over_place = (nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2) for _ in range(2))
        self.norm = nn.GroupNorm(_GROUPS, outputs)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, h', w', inputs) -> (B, h / stride, w / stride, h' / stride, w' / stride, outputs), sizes rounded up."""
        step = self.stride
        return self.joined(_swapped(x[:, :, :, ::step, ::step]), x[:, ::step, ::step])

    def joined(self, of_places: Tensor, of_query: Tensor) -> Tensor:
        """`forward` of what the stride leaves to each: (B, h' / stride, w' / stride, h, w, C), (B, h / stride, w / stride, h', w', C)."""
        x = _convolved(self.over_place, of_query) + _swapped(_convolved(self.over_query, of_places))
        normalized = self.norm(x.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2))
        return functional.relu(normalized, inplace=True).permute(0, 2, 3, 1).reshape(x.shape)


def resized(maps: Maps) -> Tensor:
    """All scales at the size of the last, in one array (B, 3, C, h, w).

    Correlations are linear in both images, so those of resized maps are the resized correlations of the paper.
    """
    size = maps[-1].shape[2:]
    smaller = [functional.interpolate(one, size, mode="bilinear", align_corners=True) for one in maps[:-1]]
    return torch.stack([*smaller, maps[-1]], dim=1)


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of all cells of one image with all of the other, between all scales, those below zero as zero (equation 4 there).

    Args:
        first, second: (B, 3, C, h, w) and (B, 3, C, h', w') as of `resized`; where one has B = 1, it is for all of the other.

    Returns:
        (B, h, w, h', w', 9), the first's scale is the slower of the nine. In memory, the nine lie together.
    """
    rows = first.permute(0, 3, 4, 1, 2).flatten(1, 3)
    columns = second.transpose(1, 2).flatten(2)
    count = max(len(rows), len(columns))
    # one product where one image is for all
    cosines = rows.flatten(0, 1) @ columns[0] if len(columns) == 1 else rows @ columns
    cells = functional.relu(cosines, inplace=True).reshape(-1, len(AREAS) ** 2, *second.shape[3:])
    cells = cells.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return cells.unflatten(0, (count, *first.shape[3:]))


def random(config: CvNet.Config, seed: int) -> CvNet:
    """A network with random weights, the same for the same seed; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CvNet(config)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `CvNet`; of the nine correlations that the first layer convolves over the query's plane,
    the place's scale is the slower one here.

    Raises:
        DataError: a name that is not theirs.
    """
    trunk = {key.removeprefix(_TRUNK): value for key, value in state.items() if key.startswith(_TRUNK)}
    result = {f"trunk.{key}": value for key, value in pycls_resnet.renamed(trunk).items()}
    for key, value in state.items():
        if key.startswith(_TRUNK):
            continue
        stem, _, last = key.rpartition(".")
        if stem not in _NAMES:
            raise DataError(f"{key}: is no weight of CVNet's authors; give a checkpoint of theirs with its model_state")
        name = f"{_NAMES[stem]}.{last}"
        result[name] = _places_first(value) if name == "verifier.first.over_query.weight" else value
    return result


def load_published(path: str | Path) -> CvNet:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not CVNet's weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        trunk = {key.removeprefix("trunk."): value for key, value in state.items() if key.startswith("trunk.")}
        resnet = pycls_resnet.config_of(trunk)
        channels, width = (state[f"{name}.weight"].shape[0] for name in ("compress.0", "verifier.first.over_query"))
        network = CvNet(CvNet.Config(resnet.depth, resnet.dimension, channels, width))
        load_strictly(network, state, str(path))
    return network.eval()


_TRUNK = "encoder_q."
# where each 4-D convolution stands in the authors' blocks; its normalization follows it
_LAYERS = {
    "block1.0": "first",
    "block2.0": "layers.0",
    "block2.3": "layers.1",
    "block3.0": "layers.2",
    "block3.3": "layers.3",
    "block3.6": "layers.4",
    "block4.0": "layers.5",
    "block4.3": "layers.6",
    "block4.6": "layers.7",
}


def _names() -> dict[str, str]:
    names = {f"conv2ds.{i}": f"compress.{i}" for i in range(len(AREAS))} | {f"cv_learner.mlp.{i}": f"verifier.mlp.{i}" for i in (0, 2)}
    for at, own in _LAYERS.items():
        block, _, index = at.partition(".")
        names |= {f"cv_learner.{at}.conv1": f"verifier.{own}.over_query", f"cv_learner.{at}.conv2": f"verifier.{own}.over_place"}
        names[f"cv_learner.{block}.{int(index) + 1}"] = f"verifier.{own}.norm"
    return names


_NAMES = _names()


def _places_first(weight: Tensor) -> Tensor:
    """(O, 9, k, k), the query's scale slower -> the place's slower."""
    return weight.unflatten(1, (len(AREAS), -1)).transpose(1, 2).flatten(1, 2).contiguous()


def _swapped(x: Tensor) -> Tensor:
    """(B, h, w, h', w', C) -> (B, h', w', h, w, C)."""
    return x.permute(0, 3, 4, 1, 2, 5)


def _convolved(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """(B, h, w, h', w', C) -> the same with its last plane convolved; channels lie last in memory, which is twice as fast here."""
    y = convolution(x.flatten(0, 2).permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:3])  # type: ignore[no-any-return]
