"""`ros2-loc tiles` as a user calls it: builds of every kind of source, what is said about them, one line for what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import yaml
from pyproj import Transformer

from ros2_loc import registry
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic, geodetic_from_enu, tile_from_geodetic
from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.types import TileDescriptors
from ros2_loc.io.images import read_image
from ros2_loc.mapping.sparse_map import FORMAT_VERSION
from ros2_loc.mapping.tile_database import TileDatabase

ORIGIN = GeoOrigin(48.9825, 8.3904, 115.0)
CUT = ("--size", 40, "--metres-per-px", 0.5, "--spacing", 10)


class FakeEncoder:
    """Two cells of brightness."""

    name, fingerprint = "fake", "fake:0123456789abcdef"
    grid, tile_px = OverheadGrid(2, 10.0, 0), 20

    def encode_tiles(self, images: np.ndarray) -> TileDescriptors:
        cells = images.reshape(len(images), 2, 10, 2, 10, 3).mean(axis=(2, 4, 5))[:, None] + 1.0
        features = cells / np.sqrt((cells**2).sum(axis=(1, 2, 3), keepdims=True))
        return TileDescriptors(features.astype(np.float32), np.ones((len(images), 1, 1), np.float32), self.fingerprint)


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    encoder = FakeEncoder()
    monkeypatch.setattr(registry, "create", lambda kind, section, device="cpu": encoder)
    return encoder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An orthophoto in UTM, 120 m across, around ORIGIN: red where east > 0, green where north > 0."""
    path = tmp_path_factory.mktemp("photo") / "photo.tif"
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True).transform(ORIGIN.lon_deg, ORIGIN.lat_deg)
    columns, rows = np.meshgrid((np.arange(240) + 0.5) * 0.5 - 60, 60 - (np.arange(240) + 0.5) * 0.5)
    data = np.stack([np.where(columns > 0, 250, 20), np.where(rows > 0, 250, 20), np.full_like(rows, 90)]).astype(np.uint8)
    profile = {
        "count": 3,
        "width": 240,
        "height": 240,
        "dtype": "uint8",
        "crs": "EPSG:25832",
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    }
    with rasterio.open(path, "w", driver="GTiff", transform=rasterio.Affine(0.5, 0, x - 60, 0, -0.5, y + 60), **profile) as file:
        file.write(data)
        file.update_tags(TIFFTAG_COPYRIGHT="the surveyors")
    return path


def write_frame(folder: Path, origin: GeoOrigin | None) -> Path:
    """What of a map says where it lies: its places are at its origin."""
    folder.mkdir()
    place = None if origin is None else asdict(origin)
    meta = {"format_version": FORMAT_VERSION, "origin": place, "enu_from_map": np.eye(4).tolist()}
    (folder / "map.yaml").write_text(yaml.safe_dump(meta))
    np.savez(folder / "places.npz", map_from_base=np.eye(4)[None])
    return folder


def origin_words() -> tuple[object, ...]:
    return ("--origin", ORIGIN.lat_deg, ORIGIN.lon_deg, ORIGIN.alt_m)


@pytest.fixture
def built(call: Callable, photo: Path, fake_encoder: FakeEncoder, tmp_path: Path) -> Path:
    said = call("tiles", "build", photo, "--out", tmp_path / "t", "--spacing", 10, *origin_words())
    assert said.code == 0, said.err
    return tmp_path / "t"


def test_build_says_what_it_made(call: Callable, built: Path) -> None:
    tiles = TileDatabase.load(built)
    assert tiles.origin == ORIGIN and tiles.layout.size_px == 20 and tiles.layout.metres_per_px == 1.0
    image = tiles.tile(int(tiles.nearest([0.0, 0.0]))).image
    assert image[2, 2].tolist() == [20, 250, 90] and image[-3, -3].tolist() == [250, 20, 90]  # north-west, south-east
    said = call("tiles", "info", built)
    assert said.code == 0 and f"{built}: {len(tiles)}" in said.out
    for words in (
        "20 px of 1 m",
        "every 10 m",
        "48.9825000 8.3904000 115.0 m",
        "1x2x2 float16",
        "in memory per tile",
        "fake:0123456789ab",
        "EPSG:25832",
    ):
        assert words in said.out, words
    assert "the surveyors" in said.out


