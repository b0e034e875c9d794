"""The authors' ground-plane projection, number for number: what their weights were trained with.

Where it is not right (see `core.overhead` for the right one): cells are sampled at their upper-left corners, not at their centres; a
pixel's centre counts as a whole number in the intrinsics and as a half one when sampling; a point behind the camera is not rejected but
divided by a depth of 1e-6, which throws it out of the image; the scale of the imagery is that of Karlsruhe everywhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

CELLS = 32
STRIDE = 16
CAMERA_HEIGHT_M = 1.65
# Web Mercator at the latitude that the authors chose, zoom 18, pictures of twice the usual resolution
METRES_PER_PX = 156543.03392 * math.cos(math.radians(49.015)) / 2**18 / 2
TILE_PX = 512
COVERAGE_M = METRES_PER_PX * TILE_PX
METRES_PER_CELL = COVERAGE_M / CELLS
LEAST_DEPTH_M = 1e-6


def ground_points_m(device: torch.device | None = None) -> Tensor:
    """(32, 32, 3): x south, y down, z east of the overhead map's cells, relative to the query camera's foot."""
    steps = (torch.arange(CELLS, device=device) - CELLS // 2).float() * METRES_PER_CELL
    south, east = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([south, torch.zeros_like(south), east], dim=-1)


def authors_uv(intrinsics: Tensor, shift_m: Tensor, heading_rad: Tensor) -> Tensor:
    """Where the cells lie in the feature maps of the frames, as the authors compute it.

    Their code divides the intrinsics by the stride inside the tensor that it is given, so that a second call with the same tensor
    divides again; here the tensor stays as it is and every call means what their first one did.

    Args:
        intrinsics: (B, 3, 3) of the 256 x 1024 image, whole numbers at pixel centres.
        shift_m: (B, N, 2) east and north of each frame relative to the query frame.
        heading_rad: (B, N) yaw of each frame, 0 = east, counter-clockwise.

    Returns:
        (B, N, 32, 32, 2): u right, v down in pixels of the feature map; up to 1e9 for points behind the camera.
    """
    cosine, sine, zero = torch.cos(-heading_rad), torch.sin(-heading_rad), torch.zeros_like(heading_rad)
    rows = [cosine, zero, -sine, zero, torch.ones_like(zero), zero, sine, zero, cosine]
    rotation = torch.stack(rows, dim=-1).reshape(*heading_rad.shape, 3, 3)
    offset = torch.stack([shift_m[..., 1], torch.full_like(zero, CAMERA_HEIGHT_M), -shift_m[..., 0]], dim=-1)
    scaled = intrinsics.clone()
    scaled[:, :2] /= STRIDE
    camera_from_world = scaled[:, None] @ torch.cat([rotation, rotation @ offset[..., None]], dim=-1)
    points = functional.pad(ground_points_m(heading_rad.device), (0, 1), value=1.0)
    image = torch.einsum("bnij,hwj->bnhwi", camera_from_world, points)
    return image[..., :2] / image[..., 2:].clamp(min=LEAST_DEPTH_M)


def sample_at(features: Tensor, uv: Tensor) -> Tensor:
    """Bilinear values of (B, C, h, w) at (B, S, S, 2) authors' u, v; zero outside. Their u = 0.5 is the centre of the first pixel."""
    height, width = features.shape[-2:]
    half = torch.tensor([width // 2, height // 2], dtype=uv.dtype, device=uv.device)
    return functional.grid_sample(features, (uv - half) / half, mode="bilinear", padding_mode="zeros", align_corners=False)
