"""How well places are found again that were not trained on: recall at k."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.imagenet import normalized
from ros2_loc.training.place_batches import resized
from ros2_loc.training.place_images import PlaceImages, PlaceQueries

_KS = (1, 5, 10)


class PlaceValidation:
    """`recall_at_1`, `recall_at_5`, `recall_at_10` of the nearest descriptors."""

    @dataclass(frozen=True)
    class Config:
        """What counts as found.

        Attributes:
            within_m: a place of the database is right that is so near.
            within_deg: and looks there, up to so much; 180: wherever it looks.
            max_queries: of more, every so many are taken.
        """

        within_m: float = 25.0
        within_deg: float = 180.0
        max_queries: int = 1000
        batch_size: int = 16

        def __post_init__(self) -> None:
            if not (self.within_m > 0 and 0 < self.within_deg <= 180 and self.max_queries > 0 and self.batch_size > 0):
                raise ConfigError(f"{self}: lengths and counts are positive, within_deg up to 180")

    def __init__(self, config: Config, image_px: tuple[int, int], asked: PlaceQueries) -> None:
        """Nothing is read yet.

        Raises:
            DataError: no query has a right place in the database.
        """
        self.config, self._image_px = config, image_px
        self._database = asked.database
        right = right_places(config, asked)
        known = np.flatnonzero(right.any(axis=1))
        if not len(known):
            raise DataError(f"no query of the validation lies within {config.within_m:g} m of an image of its database")
        chosen = known[:: -(-len(known) // config.max_queries)]
        self._queries, self._right = asked.queries.subset(chosen), right[chosen]

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Recalls of a network in evaluation mode."""
        similarity = self._described(network, self._queries) @ self._described(network, self._database).T
        return recalls(similarity.numpy(), self._right)

    def _described(self, network: nn.Module, images: PlaceImages) -> Tensor:
        device = next(network.parameters()).device
        parts = []
        for start in range(0, len(images), self.config.batch_size):
            stop = min(start + self.config.batch_size, len(images))
            batch = torch.stack([resized(images.load(i), self._image_px) for i in range(start, stop)])
            with torch.no_grad():
                parts.append(network(normalized(batch.to(device).float() / 255.0)).float().cpu())
        return torch.cat(parts)


def right_places(config: PlaceValidation.Config, asked: PlaceQueries) -> NDArray[np.bool_]:
    """(Q, D): which images of the database show the place of a query."""
    queries, database = asked.queries, asked.database
    distance = np.linalg.norm(queries.positions_m[:, None] - database.positions_m[None], axis=2)
    right = (distance <= config.within_m) & (queries.areas[:, None] == database.areas[None])
    if config.within_deg < 180:
        turn = np.abs((queries.headings_deg[:, None] - database.headings_deg[None] + 180.0) % 360.0 - 180.0)
        right &= turn <= config.within_deg
    return np.asarray(right)


def recalls(similarity: NDArray[np.float32], right: NDArray[np.bool_]) -> dict[str, float]:
    """Share of the queries (Q, D) with a right one among the k most similar."""
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : max(_KS)]
    found = np.take_along_axis(right, order, axis=1)
    return {f"recall_at_{k}": float(found[:, :k].any(axis=1).mean()) for k in _KS}


