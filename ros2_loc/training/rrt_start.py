"""How a Reranking Transformer with random weights begins: its tokens listen to what looks like them in the other image.

A random one hears all tokens alike, and learns nothing for thousands of steps (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from ros2_loc.core.types import LocalFeatures
from ros2_loc.models.rrt import Layer, Rrt
from ros2_loc.training.whitening import whiten

_DAMPING = 0.05  # share of the largest variance
_GAIN = 12.0  # of attention: among hundreds of tokens the one that looks alike is heard
_SEGMENT, _SCALE = 0.7, 0.1  # lengths of the embeddings, of descriptors it is 1


@torch.no_grad()
def listen_to_likes(network: Rrt, features: Sequence[LocalFeatures], most: int) -> None:
    """Sets projection, embeddings of local tokens, and the attention of all layers but the last.

    Args:
        network: with random weights; its `local_dimension` is larger than its `dimension`, else its descriptors are left as they are.
        features: of the maps' images; the best `most` of each count.
    """
    if isinstance(network.local_projection, nn.Linear):
        rows = torch.from_numpy(np.concatenate([each.descriptors[:most] for each in features]))
        whiten(network.local_projection, F.normalize(rows, dim=1) if network.config.normalize else rows, _DAMPING)
    segments = network.segment_embedding.weight
    aside = F.normalize(segments[0], dim=0)
    segments[0], segments[1] = _SEGMENT * aside, -_SEGMENT * aside
    network.scale_embedding.weight.copy_(_SCALE * F.normalize(network.scale_embedding.weight, dim=1))
    mirror = torch.eye(len(aside)) - 2.0 * torch.outer(aside, aside)  # of keys: the other image is nearer than one's own
    for layer in (cast(Layer, layer) for layer in list(network.layers)[:-1]):
        turn = _GAIN * nn.init.orthogonal_(torch.empty_like(mirror))
        layer.query.weight.copy_(turn)
        layer.key_value.weight[: len(turn)] = turn @ mirror
        layer.query.bias.zero_()
        layer.key_value.bias.zero_()
