"""Rasters, MBTiles and tile folders: the right pixels at the right place, and one line for whatever is wrong with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from ros2_loc.core.geodesy import GeoOrigin, geodetic_from_mercator_px, metres_per_pixel, tile_from_geodetic
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.imagery.geotiff import geotiff_writer, read_window
from ros2_loc.io.imagery.mbtiles import open_mbtiles
from ros2_loc.io.imagery.open import ImageryOptions, open_imagery
from ros2_loc.io.imagery.pyramid import TilePyramid
from ros2_loc.io.imagery.raster_file import RasterFile
from ros2_loc.io.imagery.source import parse_crs
from ros2_loc.io.imagery.xyz import folder_pattern, open_xyz

CORNER, STEP = (456_000.0, 5_425_000.0), 0.5
LAT, LON, ZOOM = 48.9825, 8.3904, 17


def pixels(bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (bands, 40, 60), dtype=np.uint8)


def write(path: Path, data: np.ndarray, colours: list[ColorInterp] | None = None, **profile: Any) -> Path:
    """A GeoTIFF; GDAL takes a fourth band for alpha unless told otherwise."""
    georeference = {
        "alpha": "no" if colours and ALPHA not in colours else None,
        "crs": "EPSG:25832",
        "transform": rasterio.Affine(STEP, 0, CORNER[0], 0, -STEP, CORNER[1]),
    }
    profile = {k: v for k, v in {**georeference, **profile}.items() if v is not None}
    bands, height, width = data.shape
    with rasterio.open(path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=data.dtype, **profile) as file:
        if colours:
            file.colorinterp = colours
        file.write(data)
    return path


RED, GREEN, BLUE = ColorInterp.red, ColorInterp.green, ColorInterp.blue
GREY, ALPHA, OTHER = ColorInterp.gray, ColorInterp.alpha, ColorInterp.undefined


@pytest.mark.parametrize(
    ("colours", "wanted", "note"),
    [
        ([RED, GREEN, BLUE], (0, 1, 2), ""),
        ([GREY], (0, 0, 0), "grey"),
        ([GREY, ALPHA], (0, 0, 0), "grey"),
        ([RED, GREEN, BLUE, ALPHA], (0, 1, 2), ""),
        ([RED, GREEN, BLUE, OTHER], (0, 1, 2), ""),
        ([BLUE, GREEN, RED], (2, 1, 0), ""),
        ([OTHER, BLUE, GREEN, RED, OTHER], (3, 2, 1), ""),
        ([GREY, OTHER, OTHER, OTHER], (0, 1, 2), "fourth"),
    ],
)
def test_colours_by_their_meaning(tmp_path: Path, colours: list[ColorInterp], wanted: tuple[int, int, int], note: str) -> None:
    data = pixels(len(colours))
    if ALPHA in colours:
        data[-1] = 255
        data[-1, :10] = 0
    source = RasterFile(write(tmp_path / "a.tif", data, colours))
    rgb, alpha = source.window(5, 2, 30, 20)
    np.testing.assert_array_equal(rgb, np.moveaxis(data[list(wanted), 2:22, 5:35], 0, -1))
    assert (alpha[8:] == 255).all() and (alpha[:8] == (0 if ALPHA in colours else 255)).all()
    assert (note in " ".join(source.notes)) if note else not source.notes


def test_bands_can_be_named(tmp_path: Path) -> None:
    data = pixels(6)
    path = write(tmp_path / "six.tif", data, [GREY] + [OTHER] * 5)
    with pytest.raises(DataError, match=r"six.tif: has 6 bands.*--bands 3,2,1"):
        RasterFile(path)
    rgb, _ = RasterFile(path, bands=(5, 2, 1)).window(0, 0, 60, 40)
    np.testing.assert_array_equal(rgb, np.moveaxis(data[[4, 1, 0]], 0, -1))
    with pytest.raises(ConfigError, match=r"--bands 5,2,7: .*has 6 bands"):
        RasterFile(path, bands=(5, 2, 7))


def test_two_bands_that_are_no_grey_with_alpha_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 2 bands"):
        RasterFile(write(tmp_path / "two.tif", pixels(2), [GREY, OTHER]))


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    data = pixels(1) % 3
    path = tmp_path / "p.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=40,
        width=60,
        dtype="uint8",
        crs="EPSG:25832",
        transform=rasterio.Affine(1, 0, 9, 0, -1, 9),
    ) as file:
        file.write(data)
        file.write_colormap(1, {0: (9, 8, 7, 255), 1: (200, 100, 50, 255), 2: (1, 2, 3, 255)})
    rgb, alpha = RasterFile(path).window(0, 0, 60, 40)
    np.testing.assert_array_equal(rgb, np.array([[9, 8, 7], [200, 100, 50], [1, 2, 3]], np.uint8)[data[0]])
    assert (alpha == 255).all()


def test_no_data_values_and_masks_count(tmp_path: Path) -> None:
    data = pixels()
    data[:, :, :20] = 0
    _, alpha = RasterFile(write(tmp_path / "n.tif", data, nodata=0)).window(0, 0, 60, 40)
    assert not alpha[:, :20].any() and alpha[:, 20:].all()
    path = write(tmp_path / "m.tif", pixels())
    with rasterio.open(path, "r+") as file:
        mask = np.full((40, 60), 255, np.uint8)
        mask[30:] = 0
        file.write_mask(mask)
    _, alpha = RasterFile(path).window(0, 0, 60, 40)
    assert not alpha[30:].any() and alpha[:30].all()


def test_other_depths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"uint16 pixels.*-ot Byte"):
        RasterFile(write(tmp_path / "d.tif", pixels().astype(np.uint16)))


def test_where_it_lies_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no.tif: states no coordinate reference system.*--crs"):
        RasterFile(write(tmp_path / "no.tif", pixels(), crs=None))
    assert RasterFile(write(tmp_path / "own.tif", pixels()), crs="EPSG:3857").crs.to_epsg() == 25832  # what the file says counts
    assert RasterFile(tmp_path / "no.tif", crs="EPSG:32632").crs.to_epsg() == 32632
    with pytest.raises(DataError, match=r"does not say where it lies.*flat.tfw"):
        RasterFile(write(tmp_path / "flat.tif", pixels(), transform=None))
    with pytest.raises(DataError, match="local one"):
        RasterFile(write(tmp_path / "local.tif", pixels(), crs='LOCAL_CS["site",UNIT["metre",1]]'))
    with pytest.raises(ConfigError, match="'EPSG:1' is not a coordinate reference system"):
        RasterFile(tmp_path / "no.tif", crs="EPSG:1")


def test_a_picture_with_a_world_file(tmp_path: Path) -> None:
    """Rows may run to the north: the world file says so."""
    image = np.moveaxis(pixels(), 0, -1)
    cv2.imwrite(str(tmp_path / "plan.png"), image[..., ::-1])
    with pytest.raises(DataError, match=r"plan.pgw"):
        RasterFile(tmp_path / "plan.png", crs="EPSG:25832")
    (tmp_path / "plan.pgw").write_text("0.5\n0\n0\n0.5\n100.25\n200.25\n")
    source = RasterFile(tmp_path / "plan.png", crs="enu:48.98,8.39")
    np.testing.assert_allclose(source.crs_from_px, [[0.5, 0, 100.0], [0, 0.5, 200.0]])
    np.testing.assert_array_equal(source.window(0, 0, 60, 40)[0], image)


def test_ground_control_points(tmp_path: Path) -> None:
    def points(noise: float) -> list[GroundControlPoint]:
        rng = np.random.default_rng(0)
        places = [(r, c) for r in (0, 20, 40) for c in (0, 30, 60)]
        return [
            GroundControlPoint(r, c, CORNER[0] + STEP * c + 0.1 * r + rng.normal(0, noise), CORNER[1] - STEP * r + 0.1 * c)
            for r, c in places
        ]

    good = write(tmp_path / "g.tif", pixels(), crs="EPSG:25832", transform=None, gcps=points(0.0))
    source = RasterFile(good)
    np.testing.assert_allclose(source.crs_from_px, [[STEP, 0.1, CORNER[0]], [0.1, -STEP, CORNER[1]]], atol=1e-6)
    assert source.crs.to_epsg() == 25832
    with pytest.raises(DataError, match=r"control points miss by up to .* px.*gdalwarp"):
        RasterFile(write(tmp_path / "b.tif", pixels(), crs="EPSG:25832", transform=None, gcps=points(6.0)))


def test_what_is_no_raster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_text("hello")
    with pytest.raises(DataError, match="not imagery that GDAL reads"):
        RasterFile(tmp_path / "x.tif")
    with pytest.raises(DataError, match="no such file"):
        RasterFile(tmp_path / "y.tif")
    data = np.random.default_rng(0).integers(0, 255, (3, 600, 600), dtype=np.uint8)
    path = write(tmp_path / "cut.tif", data, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut.tif"):
        RasterFile(path).window(300, 300, 256, 256)


def test_provenance_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels())
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_COPYRIGHT="LGL, dl-de/by-2-0")
    facts = RasterFile(path).provenance()
    assert facts["crs"] == "EPSG:25832" and facts["attribution"] == "LGL, dl-de/by-2-0" and len(facts["sha256"]) == 64


def test_local_planes_and_names_are_reference_systems() -> None:
    assert parse_crs("EPSG:25832").to_epsg() == 25832
    assert parse_crs("enu:48.98,8.39").is_projected
    for wrong in ("EPSG:banana", "enu:48", "enu:a,b", ""):
        with pytest.raises(ConfigError, match="not a coordinate reference system"):
            parse_crs(wrong)


# --- our own GeoTIFF


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([1, 500, 513, 1300]), st.sampled_from([1, 512, 700]), st.floats(-80, 80), st.floats(0, 4000))
def test_our_geotiff_is_read_back_and_lies_where_it_should(tmp_path: Path, width: int, height: int, lat: float, alt: float) -> None:
    """Other programs find it by its georeference; that agrees with our own geodesy to a few millimetres."""
    from ros2_loc.mapping.tile_imagery import ImageryOnPlane

    origin = GeoOrigin(lat, 8.4, alt)
    rgb = np.full((height, width, 3), 77, np.uint8)
    rgb[0, 0] = (1, 2, 3)
    alpha = np.full((height, width), 255, np.uint8)
    alpha[-1, -1] = 0
    path = tmp_path / f"{width}_{height}.tif"
    with geotiff_writer(path, (width, height), (-300.0, 200.0), 0.5, origin) as writer:
        for row in range(0, height, 512):
            for column in range(0, width, 512):
                part = np.s_[row : row + 512, column : column + 512]
                writer.write(column, row, rgb[part], alpha[part])
    back, share = read_window(path, (0, 0, width, height))
    np.testing.assert_array_equal(back, rgb)
    np.testing.assert_array_equal(share, alpha)
    west, south, east, north = ImageryOnPlane(RasterFile(path), origin).bounds_m()
    np.testing.assert_allclose((west, south, east, north), (-300.0, 200.0 - height * 0.5, -300.0 + width * 0.5, 200.0), atol=0.005)


# --- pyramids of tiles


def tile(x: int, y: int, size: int = 256) -> np.ndarray:
    """Every pixel of the world has a colour of its own: which column and row it is."""
    columns, rows = x * size + np.arange(size), y * size + np.arange(size)
    image = np.zeros((size, size, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = columns % 251, (rows % 241)[:, None], (x + y) % 200
    return image


def place() -> tuple[int, int]:
    x, y = tile_from_geodetic(LAT, LON, ZOOM)
    return int(x), int(y)


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image[..., [2, 1, 0, *range(3, image.shape[2])]])[1].tobytes()


def write_tiles(folder: Path, rows_south: bool = False, skip: tuple[tuple[int, int], ...] = (), zoom: int = ZOOM) -> Path:
    """4 x 3 tiles."""
    x0, y0 = place()
    for i in range(4):
        for j in range(3):
            if (i, j) not in skip:
                row = 2**zoom - 1 - (y0 + j) if rows_south else y0 + j
                path = folder / str(zoom) / str(x0 + i) / f"{row}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(tile(x0 + i, y0 + j)))
    return folder


def write_mbtiles(path: Path, skip: tuple[tuple[int, int], ...] = (), **metadata: str) -> Path:
    x0, y0 = place()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE metadata (name text, value text)")
        connection.execute("CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob)")
        connection.executemany("INSERT INTO metadata VALUES (?, ?)", {"format": "png", "name": "test", **metadata}.items())
        rows = [(i, j) for i in range(4) for j in range(3) if (i, j) not in skip]
        connection.executemany(
            "INSERT INTO tiles VALUES (?, ?, ?, ?)",
            [(ZOOM, x0 + i, 2**ZOOM - 1 - (y0 + j), encoded(tile(x0 + i, y0 + j))) for i, j in rows],
        )
    connection.close()
    return path


def check_picture(source: TilePyramid) -> None:
    """Size, every pixel of a window across four tiles, and the place of its corner by core.geodesy."""
    x0, y0 = place()
    assert source.size_px == (1024, 768) and source.tile_px == 256
    rgb, alpha = source.window(200, 100, 300, 400)
    np.testing.assert_array_equal(rgb[..., 0], np.broadcast_to((x0 * 256 + 200 + np.arange(300)) % 251, (400, 300)))
    np.testing.assert_array_equal(rgb[..., 1], np.broadcast_to(((y0 * 256 + 100 + np.arange(400)) % 241)[:, None], (400, 300)))
    assert (alpha == 255).all()
    from pyproj import Transformer

    corner = source.crs_from_px @ [200.0, 100.0, 1.0]
    lon, lat = Transformer.from_crs(source.crs, "EPSG:4326", always_xy=True).transform(*corner)
    np.testing.assert_allclose((lat, lon), geodetic_from_mercator_px([x0 * 256 + 200, y0 * 256 + 100], ZOOM), atol=1e-9)


@pytest.mark.parametrize("kind", ["folder", "pattern", "tms pattern", "gdal2tiles", "metadata", "mbtiles"])
def test_pixels_of_every_kind_of_tiles(tmp_path: Path, kind: str) -> None:
    folder = write_tiles(tmp_path / "t", rows_south=kind in ("tms pattern", "gdal2tiles", "metadata"))
    if kind == "gdal2tiles":
        (folder / "tilemapresource.xml").write_text("<TileMap/>")
    if kind == "metadata":
        (folder / "metadata.json").write_text('{"scheme": "tms", "attribution": "Somebody"}')
    if kind == "mbtiles":
        source = open_mbtiles(write_mbtiles(tmp_path / "a.mbtiles", attribution="Somebody"), None, 0.2, None)
    else:
        patterns = {"pattern": f"{folder}/{{z}}/{{x}}/{{y}}.png", "tms pattern": f"{folder}/{{z}}/{{x}}/{{-y}}.png"}
        source = open_xyz(patterns.get(kind) or folder_pattern(folder), None, 0.2)
    check_picture(source)
    assert source.zoom == ZOOM and not source.notes
    if kind in ("metadata", "mbtiles"):
        assert source.provenance()["attribution"] == "Somebody"


@pytest.mark.parametrize("kind", ["folder", "mbtiles"])
def test_holes_are_counted_and_are_no_data(tmp_path: Path, kind: str) -> None:
    skip = ((1, 1), (3, 2))
    if kind == "folder":
        source = open_xyz(folder_pattern(write_tiles(tmp_path / "t", skip=skip)), None, 0.2)
    else:
        source = open_mbtiles(write_mbtiles(tmp_path / "a.mbtiles", skip=skip), None, 0.2, None)
    assert source.holes == 2 and "2 of 12 tiles of zoom 17 are missing" in source.notes[0]
    rgb, alpha = source.window(0, 0, *source.size_px)
    assert not alpha[256:512, 256:512].any() and not rgb[256:512, 256:512].any()
    assert alpha.sum() == 255 * 10 * 256 * 256


def test_only_what_is_wanted_is_opened(tmp_path: Path) -> None:
    x0, y0 = place()
    (south, north), (west, east) = zip(
        *[geodetic_from_mercator_px([256 * (x0 + a) + b, 256 * (y0 + c) + b], ZOOM) for a, b, c in ((1, 9, 1), (2, -9, 1))], strict=True
    )
    box = (min(south, north), min(west, east), max(south, north), max(west, east))
    source = open_xyz(folder_pattern(write_tiles(tmp_path / "t")), None, 0.2, box)
    assert source.size_px[0] == 256
    with pytest.raises(DataError, match="no tile of zoom 17 there"):
        open_xyz(folder_pattern(tmp_path / "t"), None, 0.2, (10.0, 10.0, 10.1, 10.1))


def test_the_zoom_is_as_fine_as_the_tiles_or_as_asked(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    for zoom in (15, 16, 17):
        x, y = (int(v) for v in tile_from_geodetic(LAT, LON, zoom))
        (folder / str(zoom) / str(x)).mkdir(parents=True)
        (folder / str(zoom) / str(x) / f"{y}.png").write_bytes(encoded(tile(x, y)))
    pattern = folder_pattern(folder)
    assert open_xyz(pattern, None, 0.2).zoom == 17  # none is fine enough: the finest
    assert open_xyz(pattern, None, float(metres_per_pixel(LAT, 16))).zoom == 16
    assert open_xyz(pattern, None, 100.0).zoom == 15
    assert open_xyz(pattern, 15, 0.2).zoom == 15
    with pytest.raises(ConfigError, match=r"--zoom 19: .* has zoom 15, 16, 17"):
        open_xyz(pattern, 19, 0.2)


def test_alpha_grey_and_large_tiles(tmp_path: Path) -> None:
    x, y = place()
    path = tmp_path / "t" / str(ZOOM) / str(x) / f"{y}.png"
    path.parent.mkdir(parents=True)
    image = np.dstack([tile(x, y, 512), np.full((512, 512), 255, np.uint8)])
    image[:100, :, 3] = 0
    path.write_bytes(encoded(image))
    source = open_xyz(folder_pattern(tmp_path / "t"), None, 0.2)
    rgb, alpha = source.window(0, 0, 512, 512)
    assert source.tile_px == 512 and not alpha[:100].any() and (alpha[100:] == 255).all()
    np.testing.assert_array_equal(rgb, image[..., :3])
    path.write_bytes(cv2.imencode(".png", image[..., 0])[1].tobytes())
    rgb, _ = open_xyz(folder_pattern(tmp_path / "t"), None, 0.2).window(0, 0, 9, 9)
    assert (rgb == image[:9, :9, :1]).all()


def test_broken_tiles_are_named(tmp_path: Path) -> None:
    folder = write_tiles(tmp_path / "t")
    x, y = place()
    (folder / str(ZOOM) / str(x + 1) / f"{y}.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=rf"tile {ZOOM}/{x + 1}/{y} is not an 8-bit image"):
        open_xyz(folder_pattern(folder), None, 0.2).window(0, 0, 1024, 768)
    (folder / str(ZOOM) / str(x + 1) / f"{y}.png").write_bytes(encoded(tile(x, y, 128)))
    with pytest.raises(DataError, match="128 px wide, the others 256"):
        open_xyz(folder_pattern(folder), None, 0.2).window(0, 0, 1024, 768)


def broken(path: Path) -> dict[str, Callable[[], object]]:
    options = ImageryOptions(0.2)
    (path / "empty").mkdir()
    (path / "mixed" / "1" / "0").mkdir(parents=True)
    for name in ("0.png", "1.jpg"):
        (path / "mixed" / "1" / "0" / name).write_bytes(b"x")
    (path / "text.mbtiles").write_text("not a database, but long enough to be looked at" * 9)
    write_mbtiles(path / "vector.mbtiles", format="pbf")
    with sqlite3.connect(path / "bare.mbtiles") as connection:
        connection.execute("CREATE TABLE other (a)")
    connection.close()
    return {source: lambda source=source: open_imagery([str(path / source)], options) for source in BROKEN}


BROKEN = {
    "empty": "holds no tiles",
    "mixed": "several kinds",
    "text.mbtiles": "not an MBTiles file",
    "vector.mbtiles": "vector tiles",
    "bare.mbtiles": "not an MBTiles file",
    "nowhere.tif": "no such file",
    "nowhere/{z}/{x}/{y}.png": "no such folder",
    "empty/{z}/{x}/{y}.png": "holds no tiles",
}


@pytest.mark.parametrize("source", BROKEN)
def test_what_can_not_be_opened_is_said_in_one_line(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match=BROKEN[source]) as caught:
        broken(tmp_path)[source]()
    assert "\n" not in str(caught.value) and source.split("/")[0] in str(caught.value)


def test_a_folder_of_geotiffs_is_as_many_sources(tmp_path: Path) -> None:
    for k in range(3):
        write(tmp_path / f"{k}.tif", pixels(seed=k))
    assert [Path(s.name).name for s in open_imagery([str(tmp_path)], ImageryOptions(0.2))] == ["0.tif", "1.tif", "2.tif"]


def test_a_server_needs_bounds_and_a_template() -> None:
    with pytest.raises(ConfigError, match="--bounds SOUTH WEST NORTH EAST"):
        open_imagery(["https://tiles.invalid/{z}/{x}/{y}.png"], ImageryOptions(0.2))
    with pytest.raises(ConfigError, match=r"has \{z\}, \{x\} and \{y\}"):
        open_imagery(["https://tiles.invalid/all.tif"], ImageryOptions(0.2))
