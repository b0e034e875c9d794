"""Small pictures of a map's places, read when somebody first wants to see them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Candidate, Frame
from ros2_loc.io.images import decode_image
from ros2_loc.localization.map_localizer import Localization
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.visualization.places import PlaceView, draw_places

_KEPT = 500  # of some 15 kB each


class Thumbnails:
    """Of one map."""

    def __init__(self, sparse_map: SparseMap) -> None:
        self._map = sparse_map
        self.jpeg = lru_cache(maxsize=_KEPT)(sparse_map.thumbnail_jpeg)

    def beside(self, frame: Frame, localization: Localization) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the image, and the places that it was compared with."""
        found = localization.places
        views = [
            self._view(candidate, similarity, verified, candidate.source == localization.best_place)
            for candidate, similarity, verified in zip(found.candidates, found.similarity.tolist(), found.verified.tolist(), strict=True)
        ]
        title = "query" if views else "query: no places"
        if np.isfinite(found.confidence):
            title += f"   re-ranking: {found.reranking}, confidence {found.confidence:.2f}"
        return draw_places(frame.image, views, title)

    def _view(self, candidate: Candidate, similarity: float, verified: int, gave_pose: bool) -> PlaceView:
        words = self._map.places[candidate.source].name
        words += f"   {similarity:.2f}" if np.isfinite(similarity) else "   near the belief"
        words += f"   {verified} verified" if verified else ""
        return PlaceView(decode_image(self.jpeg(candidate.source), "thumbnail"), words, gave_pose)
