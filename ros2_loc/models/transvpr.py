"""TransVPR: patch tokens of several scales through a transformer, whose attention tells which of them say where one is.

Wang, Shen, Zuo, Zhou, Zheng, "TransVPR: Transformer-Based Place Recognition with Multi-Level Attention Aggregation", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weights import load_strictly, new_name, tensors_of, told_of

STRIDE_PX = 16
# layers, from 0, whose tokens are pooled: low, middle, high (section 3.2), and the one that describes patches (section 3.3)
LEVELS = (1, 3, 5)
PATCH_LEVEL = 3
# sides of the patches of the four feature maps, in cells: the same 16 px in each
_PATCHES = (8, 4, 2, 1)
_NAMES = (
    (r"conv(\d)\.0\.(weight|bias)$", r"convolutions.\1.0.\2"),
    (r"conv(\d)\.1\.(weight|bias|running_mean|running_var|num_batches_tracked)$", r"convolutions.\1.1.\2"),
    (r"tokenizer(\d)\.conv_layer\.(weight|bias)$", r"tokenizers.\1.\2"),
    (r"transformer\.class_emb$", "class_token"),
    (r"transformer\.norm\.(weight|bias)$", r"norm.\1"),
    (r"transformer\.blocks\.(\d+)\.(pre_norm|linear1|norm1|linear2)\.(weight|bias)$", r"layers.\1.\2.\3"),
    (r"transformer\.blocks\.(\d+)\.self_attn\.(qkv\.weight|proj\.weight|proj\.bias)$", r"layers.\1.attention.\2"),
    (r"pool\.fc\.1\.(weight|bias)$", r"reduction.\1"),
    (r"pool\.attention_pool\.(weight|bias)$", r"attention.\1"),
)


class Described(NamedTuple):
    """What is said of a batch of images of h * w patches of 16x16 px, row by row.

    Attributes:
        vectors: (B, D) global descriptors of unit length.
        patches: (B, h * w, D) descriptors of the patches, of any length: they are compared by their products.
        attention: (B, h * w) how much a patch says of the place, 0 to 1 in each image (equation 4).
    """

    vectors: Tensor
    patches: Tensor
    attention: Tensor


class TransVpr(nn.Module):
    """The whole network."""

    @dataclass(frozen=True)
    class Config:
        """Sizes; those of the published weights are the defaults.

        Attributes:
            width: channels of the first layer, and numbers of a token that each of the four maps gives; D is four times that.
            num_layers: of the transformer, at least 6.
            num_heads: of its attention.
        """

        width: int = 64
        num_layers: int = 6
        num_heads: int = 4

        def __post_init__(self) -> None:
            if self.num_layers <= max(LEVELS) or min(self.width, self.num_heads) < 1 or 4 * self.width % self.num_heads:
                raise ConfigError(
                    f"transvpr: has more than {max(LEVELS)} layers and heads that divide 4 * width: {self.num_layers} layers, "
                    f"{self.num_heads} heads, width {self.width}"
                )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels = [3, *(config.width * 2**i for i in range(4))]
        # numbered from 1, as the authors do
        self.convolutions = nn.ModuleDict({str(i): _convolution(channels[i - 1], channels[i]) for i in range(1, 5)})
        self.tokenizers = nn.ModuleDict(
            {str(i): nn.Conv2d(channels[i], config.width, side, stride=side) for i, side in enumerate(_PATCHES, start=1)}
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.dimension))
        self.layers = nn.ModuleList(_Layer(self.dimension, config.num_heads) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(self.dimension)
        self.attention = nn.Linear(len(LEVELS) * self.dimension, len(LEVELS))
        self.reduction = nn.Linear(len(LEVELS) * self.dimension, self.dimension)

    @property
    def dimension(self) -> int:
        """D of all descriptors."""
        return 4 * self.config.width

    def forward(self, images: Tensor) -> Described:
        """(B, 3, H, W) as of `imagenet.normalized`, sides multiples of 16 px."""
        tokens = self.tokens(images)
        masks = self.masks(tokens)
        return Described(self.pooled(tokens, masks), tokens[:, PATCH_LEVEL, 1:], merged(masks))

    def descriptor(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `forward` -> (B, D) of unit length."""
        tokens = self.tokens(images)
        return self.pooled(tokens, self.masks(tokens))

    def tokens(self, images: Tensor) -> Tensor:
        """Normalized outputs of all layers, (B, layers, 1 + N, D); the first token is of no patch.

        Raises:
            DataError: sides that are no multiples of 16 px.
        """
        if images.shape[2] % STRIDE_PX or images.shape[3] % STRIDE_PX:
            raise DataError(f"transvpr: sides are multiples of {STRIDE_PX} px, got {images.shape[3]}x{images.shape[2]}: resize the image")
        parts, maps = [], images
        for number, convolution in self.convolutions.items():
            maps = convolution(maps)
            parts.append(self.tokenizers[number](maps).flatten(2))
        x = torch.cat(parts, dim=1).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(self.norm(x))
        return torch.stack(outputs, dim=1)

    def masks(self, tokens: Tensor) -> Tensor:
        """Outputs of all layers -> (B, levels, N), which sum to 1 in each level (equation 3)."""
        return torch.softmax(self.attention(_joined(tokens)), dim=1).transpose(1, 2)

    def pooled(self, tokens: Tensor, masks: Tensor) -> Tensor:
        """Outputs of all layers and `masks` -> (B, D) of unit length (equations 5 and 6)."""
        levels = tokens[:, list(LEVELS), 1:]
        sums = (masks[..., None] * levels).sum(dim=2).flatten(1)
        return functional.normalize(self.reduction(functional.normalize(sums, dim=1)), dim=1)


class _Layer(nn.Module):
    """Attention and two linear layers; their norm lies on the sum, not on the branch."""

    def __init__(self, dimension: int, num_heads: int) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(dimension)
        self.attention = _Attention(dimension, num_heads)
        self.norm1 = nn.LayerNorm(dimension)
        self.linear1 = nn.Linear(dimension, 2 * dimension)
        self.linear2 = nn.Linear(2 * dimension, dimension)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = self.norm1(x + self.attention(self.pre_norm(x)))
        return x + self.linear2(functional.gelu(self.linear1(x)))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, dimension: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dimension, 3 * dimension, bias=False)
        self.proj = nn.Linear(dimension, dimension)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def merged(masks: Tensor) -> Tensor:
    """One map of the three (B, levels, N) -> (B, N) in 0 to 1 (equation 4); 0 everywhere where all patches say alike."""
    return _stretched(_stretched(masks).sum(dim=1))


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `TransVpr`.

    Raises:
        DataError: a name that is not theirs.
    """
    result = {}
    for key, value in state.items():
        name = new_name(_NAMES, key, "is no weight of TransVPR's authors; give a checkpoint of theirs with its pool")
        result[name] = value
    return result


def load_published(path: str | Path) -> TransVpr:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; other weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        layers = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("layers.")), default=-1)
        network = TransVpr(TransVpr.Config(len(state["convolutions.1.0.weight"]), layers))
        load_strictly(network, state, str(path))
    return network.eval()


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    layers = (nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.MaxPool2d(3, stride=2, padding=1))


def _joined(tokens: Tensor) -> Tensor:
    """(B, layers, 1 + N, D) -> the patches' tokens of the levels side by side, (B, N, levels * D)."""
    return tokens[:, list(LEVELS), 1:].transpose(1, 2).flatten(2)


def _stretched(values: Tensor) -> Tensor:
    """The last axis from 0 to 1."""
    low, high = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    return (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)
