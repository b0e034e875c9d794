"""Images for networks that want one size whatever the camera's, without regard to its aspect."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ros2_loc.core.types import Frame


def at_size(frames: Sequence[Frame], size: tuple[int, int], device: torch.device | str = "cpu", antialias: bool = True) -> Tensor:
    """(B, 3, h, w) RGB in 0..1, bilinear.

    Args:
        frames: of any sizes, at least one.
        size: (w, h) px.
        device: of the result.
        antialias: smooth before making smaller, as PIL does; False as torchvision resized tensors before 0.17.
    """
    return torch.cat([_at_size(frame.image, size, device, antialias) for frame in frames])


def usable_shares(frame: Frame, cells: tuple[int, int]) -> NDArray[np.float32] | None:
    """How much of each of (columns, rows) equal cells of the image `frame.mask` leaves, (rows, columns) in 0..1; None without a mask."""
    if frame.mask is None:
        return None
    return cv2.resize(frame.mask.astype(np.float32), cells, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


def _at_size(image: NDArray[np.uint8], size: tuple[int, int], device: torch.device | str, antialias: bool) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255.0
    if image.shape[1::-1] == size:
        return pixels
    return functional.interpolate(pixels, size[::-1], mode="bilinear", align_corners=False, antialias=antialias)
