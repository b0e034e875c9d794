"""SuperGlue: matches two sets of keypoints by attention within and between them, and optimal transport.

Sarlin, DeTone, Malisiewicz, Rabinovich, "SuperGlue: Learning Feature Matching with Graph Neural Networks", CVPR 2020, section 3.
Several pairs pass in one batch: shorter sets are filled up, and the filling takes part in nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.models.weights import load_strictly, new_name, tensors_of, told_of

_ENCODER_CHANNELS = (3, 32, 64, 128, 256)


class Points(NamedTuple):
    """Keypoints of one image for each pair.

    Attributes:
        positions: (B, N, 2) as of `normalized`.
        scores: (B, N) of the detector, in 0..1.
        descriptors: (B, N, D) of unit length.
        valid: (B, N) bool, False for the filling, which may hold any finite numbers.
    """

    positions: Tensor
    scores: Tensor
    descriptors: Tensor
    valid: Tensor


class Assignment(NamedTuple):
    """Mutual matches: for each keypoint the index of its partner, or -1, and the probability; that is told below the threshold too.

    Attributes:
        partners: (B, N) int64.
        scores: (B, N); 0 where no two choose each other.
        reference_partners: (B, M) int64.
        reference_scores: (B, M).
    """

    partners: Tensor
    scores: Tensor
    reference_partners: Tensor
    reference_scores: Tensor


class SuperGlue(nn.Module):
    """The whole network."""

    @dataclass(frozen=True)
    class Config:
        """Sizes; the defaults are those of the published weights.

        Attributes:
            dimension: of the descriptors.
            num_heads: of each attention.
            num_layers: alternately within each image and between the two.
        """

        dimension: int = 256
        num_heads: int = 4
        num_layers: int = 18

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.keypoint_encoder = _perceptron((*_ENCODER_CHANNELS, config.dimension))
        self.layers = nn.ModuleList(AttentionLayer(config.dimension, config.num_heads) for _ in range(config.num_layers))
        self.final_projection = nn.Linear(config.dimension, config.dimension)
        self.bin_score = nn.Parameter(torch.tensor(1.0))

    def forward(self, query: Points, reference: Points, sinkhorn_iterations: int = 100) -> Tensor:
        """Logarithm of the assignment (B, N + 1, M + 1), whose last row and column are the dustbins; -inf for the filling."""
        scores = self.scores(*self.context(query, reference))
        return log_optimal_transport(scores, query.valid, reference.valid, self.bin_score, sinkhorn_iterations)

    def encoded(self, points: Points) -> Tensor:
        """Position and score as a vector of the descriptors' size (equation 2): (B, N, D)."""
        return _pointwise(self.keypoint_encoder, torch.cat([points.positions, points.scores[..., None]], dim=-1))

    def context(self, query: Points, reference: Points) -> tuple[Tensor, Tensor]:
        """Descriptors (B, N, D) and (B, M, D) that know of all keypoints of both images (equations 3 to 6)."""
        first, second = query.descriptors + self.encoded(query), reference.descriptors + self.encoded(reference)
        for index, layer in enumerate(self.layers):
            if index % 2 == 0:
                first, second = layer(first, first, query.valid), layer(second, second, reference.valid)
            else:
                first, second = layer(first, second, reference.valid), layer(second, first, query.valid)
        return first, second

    def scores(self, query: Tensor, reference: Tensor) -> Tensor:
        """Similarity (B, N, M) of projected descriptors (equation 7)."""
        first, second = self.final_projection(query), self.final_projection(reference)
        return first @ second.transpose(1, 2) / math.sqrt(self.config.dimension)


class AttentionLayer(nn.Module):
    """Messages to each keypoint from those of its own or of the other image, added by a small network (equation 3)."""

    def __init__(self, dimension: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.merge = (nn.Linear(dimension, dimension) for _ in range(4))
        self.mlp = _perceptron((2 * dimension, 2 * dimension, dimension))

    def forward(self, x: Tensor, source: Tensor, valid: Tensor) -> Tensor:
        """x (B, N, D), source (B, M, D), of which only `valid` (B, M) is listened to -> (B, N, D)."""
        query, key, value = (self._split(part) for part in (self.query(x), self.key(source), self.value(source)))
        message = functional.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None])
        message = self.merge(message.transpose(1, 2).flatten(2))
        return x + _pointwise(self.mlp, torch.cat([x, message], dim=-1))

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def normalized(keypoints: Tensor, width: int, height: int) -> Tensor:
    """(..., 2) px -> about -0.7..0.7 around the image's centre; the authors count pixels from 0 here, not from 0.5."""
    size = torch.tensor([width, height], dtype=keypoints.dtype, device=keypoints.device)
    return (keypoints - 0.5 - size / 2.0) / (0.7 * max(width, height))


