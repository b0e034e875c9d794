"""Which images are worth matching with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import FloatArray
from ros2_loc.mapping.config import PairsConfig

Pair = tuple[int, int]


def sequence_pairs(num_images: int, window: int) -> set[Pair]:
    """Each image with the next `window` ones."""
    return {(i, j) for i in range(num_images) for j in range(i + 1, min(i + window + 1, num_images))}


def pose_pairs(map_from_camera: Sequence[Pose], config: PairsConfig) -> set[Pair]:
    """Each image with its nearest neighbours that look about the same way (second visits of a street)."""
    centres = np.array([p.translation for p in map_from_camera])
    forward = np.array([p.rotation[:, 2] for p in map_from_camera])
    pairs: set[Pair] = set()
    for i in range(len(centres)):
        distance = np.linalg.norm(centres - centres[i], axis=1)
        distance[(forward @ forward[i] < np.cos(np.radians(config.pose_max_angle_deg))) | (distance > config.pose_max_distance_m)] = np.inf
        distance[i] = np.inf
        nearest = np.argsort(distance, kind="stable")[: config.pose_neighbours]
        pairs |= {(min(i, int(j)), max(i, int(j))) for j in nearest if np.isfinite(distance[j])}
    return pairs


def retrieval_pairs(vectors: FloatArray, neighbours: int) -> set[Pair]:
    """Each image with those whose global descriptors (P, D) are most alike."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    pairs: set[Pair] = set()
    for i, row in enumerate(similarity):
        pairs |= {(min(i, int(j)), max(i, int(j))) for j in np.argsort(-row, kind="stable")[:neighbours] if j != i}
    return pairs
