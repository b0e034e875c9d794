"""Layers that begin as a whitening: a network with random weights gives almost the same numbers to all it sees, and long learns nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def whiten(layer: nn.Linear | nn.Conv2d, rows: Tensor, damping: float) -> None:
    """Makes a layer the whitening of what comes to it, along the directions in which that differs most.

    Rows of the layer beyond the number of its inputs begin as nothing. A convolution looks at its middle only; a layer without a bias
    leaves the direction of the mean out.

    Args:
        layer: with D inputs.
        rows: (N, D) inputs.
        damping: directions of variances below this share of the largest are damped.
    """
    mean = rows.mean(dim=0)
    variances, directions = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    scale = (variances.clamp(min=0.0) + damping * variances.max()).rsqrt()
    count = min(layer.weight.shape[:2])
    weight = torch.zeros(layer.weight.shape[:2])
    weight[:count] = (directions * scale).T.flip(0)[:count]
    if layer.bias is not None:
        layer.bias.copy_(-weight @ mean)
    else:
        weight -= torch.outer(weight @ mean, mean) / mean.square().sum().clamp(min=1e-12)
    layer.weight.zero_()
    middle = [size // 2 for size in layer.weight.shape[2:]]
    (layer.weight[:, :, middle[0], middle[1]] if middle else layer.weight).copy_(weight)
