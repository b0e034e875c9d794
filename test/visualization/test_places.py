"""The query beside the places that the map answered with."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.visualization.colors import AMBER, GREEN
from ros2_loc.visualization.places import PlaceView, draw_places


@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_every_place_has_its_tile_and_the_one_of_the_pose_a_green_frame(count: int) -> None:
    query = np.full((100, 300, 3), 90, dtype=np.uint8)
    places = [PlaceView(np.full((40, 160, 3), 100 + i, dtype=np.uint8), f"place {i}", i == 1) for i in range(count)]
    picture = draw_places(query, places, "query")
    for i in range(count):
        assert (picture == 100 + i).all(axis=2).sum() > 2000
    assert (picture == 90).all(axis=2).sum() > 20_000
    assert (picture == AMBER).all(axis=2).any()
    assert (picture == GREEN).all(axis=2).any() == (count > 1)