def log_optimal_transport(scores: Tensor, query: Tensor, reference: Tensor, bin_score: Tensor, iterations: int) -> Tensor:
    """Sinkhorn's algorithm with dustbins, in logarithms (section 3.2).

    Args:
        scores: (B, N, M).
        query, reference: (B, N) and (B, M) bool, False for the filling. Each pair needs at least one of both.
        bin_score: (), of both dustbins.
        iterations: at least 1.

    Returns:
        (B, N + 1, M + 1): logarithm of the assignment, in which each valid row and column but the dustbins has the sum 1.
    """
    batch, rows, columns = scores.shape
    couplings = bin_score.expand(batch, rows + 1, columns + 1).clone()
    couplings[:, :-1, :-1] = scores
    total = (query.sum(1) + reference.sum(1)).to(scores.dtype).log()[:, None]
    log_mu, log_nu = _log_marginal(query, reference) - total, _log_marginal(reference, query) - total
    # a filled column starts, and stays, without any mass
    v = torch.zeros_like(log_nu).masked_fill(log_nu.isneginf(), -torch.inf)
    for _ in range(iterations):
        u = log_mu - torch.logsumexp(couplings + v[:, None], dim=2)
        v = log_nu - torch.logsumexp(couplings + u[:, :, None], dim=1)
    return couplings + u[:, :, None] + v[:, None] + total[:, None]


def assigned(log_assignment: Tensor, match_threshold: float) -> Assignment:
    """Keypoints that choose each other with a probability above the threshold; (B, N + 1, M + 1) as of `SuperGlue`."""
    inner = log_assignment[:, :-1, :-1]
    best, forward = inner.max(dim=2)
    backward = inner.argmax(dim=1)
    mutual = backward.gather(1, forward) == torch.arange(inner.shape[1], device=inner.device)
    reference_mutual = forward.gather(1, backward) == torch.arange(inner.shape[2], device=inner.device)
    scores = best.exp().masked_fill(~mutual, 0.0)
    reference_scores = scores.gather(1, backward).masked_fill(~reference_mutual, 0.0)
    partners = forward.masked_fill(scores <= match_threshold, -1)
    reference_partners = backward.masked_fill(reference_scores <= match_threshold, -1)
    return Assignment(partners, scores, reference_partners, reference_scores)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names and the order of `SuperGlue`.

    Their 1x1 convolutions are linear layers here, and their channels d * heads + head are head * dimension + d, so that a head's channels
    lie together.

    Raises:
        DataError: a name that is not theirs.
    """
    result = {}
    for key, value in state.items():
        name = new_name(_NAMES, key, "is no weight of SuperGlue's authors; give their superglue_indoor.pth or superglue_outdoor.pth")
        value = value.squeeze(-1) if value.ndim == 3 else value
        if re.search(r"\.(query|key|value)\.", name):
            value = value.unflatten(0, (-1, SuperGlue.Config.num_heads)).transpose(0, 1).flatten(0, 1)
        if name.endswith(".merge.weight"):
            value = value.unflatten(1, (-1, SuperGlue.Config.num_heads)).transpose(1, 2).flatten(1, 2)
        result[name] = value.contiguous()
    return result


def load_published(path: str | Path) -> SuperGlue:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not SuperGlue's weights.
    """
    with told_of(path):
        network = SuperGlue(SuperGlue.Config())
        load_strictly(network, renamed(tensors_of(path)), str(path))
    return network.eval()


_NAMES = (
    (r"bin_score$", "bin_score"),
    (r"kenc\.encoder\.", "keypoint_encoder."),
    (r"gnn\.layers\.(\d+)\.attn\.proj\.0\.", r"layers.\1.query."),
    (r"gnn\.layers\.(\d+)\.attn\.proj\.1\.", r"layers.\1.key."),
    (r"gnn\.layers\.(\d+)\.attn\.proj\.2\.", r"layers.\1.value."),
    (r"gnn\.layers\.(\d+)\.attn\.merge\.", r"layers.\1.merge."),
    (r"gnn\.layers\.(\d+)\.mlp\.", r"layers.\1.mlp."),
    (r"final_proj\.", "final_projection."),
)


def _perceptron(channels: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with normalization and ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(channels, channels[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def _pointwise(network: nn.Sequential, x: Tensor) -> Tensor:
    """(B, N, C) -> (B, N, D), each point alone."""
    return network(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # type: ignore[no-any-return]


def _log_marginal(own: Tensor, other: Tensor) -> Tensor:
    """(B, N + 1): 1 for each keypoint, as many as the other image has for the dustbin, nothing for the filling; as logarithms."""
    mass = torch.cat([own.to(torch.float32), other.sum(1, keepdim=True).to(torch.float32)], dim=1)
    return mass.log()