def test_check_of_good_tiles(call: Callable, built: Path) -> None:
    said = call("tiles", "check", built)
    assert said.code == 1 and "places between tiles are never looked at" in said.out  # an encoder without shifts
    meta = yaml.safe_load((built / "tiles.yaml").read_text())
    assert said.out.splitlines()[-1] == "verdict: not usable, 1 thing wrong" and meta["encoder"].startswith("fake")


def test_check_finds_damage_holes_and_another_origin(call: Callable, photo: Path, tmp_path: Path) -> None:
    with rasterio.open(photo) as source:
        data, profile = source.read(), source.profile
    data[:, 100:140, 100:140] = 0
    with rasterio.open(tmp_path / "holes.tif", "w", **{**profile, "nodata": 0}) as file:
        file.write(data)
    cut = ("--size", 10, "--metres-per-px", 1, "--spacing", 5, "--min-valid", 0.9)
    assert call("tiles", "build", tmp_path / "holes.tif", "--out", tmp_path / "t", "--no-descriptors", *cut).code == 0
    said = call("tiles", "check", tmp_path / "t")
    assert said.code == 0 and "places inside without a tile" in said.out and said.out.endswith("verdict: usable, 2 notes\n")
    said = call("tiles", "check", tmp_path / "t", "--map", write_frame(tmp_path / "m", GeoOrigin(48.0, 8.0)))
    assert said.code == 1 and "none of its places lies on the tiles" in said.out
    said = call("tiles", "check", tmp_path / "t", "--map", write_frame(tmp_path / "n", GeoOrigin(48.9828, 8.3904)))
    assert said.code == 0 and "tiles build ... --map" in said.out
    (tmp_path / "t" / "tiles.npz").write_bytes(b"x")
    said = call("tiles", "check", tmp_path / "t")
    assert said.code == 1 and "tiles.npz: differs from its checksum" in said.out and "verdict: not usable, 1 thing wrong" in said.out


def test_check_finds_black_imagery_that_counts_as_known(call: Callable, photo: Path, tmp_path: Path) -> None:
    with rasterio.open(photo) as source:
        data, profile = source.read(), source.profile
    data[:, :, :120] = 0
    with rasterio.open(tmp_path / "b.tif", "w", **profile) as file:
        file.write(data)
    call("tiles", "build", tmp_path / "b.tif", "--out", tmp_path / "t", "--no-descriptors", *CUT)
    assert "is black though it counts as known" in call("tiles", "check", tmp_path / "t").out


def test_the_origin_of_a_map(call: Callable, photo: Path, tmp_path: Path) -> None:
    folder = write_frame(tmp_path / "m", GeoOrigin(48.9826, 8.3905, 115.0))
    assert call("tiles", "build", photo, "--out", tmp_path / "t", "--map", folder, "--no-descriptors", *CUT).code == 0
    tiles = TileDatabase.load(tmp_path / "t")
    assert tiles.origin == GeoOrigin(48.9826, 8.3905, 115.0)
    middle = enu_from_geodetic(tiles.origin, ORIGIN.lat_deg, ORIGIN.lon_deg, 115.0)[:2]
    rgb, _ = tiles.mosaic.crop(middle, 20, 0.5)
    assert rgb[2, 2].tolist() == [20, 250, 90] and rgb[-3, -3].tolist() == [250, 20, 90]
    assert "has their origin" in call("tiles", "check", tmp_path / "t", "--map", folder).out
    said = call("tiles", "build", photo, "--out", tmp_path / "u", "--map", write_frame(tmp_path / "n", None), "--no-descriptors")
    assert said.code == 2 and "not georeferenced" in said.err


