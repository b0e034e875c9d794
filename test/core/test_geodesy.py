"""WGS84 against PROJ's numbers, round trips, and tiles against published ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core import geodesy as g
from ros2_loc.core.geodesy import GeoFix, GeoOrigin
from ros2_loc.errors import GeometryError

latitudes = st.floats(-90, 90)
longitudes = st.floats(-179.999, 179.999)
altitudes = st.floats(-11_000, 100_000)

# pyproj 3.7, EPSG:4979 -> EPSG:4978
PROJ_ECEF = [
    ((49.0, 8.4, 115.0), (4147534.529795, 612454.614358, 4790645.539074)),
    ((-33.86, 151.21, -20.5), (-4646544.222811, 2553403.328360, -3533550.456687)),
    ((0.0, 0.0, 0.0), (6378137.0, 0.0, 0.0)),
    ((89.999, -120.0, 8848.0), (-55.924203, -96.863561, 6365600.313269)),
    ((-90.0, 0.0, 0.0), (0.0, 0.0, -6356752.314245)),
    ((35.0, 179.9999, 20_200_000.0), (-21777298.134805, 38.008555, 15224110.923669)),
]
# PROJ's topocentric at 49 N, 8.4 E, 115 m
PROJ_ENU = [((49.01, 8.42, 120.0), (1463.170316, 1112.312018, 4.735411)), ((48.9, 8.0, 300.0), (-29328.405845, -11044.130818, 108.130167))]


@pytest.mark.parametrize(("place", "ecef"), PROJ_ECEF)
def test_ecef_agrees_with_proj(place: tuple[float, float, float], ecef: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(g.ecef_from_geodetic(*place), ecef, atol=2e-6)
    lat, lon, alt = g.geodetic_from_ecef(ecef)
    np.testing.assert_allclose([lat, alt], [place[0], place[2]], atol=2e-6)
    assert abs(place[0]) == 90 or lon == pytest.approx(place[1], abs=1e-6)


@pytest.mark.parametrize(("place", "enu"), PROJ_ENU)
def test_enu_agrees_with_proj(place: tuple[float, float, float], enu: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(g.enu_from_geodetic(GeoOrigin(49.0, 8.4, 115.0), *place), enu, atol=2e-6)


@given(latitudes, longitudes, altitudes)
def test_ecef_there_and_back(lat: float, lon: float, alt: float) -> None:
    ecef = g.ecef_from_geodetic(lat, lon, alt)
    np.testing.assert_allclose(g.ecef_from_geodetic(*g.geodetic_from_ecef(ecef)), ecef, atol=1e-6)


@given(latitudes, longitudes, st.tuples(*[st.floats(-20_000, 20_000)] * 3))
def test_enu_there_and_back(lat: float, lon: float, enu: tuple[float, float, float]) -> None:
    origin = GeoOrigin(lat, lon, 100.0)
    np.testing.assert_allclose(g.enu_from_geodetic(origin, *g.geodetic_from_enu(origin, enu)), enu, atol=1e-6)


def test_axes_are_east_north_up() -> None:
    origin = GeoOrigin(49.0, 8.4, 100.0)
    east, north, up = (g.enu_from_geodetic(origin, 49.0 + a, 8.4 + b, 100.0 + c) for a, b, c in [(0, 1e-4, 0), (1e-4, 0, 0), (0, 0, 1)])
    assert east.argmax() == 0 and north.argmax() == 1 and up.argmax() == 2
    assert north[1] == pytest.approx(11.121, abs=0.001)  # a ten-thousandth of a degree at 49 N


def test_many_places_at_once() -> None:
    lat, lon = np.linspace(48, 50, 12).reshape(3, 4), np.linspace(8, 9, 4)
    ecef = g.ecef_from_geodetic(lat, lon, 0.0)
    assert ecef.shape == (3, 4, 3)
    np.testing.assert_allclose(g.geodetic_from_ecef(ecef)[0], lat, atol=1e-9)


@given(st.floats(-85, 85), longitudes, st.integers(0, 22))
def test_mercator_there_and_back(lat: float, lon: float, zoom: int) -> None:
    back = g.geodetic_from_mercator_px(g.mercator_px_from_geodetic(lat, lon, zoom), zoom)
    np.testing.assert_allclose(back, [lat, lon], atol=1e-8)


def test_mercator_agrees_with_proj() -> None:
    """EPSG:3857 of 49 N, 8.4 E by pyproj: 935083.722663, 6274861.394007 m from the middle of the map."""
    px = g.mercator_px_from_geodetic(49.0, 8.4, 18)
    metres = (px / (256 * 2**18) - 0.5) * [1, -1] * 2 * np.pi * 6378137.0
    np.testing.assert_allclose(metres, [935083.722663, 6274861.394007], atol=1e-5)


def test_tiles_are_the_known_ones() -> None:
    # https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames: Tokyo, zoom 18
    assert g.tile_from_geodetic(35.6590699, 139.7006793, 18).tolist() == [232798, 103246]
    assert g.tile_from_geodetic(85.0511, -180.0, 3).tolist() == [0, 0]
    assert g.tile_from_geodetic(-85.0511, 180.0, 3).tolist() == [7, 7]


def test_metres_per_pixel_depend_on_the_latitude() -> None:
    assert g.metres_per_pixel(0.0, 0) == pytest.approx(156543.034, abs=0.001)
    assert g.metres_per_pixel(60.0, 18) == pytest.approx(g.metres_per_pixel(0.0, 18) / 2)
    # by the distance of two neighbouring pixels on the sphere that Mercator assumes
    _, lon = g.geodetic_from_mercator_px(g.mercator_px_from_geodetic(49.0, 8.4, 18) + np.array([1, 0]), 18)
    assert np.radians(lon - 8.4) * 6378137.0 * np.cos(np.radians(49.0)) == pytest.approx(g.metres_per_pixel(49.0, 18), rel=1e-6)


@pytest.mark.parametrize("place", [(91, 0, 0), (0, 181, 0), (np.nan, 0, 0), (0, 0, np.inf)])
def test_what_is_no_place_is_refused(place: tuple[float, float, float]) -> None:
    with pytest.raises(GeometryError, match="not a place"):
        GeoOrigin(*place)
    with pytest.raises(GeometryError, match="not a place"):
        GeoFix(1, *place)


def test_the_poles_are_not_on_the_mercator_map() -> None:
    with pytest.raises(GeometryError, match="Mercator"):
        g.mercator_px_from_geodetic(86.0, 0.0, 10)
