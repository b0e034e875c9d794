"""Reranking Transformers: a small transformer reads the descriptors of two images and says whether they show one place.

Tan, Yuan, Ordonez, "Instance-level Image Retrieval using Reranking Transformers", ICCV 2021, section 3. As in the authors' network,
tokens have no positions, and the perceptrons of the layers are added to what they take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError
from ros2_loc.models.weights import load_strictly, new_name, tensors_of, told_of

# sizes of features from which each scale's embedding holds: those of an image pyramid from twice to a quarter
SCALES = (0.5, 0.7071, 1.0, 1.414, 2.0, 2.828, 4.0)
# rows of the segment embedding: of local descriptors, markers, global descriptors; of the query and of the place each
_LOCAL, _MARKER, _GLOBAL = (0, 1), (2, 3), (4, 5)


class Described(NamedTuple):
    """Descriptors of one image for each pair, as their extractor and encoder gave them.

    Attributes:
        vector: (B, global_dimension) of the whole image; (B, 0) for a network without.
        descriptors: (B, L, local_dimension).
        scales: (B, L) int64 as of `scale_indices`.
        valid: (B, L) bool, False for the filling, which may hold any finite numbers.
    """

    vector: Tensor
    descriptors: Tensor
    scales: Tensor
    valid: Tensor


class Rrt(nn.Module):
    """The whole network."""

    @dataclass(frozen=True)
    class Config:
        """Sizes; the defaults are those of the published weights.

        Attributes:
            global_dimension: of the global descriptors; 0 for a network of local ones alone.
            local_dimension: of the local descriptors; where it is not `dimension`, a linear layer makes it so.
            dimension: of the tokens.
            num_heads: of each attention.
            num_layers: at least one.
            hidden: of the layers' perceptrons.
            scale_px: `LocalFeatures.scales` of a feature of size 1; 16 is a cell of DELG.
            normalize: descriptors are brought to unit length first.
        """

        global_dimension: int = 2048
        local_dimension: int = 128
        dimension: int = 128
        num_heads: int = 4
        num_layers: int = 6
        hidden: int = 1024
        scale_px: float = 16.0
        normalize: bool = True

        def __post_init__(self) -> None:
            sizes = (self.local_dimension, self.dimension, self.num_heads, self.num_layers, self.hidden)
            if min(sizes) < 1 or self.global_dimension < 0 or self.scale_px <= 0:
                raise ConfigError(f"rrt: sizes are positive (global_dimension may be 0), got {self}")
            if self.dimension % self.num_heads:
                raise ConfigError(f"rrt: dimension is a multiple of num_heads, got {self.dimension} and {self.num_heads}")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, own = config.dimension, config.local_dimension == config.dimension
        self.global_projection: nn.Module = nn.Linear(config.global_dimension, width) if config.global_dimension else nn.Identity()
        self.local_projection: nn.Module = nn.Identity() if own else nn.Linear(config.local_dimension, width)
        self.scale_embedding = nn.Embedding(len(SCALES), width)
        self.segment_embedding = nn.Embedding(6, width)
        for embedding in (self.scale_embedding, self.segment_embedding):
            # as long as the descriptors, which they would drown otherwise
            nn.init.normal_(embedding.weight, std=width**-0.5)
        self.layers = nn.ModuleList(Layer(width, config.num_heads, config.hidden) for _ in range(config.num_layers))
        self.classifier = nn.Linear(width, 1)

    def forward(self, query: Described, places: Described) -> Tensor:
        """One query for each of B places, or one (B = 1) for all -> logits (B,) of showing one place."""
        return self.logits(self.reduced(query), self.reduced(places))

    def reduced(self, described: Described) -> Described:
        """What an image's tokens are made of, its vector (B, dimension or 0) and descriptors (B, L, dimension): all that need be kept."""
        vector, descriptors = self.global_projection(described.vector), self.local_projection(described.descriptors)
        if self.config.normalize:
            vector, descriptors = functional.normalize(vector, dim=-1), functional.normalize(descriptors, dim=-1)
        return Described(vector, descriptors, described.scales, described.valid)

    def logits(self, query: Described, places: Described) -> Tensor:
        """`forward` of images as of `reduced`."""
        return self.classifier(self.judged(*self.sequence(query, places)))[:, 0]  # type: ignore[no-any-return]

    def sequence(self, query: Described, places: Described) -> tuple[Tensor, Tensor | None]:
        """The tokens of both (B, N, dimension), and which count (B, N) bool, None for all of them."""
        count = max(len(query.valid), len(places.valid))
        pairs = zip(self._tokens(query, 0), self._tokens(places, 1), strict=True)
        tokens, valid = (torch.cat([part.expand(count, *part.shape[1:]) for part in parts], dim=1) for parts in pairs)
        return tokens, None if valid.all() else valid

    def judged(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """The first token after all layers (B, dimension); the last layer need not look at any other."""
        for layer in self.layers[:-1]:
            tokens = layer(tokens, tokens, valid)
        return self.layers[-1](tokens[:, :1], tokens, valid)[:, 0]  # type: ignore[no-any-return]

    def _tokens(self, image: Described, side: int) -> tuple[Tensor, Tensor]:
        """A marker, the global descriptor and the local ones (B, N, dimension), and which count (B, N)."""
        segment = self.segment_embedding.weight
        whole = [segment[_MARKER[side]].expand(len(image.valid), 1, -1)]
        if self.config.global_dimension:
            whole.append((image.vector + segment[_GLOBAL[side]])[:, None])
        local = image.descriptors + self.scale_embedding(image.scales) + segment[_LOCAL[side]]
        always = image.valid.new_ones(len(image.valid), len(whole))
        return torch.cat([*whole, local], dim=1), torch.cat([always, image.valid], dim=1)


class Layer(nn.Module):
    """Attention and a perceptron, each added and then normalized."""

    def __init__(self, dimension: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.merge = nn.Linear(dimension, dimension), nn.Linear(dimension, dimension)
        self.key_value = nn.Linear(dimension, 2 * dimension)
        self.expand, self.contract = nn.Linear(dimension, hidden), nn.Linear(hidden, dimension)
        self.norm1, self.norm2 = nn.LayerNorm(dimension), nn.LayerNorm(dimension)

    def forward(self, x: Tensor, source: Tensor, valid: Tensor | None) -> Tensor:
        """x (B, M, D) listens to those of source (B, N, D) that `valid` (B, N) tells -> (B, M, D)."""
        query, (key, value) = self._split(self.query(x)), (self._split(part) for part in self.key_value(source).chunk(2, dim=-1))
        mask = None if valid is None else valid[:, None, None]
        message = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.merge(message.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.contract(functional.relu(self.expand(x), inplace=True)))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def scale_indices(scales: NDArray, scale_px: float) -> NDArray[np.int64]:
    """(N,) sizes of features, px -> (N,) rows of the scale embedding; smaller than all is the first, larger than all the last."""
    sizes = np.asarray(scales, dtype=np.float64) / scale_px
    # float32 sizes lie on the borders themselves
    return np.searchsorted(SCALES, sizes * (1.0 + 1e-6), side="right").clip(1, len(SCALES)) - 1


def random(config: Rrt.Config, seed: int) -> Rrt:
    """A network with random weights, the same for the same seed; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Rrt(config)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `Rrt`.

    Raises:
        DataError: a name that is not theirs.
    """
    result = {}
    for key, value in state.items():
        if found := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.in_proj_(weight|bias)", key):
            own = len(value) // 3
            result[f"layers.{found[1]}.query.{found[2]}"] = value[:own].contiguous()
            result[f"layers.{found[1]}.key_value.{found[2]}"] = value[own:].contiguous()
            continue
        name = new_name(_NAMES, key, "is no weight of RRT's authors; give a checkpoint of theirs with its state")
        result[name] = value
    return result


def load_published(path: str | Path) -> Rrt:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not RRT's weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        width, outside = state["global_projection.weight"].shape
        layers = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("layers.")), default=0)
        hidden = state["layers.0.expand.weight"].shape[0]
        network = Rrt(Rrt.Config(outside, width, width, num_layers=layers, hidden=hidden))
        load_strictly(network, state, str(path))
    return network.eval()


_NAMES = (
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"layers.\1.merge."),
    (r"encoder\.layers\.(\d+)\.linear1\.", r"layers.\1.expand."),
    (r"encoder\.layers\.(\d+)\.linear2\.", r"layers.\1.contract."),
    (r"encoder\.layers\.(\d+)\.(norm[12])\.", r"layers.\1.\2."),
    (r"remap\.", "global_projection."),
    (r"scale_encoder\.", "scale_embedding."),
    (r"seg_encoder\.", "segment_embedding."),
    (r"classifier\.", "classifier."),
)
