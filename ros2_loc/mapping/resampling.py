"""Pictures resampled by area and with holes: what is outside or missing has no weight, and no colour."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_SAMPLES = 4  # along an output pixel at least; where the source has twice as many or more, it is reduced first


def samples_per_px(ratio: float) -> int:
    """How many samples along an output pixel that is `ratio` source pixels long see all of them."""
    return max(1, int(np.ceil(ratio - 1e-6)))


def reduction(ratio: float) -> int:
    """By which whole factor the source may be reduced first, for an output pixel that is `ratio` source pixels long."""
    return max(1, int(ratio // _SAMPLES))


def reduce(rgb: Bytes, alpha: Bytes, factor: int) -> tuple[Bytes, Bytes]:
    """Means over squares of `factor` pixels, where (H, W) are multiples of it; colours weigh as much as they are valid."""
    if factor == 1:
        return rgb, alpha
    size = (rgb.shape[1] // factor, rgb.shape[0] // factor)
    return _weighted(rgb, alpha, lambda image: cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def warp_affine(
    rgb: Bytes, alpha: Bytes, source_from_output: NDArray[np.float64], size: tuple[int, int], samples: int
) -> tuple[Bytes, Bytes]:
    """Resample along an affine map.

    Args:
        rgb, alpha: (H, W, 3) and (H, W) uint8; alpha is the valid share of a pixel.
        source_from_output: (2, 3), px from px, both counted from the outer corner of the first pixel.
        size: (width, height) of the output, px.
        samples: along a side of an output pixel, which shows their mean.

    Returns:
        rgb (height, width, 3) and alpha (height, width); outside of the source both are 0.
    """
    linear, offset = source_from_output[:, :2] / samples, source_from_output[:, 2]
    matrix = np.column_stack([linear, linear @ [0.5, 0.5] + offset - 0.5])  # OpenCV counts from the centre of the first pixel
    fine = (size[0] * samples, size[1] * samples)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def warp(image: NDArray) -> NDArray:
        return _mean(cv2.warpAffine(image, matrix, fine, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0), size)

    return _weighted(rgb, alpha, warp)


def warp_map(rgb: Bytes, alpha: Bytes, x_px: NDArray, y_px: NDArray, samples: int) -> tuple[Bytes, Bytes]:
    """Resample along any map: x_px, y_px (samples * height, samples * width) in the source; else as `warp_affine`."""
    x, y = (np.asarray(a - 0.5, dtype=np.float32) for a in (x_px, y_px))
    size = (x.shape[1] // samples, x.shape[0] // samples)

    def warp(image: NDArray) -> NDArray:
        return _mean(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0), size)

    return _weighted(rgb, alpha, warp)


def _mean(image: NDArray, size: tuple[int, int]) -> NDArray:
    return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _weighted(rgb: Bytes, alpha: Bytes, warp: Callable[[NDArray], NDArray]) -> tuple[Bytes, Bytes]:
    """`warp` of colours and weights; colours without weight have no say."""
    share = warp(alpha)
    if alpha.min(initial=255) == 255 and share.min() == 255:
        return np.asarray(warp(rgb), dtype=np.uint8), np.asarray(share, dtype=np.uint8)
    weight = alpha.astype(np.float32) / 255.0
    sums = warp(np.dstack([rgb * weight[..., None], weight]))
    total = sums[..., 3:]
    mean = np.divide(sums[..., :3], total, out=np.zeros_like(sums[..., :3]), where=total > 1e-3)
    return np.rint(mean).clip(0, 255).astype(np.uint8), np.rint(total[..., 0] * 255.0).clip(0, 255).astype(np.uint8)
