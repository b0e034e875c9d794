"""Imagery in several reference systems lands where core.geodesy says, whatever its axes, resolution and holes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyproj import CRS, Transformer

from ros2_loc.core.geodesy import GeoOrigin, geodetic_from_enu
from ros2_loc.errors import DataError
from ros2_loc.io.imagery.source import parse_crs
from ros2_loc.mapping.tile_imagery import ImageryOnPlane, draw_imagery, plan_area
from ros2_loc.mapping.tile_layout import TileLayout

ORIGIN = GeoOrigin(48.9825, 8.3904, 115.0)


class Drawn:
    """A picture in memory whose pixel values are a function of its CRS coordinates."""

    name, notes = "drawn", ()

    def __init__(self, crs: str, corner: tuple[float, float], step: tuple[float, float], size_px: tuple[int, int], colour: Any) -> None:
        self.crs: CRS = parse_crs(crs)
        self.crs_from_px = np.array([[step[0], 0.0, corner[0]], [0.0, step[1], corner[1]]])
        self.size_px = size_px
        x = corner[0] + (np.arange(size_px[0]) + 0.5) * step[0]
        y = corner[1] + (np.arange(size_px[1]) + 0.5) * step[1]
        self.rgb: np.ndarray = np.clip(np.rint(colour(*np.meshgrid(x, y))), 0, 255).astype(np.uint8)
        self.alpha = np.full(size_px[::-1], 255, np.uint8)

    def window(self, column: int, row: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        assert column >= 0 and row >= 0 and column + width <= self.size_px[0] and row + height <= self.size_px[1]
        part = np.s_[row : row + height, column : column + width]
        return self.rgb[part], self.alpha[part]

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name}


def around(crs: str, step: float, half_px: int, rows_north: bool, wave: float) -> Drawn:
    """Waves across a CRS, `wave` units long, about ORIGIN: red along x, green along y."""
    x0, y0 = Transformer.from_crs("EPSG:4326", parse_crs(crs), always_xy=True).transform(ORIGIN.lon_deg, ORIGIN.lat_deg)

    def colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 128 + 100 * np.sin(2 * np.pi * np.stack([x - x0, y - y0, x - x0 + y - y0], axis=-1) / wave)

    down = 1.0 if rows_north else -1.0
    return Drawn(crs, (x0 - half_px * step, y0 - down * half_px * step), (step, down * step), (2 * half_px, 2 * half_px), colour)


def expected(crs: str, places_m: np.ndarray, wave: float) -> np.ndarray:
    """Colours at places (..., 2) on the plane, straight from the definition."""
    to_crs = Transformer.from_crs("EPSG:4326", parse_crs(crs), always_xy=True)
    lat, lon, _ = geodetic_from_enu(ORIGIN, np.concatenate([places_m, np.zeros((*places_m.shape[:-1], 1))], axis=-1))
    x0, y0 = to_crs.transform(ORIGIN.lon_deg, ORIGIN.lat_deg)
    x, y = to_crs.transform(lon, lat)
    return 128 + 100 * np.sin(2 * np.pi * np.stack([x - x0, y - y0, x - x0 + y - y0], axis=-1) / wave)


def grid(west: float, north: float, size: int, metres_per_px: float) -> np.ndarray:
    along = (np.arange(size) + 0.5) * metres_per_px
    return np.stack(np.meshgrid(west + along, north - along), axis=-1)


DEGREE_M = 111_000.0


@pytest.mark.parametrize(
    ("crs", "unit_m"),
    [("EPSG:25832", 1.0), ("EPSG:32633", 1.0), ("EPSG:3857", 0.656), ("EPSG:4326", DEGREE_M), ("EPSG:31467", 1.0), ("enu:48.98,8.39", 1.0)],
)
@pytest.mark.parametrize("rows_north", [False, True])
@pytest.mark.parametrize("source_px_m", [0.25, 0.5, 2.0])
def test_pixels_land_within_a_fraction_of_a_pixel(crs: str, unit_m: float, rows_north: bool, source_px_m: float) -> None:
    """A phase error of the waves is an error of place: 0.02 px is far below the half pixel that a mix-up of corners would make."""
    wave_m, px = 24.0, 0.5
    source = around(crs, source_px_m / unit_m, int(90 / source_px_m), rows_north, wave_m / unit_m)
    rgb, alpha = ImageryOnPlane(source, ORIGIN).draw(-30.0, 30.0, (120, 120), px)
    assert (alpha == 255).all()
    places = grid(-30.0, 30.0, 120, px)
    wanted = expected(crs, places, wave_m / unit_m)
    assert np.abs(rgb - wanted).max() < 100 * (2 * np.pi * max(source_px_m, px) / wave_m) ** 2 / 4 + 2.0  # linear between pixels
    for band in range(2):
        slope = np.gradient(wanted[..., band], px, axis=1 - band)
        shift_m = ((rgb[..., band] - wanted[..., band]) * slope).sum() / (slope**2).sum()
        assert abs(shift_m) < 0.02 * max(px, source_px_m)


def test_far_from_the_origin_the_plane_is_still_exact() -> None:
    """8 km away the tangent plane and UTM differ by metres: the picture follows the plane."""
    west, north = 5000.0, 6000.0
    wave, px = 24.0, 0.5
    lat, lon, _ = geodetic_from_enu(ORIGIN, [west + 15, north - 15, 0.0])
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True).transform(lon, lat)
    x0, y0 = Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True).transform(ORIGIN.lon_deg, ORIGIN.lat_deg)

    def colour(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return 128 + 100 * np.sin(2 * np.pi * np.stack([u - x0, v - y0, u - x0 + v - y0], axis=-1) / wave)

    source = Drawn("EPSG:25832", (float(x) - 40, float(y) + 40), (0.25, -0.25), (320, 320), colour)
    rgb, alpha = ImageryOnPlane(source, ORIGIN).draw(west, north, (60, 60), px)
    assert (alpha == 255).all()
    np.testing.assert_allclose(rgb, expected("EPSG:25832", grid(west, north, 60, px), wave), atol=4)


@pytest.mark.parametrize("times", [2, 5, 9])
def test_fine_imagery_is_averaged_not_picked(times: int) -> None:
    """A chessboard of single pixels becomes grey."""
    source = Drawn("EPSG:25832", (0.0, 0.0), (1.0, -1.0), (400, 400), lambda x, y: np.repeat(x[..., None], 3, -1))
    columns, rows = np.meshgrid(np.arange(400), np.arange(400))
    source.rgb[:] = (255 * ((columns + rows) % 2))[..., None]
    x0, y0 = Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True).transform(ORIGIN.lon_deg, ORIGIN.lat_deg)
    source.crs_from_px = np.array([[0.1, 0.0, x0 - 20.0], [0.0, -0.1, y0 + 20.0]])
    rgb, alpha = ImageryOnPlane(source, ORIGIN).draw(-10.0, 10.0, (int(200 / times),) * 2, 0.1 * times)
    assert (alpha == 255).all()
    assert np.abs(rgb.astype(int) - 127).max() < 255 / times**1.5 + 6 and abs(rgb.mean() - 127.5) < 1.5


def test_no_data_stays_no_data_and_has_no_colour() -> None:
    source = around("EPSG:25832", 0.5, 100, False, 1e9)
    source.rgb[:] = 200
    source.rgb[:, 100:], source.alpha[:, 100:] = 0, 0
    rgb, alpha = ImageryOnPlane(source, ORIGIN).draw(-20.0, 20.0, (80, 80), 0.5)
    assert (rgb[alpha > 40] == 200).all()
    assert (alpha[:, :39] == 255).all() and (alpha[:, 41:] == 0).all()


def test_beyond_the_edge_there_is_nothing() -> None:
    plane = ImageryOnPlane(around("EPSG:25832", 0.5, 20, False, 50.0), ORIGIN)
    west, south, east, north = plane.bounds_m()
    assert -10.4 < west < -9.6 and 9.6 < north < 10.4 and -10.4 < south < -9.6 and 9.6 < east < 10.4
    _, alpha = plane.draw(-15.0, 15.0, (60, 60), 0.5)
    known = np.argwhere(alpha > 127)
    assert abs(known.min() - 10) <= 1 and abs(known.max() - 49) <= 1
    _, alpha = plane.draw(500.0, 500.0, (60, 60), 0.5)
    assert not alpha.any()


def test_overlapping_sources_and_their_order(tmp_path: Path) -> None:
    top, below = around("EPSG:25832", 0.5, 60, False, 1e9), around("EPSG:3857", 0.8, 100, False, 1e9)
    top.rgb[:], below.rgb[:] = (250, 0, 0), (0, 0, 250)
    top.alpha[:, :60] = 0
    planes = [ImageryOnPlane(s, ORIGIN) for s in (top, below)]
    layout = TileLayout(0.5, 32, 5.0)
    bounds, px = plan_area(planes, layout, (-20.0, -20.0, 20.0, 20.0))
    assert bounds == (-20.0, -20.0, 20.0, 20.0) and px == 0.5
    stored = draw_imagery(planes, tmp_path / "imagery.tif", bounds, px, ORIGIN, False)
    mosaic = stored.load()
    assert mosaic.valid.all()
    assert (mosaic.rgb[:, :38] == (0, 0, 250)).all() and (mosaic.rgb[:, 42:] == (250, 0, 0)).all()


def test_the_resolution_kept_is_that_of_the_source_within_reason() -> None:
    def px(source_px_m: float, layout: TileLayout) -> float:
        return plan_area([ImageryOnPlane(around("EPSG:25832", source_px_m, 50, False, 9.0), ORIGIN)], layout, None)[1]

    assert px(0.05, TileLayout(0.2, 512)) == 0.2
    assert px(0.2, TileLayout(0.8, 128)) == pytest.approx(0.2)
    assert px(0.38, TileLayout(0.8, 128)) == pytest.approx(0.4)
    assert px(0.05, TileLayout(0.1, 512)) == 0.1
    assert px(2.0, TileLayout(0.8, 128)) == 0.8


def test_an_area_elsewhere_is_refused() -> None:
    plane = ImageryOnPlane(around("EPSG:25832", 0.5, 60, False, 9.0), ORIGIN)
    with pytest.raises(DataError, match="outside of the imagery"):
        plan_area([plane], TileLayout(), (1000.0, 0.0, 1100.0, 100.0))


def test_coordinates_that_are_no_places_are_refused() -> None:
    source = around("EPSG:25832", 0.5, 60, False, 9.0)
    source.crs_from_px = np.array([[1e9, 0.0, 1e12], [0.0, 1e9, 1e12]])
    with pytest.raises(DataError, match="no places"):
        ImageryOnPlane(source, ORIGIN).bounds_m()
