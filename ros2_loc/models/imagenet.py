"""How networks that began with ImageNet's weights want their images."""

from __future__ import annotations

import torch
from torch import Tensor

# of RGB in 0..1
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalized(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..1 -> less the mean, by the standard deviation."""
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std
