"""A map and tiles of one place: whatever their origins, a place is one place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic, geodetic_from_enu
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.mapping.shared_frame import map_from_tiles
from ros2_loc.mapping.sparse_map import MapFrame, SparseMap
from ros2_loc.mapping.tile_database import TileDatabase

MAP_ORIGIN = GeoOrigin(49.01, 8.42, 115.0)


def tiles_at(origin: GeoOrigin) -> TileDatabase:
    mosaic = Mosaic(np.zeros((200, 200, 3), np.uint8), np.ones((200, 200), bool), -400.0, 400.0, 4.0)
    return TileDatabase.build(mosaic, origin, TileDatabase.Layout(4.0, 10, 20.0), {})


@given(yaw=st.floats(-3, 3), shift=st.tuples(st.floats(-200, 200), st.floats(-200, 200)), altitude=st.floats(0.0, 200.0))
def test_a_place_on_the_tiles_is_that_place_in_the_map(yaw: float, shift: tuple[float, float], altitude: float) -> None:
    lat, lon, _ = (float(v) for v in geodetic_from_enu(MAP_ORIGIN, [*shift, 0.0]))
    tiles = tiles_at(GeoOrigin(lat, lon, altitude))
    enu_from_map = Pose(so3_exp([0, 0, yaw]), np.array([3.0, -4.0, 1.5]))
    places = np.array([[0.0, 0.0, 2.0], [5.0, 5.0, 2.2], [-7.0, 3.0, 2.1]])
    found = map_from_tiles(MapFrame(Path("/maps/town"), MAP_ORIGIN, enu_from_map, places), tiles)
    on_tiles = np.array([50.0, -30.0, 0.0])
    lat, lon, _ = geodetic_from_enu(tiles.origin, on_tiles)
    expected = enu_from_geodetic(MAP_ORIGIN, lat, lon, 115.0)
    np.testing.assert_allclose(enu_from_map.apply(found.apply(on_tiles))[:2], expected[:2], atol=0.02)  # heights tilt over 300 m
    assert found.apply(on_tiles)[2] == pytest.approx(2.1, abs=0.02)


def test_a_map_without_a_place_and_one_of_another_place_are_refused() -> None:
    tiles = tiles_at(GeoOrigin(49.05, 8.42))
    places = np.zeros((2, 3))
    with pytest.raises(ConfigError, match="is not georeferenced, so tiles can't lie in its frame: map a recording with GNSS"):
        map_from_tiles(MapFrame(Path("/maps/town"), None, Pose.identity(), places), tiles)
    with pytest.raises(ConfigError, match=r"none of its places lies on the tiles, the nearest is 40\d\d m off: give tiles of its place"):
        map_from_tiles(MapFrame(Path("/maps/town"), MAP_ORIGIN, Pose.identity(), places), tiles)


def test_the_frame_is_read_without_the_map(town_map: SparseMap) -> None:
    frame = MapFrame.load(town_map.folder)
    assert frame.origin == town_map.origin and np.allclose(frame.enu_from_map.matrix, town_map.enu_from_map.matrix)
    np.testing.assert_allclose(frame.places_m, town_map.frame.places_m)
