"""One image at several scales, for networks whose global descriptor is the mean of several (DELG, CVNet)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# both networks' authors describe an image at these
SCALES = (0.7071, 1.0, 1.4142)


def at_scale(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """(H, W, 3) made smaller or larger as the authors do it, who keep the scale exact where a side is rounded."""
    if scale == 1.0:
        return image
    kind = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if min(height, width) == 1:  # a side that the scale would round to nothing
        return cv2.resize(image, (width, height), interpolation=kind).astype(np.uint8, copy=False)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=kind).astype(np.uint8, copy=False)


def pixels_at_scale(images: Sequence[NDArray[np.uint8]], scale: float, device: torch.device) -> Tensor:
    """Images of one size -> (B, 3, H * scale, W * scale) in 0..1."""
    stack = np.stack([at_scale(image, scale) for image in images])
    return torch.from_numpy(stack).to(device).permute(0, 3, 1, 2).float() / 255.0


def mean_descriptor(vectors: Sequence[Tensor]) -> Tensor:
    """(B, D) of each scale, of any length -> their mean direction (B, D) of unit length."""
    return functional.normalize(torch.stack([functional.normalize(one, dim=1) for one in vectors]).mean(dim=0), dim=1)