@pytest.mark.parametrize("how", ["geodetic", "enu"])
def test_a_part_only(call: Callable, photo: Path, tmp_path: Path, how: str) -> None:
    lat, lon, _ = geodetic_from_enu(ORIGIN, [[-30.0, -20.0, 0.0], [25.0, 10.0, 0.0]])
    words = ("--bounds", lat[0], lon[0], lat[1], lon[1]) if how == "geodetic" else ("--bounds-enu", -30, -20, 25, 10)
    said = call("tiles", "build", photo, "--out", tmp_path / "t", "--no-descriptors", *CUT, *origin_words(), *words)
    assert said.code == 0, said.err
    tiles = TileDatabase.load(tmp_path / "t")
    np.testing.assert_allclose(tiles.bounds_m, (-40, -30, 35, 20), atol=0.51)  # half a tile more, for those at the edge
    assert (tiles.centres_m.min(axis=0) == (-30, -20)).all() and (tiles.centres_m.max(axis=0) == (20, 10)).all() and len(tiles) == 6 * 4
    assert all(tiles.mosaic.crop(centre, 40, 0.5)[1].all() for centre in tiles.centres_m)


def test_show_draws_the_tile_and_the_area(call: Callable, built: Path, tmp_path: Path) -> None:
    said = call("tiles", "show", built, ORIGIN.lat_deg, ORIGIN.lon_deg, "--out", tmp_path / "tile.png")
    assert said.code == 0 and "centre east 0.0, north 0.0 m" in said.out and "100% of the tile is known" in said.out
    picture = read_image(tmp_path / "tile.png")
    red = (picture == (250, 20, 90)).all(axis=-1)
    green = (picture == (20, 250, 90)).all(axis=-1)
    assert red.sum() > 5000 and np.argwhere(red)[:, 1].mean() > np.argwhere(green)[:, 1].mean()  # east is on the right
    assert np.argwhere(red)[:, 0].mean() > np.argwhere(green)[:, 0].mean()  # north is up
    call("tiles", "show", built, "--enu", 0, 0, "--heading", -90, "--out", tmp_path / "turned.png")
    turned = read_image(tmp_path / "turned.png")
    red, green = ((turned == colour).all(axis=-1) for colour in ((250, 20, 90), (20, 250, 90)))
    assert np.argwhere(red)[:, 0].mean() < np.argwhere(green)[:, 0].mean()  # south is up
    assert call("tiles", "show", built, "--out", tmp_path / "area.png").code == 0
    assert read_image(tmp_path / "area.png").std() > 20


def test_show_of_a_place_without_a_tile(call: Callable, built: Path) -> None:
    said = call("tiles", "show", built, 48.99, 8.3904)
    assert said.code == 1 and "no tile at" in said.err and "m away" in said.err and said.err.count("\n") == 1
    assert call("tiles", "show", built, 48.99).code == 2
    assert "swapped" in call("tiles", "show", built, 148.99, 8.4).err


def test_encode_makes_old_tiles_fit_a_new_encoder(call: Callable, built: Path, fake_encoder: FakeEncoder) -> None:
    fake_encoder.fingerprint = "fake:new"
    said = call("tiles", "check", built, "--pipeline", "cross_view")
    assert said.code == 1 and "the tiles were encoded by fake:0123456789abcdef" in said.out
    assert call("tiles", "encode", built).code == 0
    assert "ok   encoder" in call("tiles", "check", built, "--pipeline", "cross_view").out


def test_a_town(call: Callable, tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    said = call("tiles", "build", "town:5:small", "--out", tmp_path / "t", "--spacing", 10)
    assert said.code == 0, said.err
    from ros2_loc.world.layout import TownSize
    from ros2_loc.world.town import Town

    town = Town.generate(5, TownSize.small())
    tiles = TileDatabase.load(tmp_path / "t")
    assert tiles.origin == town.origin and tiles.bounds_m == pytest.approx(town.bounds_m, abs=0.3)
    for wrong in ("town:x", "town:5:giant"):
        said = call("tiles", "build", wrong, "--out", tmp_path / "u")
        assert said.code == 2 and "town:SEED:district" in said.err
    said = call("tiles", "build", "town:5:small", "--out", tmp_path / "u", "--origin", 10, 10)
    assert said.code == 2 and "leave --origin and --map away" in said.err


def test_a_folder_of_tiles_with_holes(call: Callable, tmp_path: Path) -> None:
    x, y = (int(v) for v in tile_from_geodetic(ORIGIN.lat_deg, ORIGIN.lon_deg, 18))
    for i in range(3):
        for j in range(3):
            if (i, j) != (1, 1):
                path = tmp_path / "xyz" / "18" / str(x + i) / f"{y + j}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((256, 256, 3), (30 + 80 * j, 30 + 80 * i, 200), np.uint8))
    said = call("tiles", "build", tmp_path / "xyz", "--out", tmp_path / "t", "--no-descriptors", *CUT)
    assert said.code == 0 and "note: " in said.out and "1 of 9 tiles of zoom 18 are missing" in said.out
    tiles = TileDatabase.load(tmp_path / "t")
    west, south, east, north = tiles.bounds_m
    assert east - west == pytest.approx(3 * 256 * 0.597 * np.cos(np.radians(ORIGIN.lat_deg)), rel=0.02)  # not the 459 m of the equator
    assert not tiles.mosaic.crop(((west + east) / 2, (south + north) / 2), 20, 1.0)[1].any()
    assert "places inside without a tile" in call("tiles", "check", tmp_path / "t").out
    assert "zoom 18, 8 tiles, 1 missing" in call("tiles", "info", tmp_path / "t").out


WRONG = [
    (["{photo}", "--bounds", 10, 10, 11, 11], 1, "outside of the imagery"),
    (["{photo}", "--bounds", 49, 8, 48, 9], 2, "give south, west, north, east"),
    (["{photo}", "--bounds-enu", 0, 0, 10, 10], 2, "counts from the origin"),
    (["{photo}", "--origin", 1], 2, "give latitude, longitude"),
    (["{photo}", "--origin", 95, 8], 1, "is not a place"),
    (["{photo}", "--bands", "1,2"], 2, "give three numbers"),
    (["{photo}", "--bands", "1,2,9"], 2, "has 3 bands"),
    (["{photo}", "--min-valid", 2], 2, "min_valid in (0, 1]"),
    (["{photo}", "--size", 4000], 1, "holds no tile of 800 m"),
    (["nowhere.tif"], 1, "no such file"),
    (["{photo}", "nowhere.mbtiles"], 1, "nowhere.mbtiles"),
    (["https://127.0.0.1:9/{z}/{x}/{y}.png"], 2, "--bounds SOUTH WEST NORTH EAST"),
    (["town:3", "{photo}"], 2, "is the only source"),
    (["{photo}", "--map", "nowhere"], 1, "is not a map"),
]


@pytest.mark.parametrize(("words", "code", "expected"), WRONG, ids=lambda value: str(value) if isinstance(value, str) else None)
def test_what_is_wrong_is_one_line(call: Callable, photo: Path, tmp_path: Path, words: list[object], code: int, expected: str) -> None:
    filled = [str(photo) if word == "{photo}" else word for word in words]
    said = call("tiles", "build", *filled, "--out", tmp_path / "t", "--no-descriptors", *(() if "--size" in words else CUT))
    assert (said.code, said.err.count("\n")) == (code, 1) and expected in said.err, said.err
    assert not (tmp_path / "t").exists()


def test_tiles_that_do_not_fit_the_encoder(call: Callable, photo: Path, tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    said = call("tiles", "build", photo, "--out", tmp_path / "t", "--size", 64)
    assert said.code == 2 and "fake looks at 20.0 m" in said.err and "--no-descriptors" in said.err


def test_nothing_is_overwritten_unasked(call: Callable, built: Path, photo: Path) -> None:
    said = call("tiles", "build", photo, "--out", built)
    assert said.code == 1 and "exists already" in said.err
    assert call("tiles", "build", photo, "--out", built, "--overwrite").code == 0


@pytest.mark.parametrize("verb", ["info", "check", "show", "encode"])
def test_a_folder_that_holds_no_tiles(call: Callable, tmp_path: Path, verb: str) -> None:
    said = call("tiles", verb, tmp_path)
    assert said.code == 1 and "holds no tiles" in said.out + said.err
