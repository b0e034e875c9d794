"""Tiles: where they lie, which are found, what comes back from the disk, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.geodesy import GeoOrigin, geodetic_from_enu
from ros2_loc.core.types import TileDescriptors
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.mapping.tile_database import TileDatabase, TileLayout
from ros2_loc.mapping.tile_layout import valid_share
from ros2_loc.retrieval.tile_index import TileIndex

ORIGIN = GeoOrigin(49.0, 8.4, 115.0)
LAYOUT = TileLayout(metres_per_px=0.5, size_px=40, spacing_m=5.0)


def mosaic(width: int = 260, height: int = 200, hole: bool = True) -> Mosaic:
    """Noise of 0.4 m pixels, its south-west quarter missing."""
    rgb = np.random.default_rng(3).integers(1, 255, (height, width, 3), dtype=np.uint8)
    valid = np.ones((height, width), bool)
    if hole:
        valid[height // 2 :, : width // 2] = False
        rgb[~valid] = 0
    return Mosaic(rgb, valid, -41.3, 39.9, 0.4)


@pytest.fixture(scope="module")
def tiles() -> TileDatabase:
    return TileDatabase.build(mosaic(), ORIGIN, LAYOUT, {"sources": [{"name": "noise"}]})


@pytest.fixture(scope="module")
def described(tiles: TileDatabase) -> TileDatabase:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(len(tiles), 3, 4, 4)).astype(np.float32)
    features /= np.linalg.norm(features.reshape(len(tiles), -1), axis=1)[:, None, None, None]
    uncertainty = rng.uniform(0.1, 1.0, (len(tiles), 3, 3)).astype(np.float32)
    return tiles.with_descriptors(TileDescriptors(features.astype(np.float16), uncertainty, "fake:1234"))


def test_tiles_lie_where_enough_is_known(tiles: TileDatabase) -> None:
    """Every place of the lattice, by counting pixels of the mask."""
    source = mosaic()
    wanted = []
    for north in range(40, -50, -5):
        for east in range(-45, 70, 5):
            _, valid = Mosaic(source.rgb, source.valid, source.west_m, source.north_m, 0.4).crop((east, north), 50, 0.4)
            share = valid.mean()
            if abs(share - 0.5) > 0.02:
                wanted.append(((east, north), share > 0.5))
    have = {tuple(c) for c in tiles.centres_m.astype(int)}
    assert len(wanted) > 200 and 30 < len(have) < len(wanted)
    assert all((place in have) == known for place, known in wanted)
    assert (np.diff(tiles.centres_m[:, 1]) <= 0).all()  # from north to south


@given(st.floats(-60, 80), st.floats(-60, 60), st.sampled_from([4.0, 16.0, 40.0]))
def test_valid_share_is_the_share_of_the_area(east: float, north: float, side: float) -> None:
    """A rectangle of known ground: the share has a closed form."""
    known = Mosaic(np.zeros((100, 150, 3), np.uint8), np.ones((100, 150), bool), -30.0, 20.0, 0.4)
    overlap = [max(0.0, min(c + side / 2, high) - max(c - side / 2, low)) for c, low, high in ((east, -30, 30), (north, -20, 20))]
    share = valid_share(known, np.array([[east, north]]), side)[0]
    assert share == pytest.approx(overlap[0] * overlap[1] / side**2, abs=0.02)


def test_min_valid_keeps_and_drops_the_edge() -> None:
    whole = TileDatabase.build(mosaic(hole=False), ORIGIN, TileLayout(0.5, 40, 5.0, min_valid=1.0), {})
    west, south, east, north = whole.bounds_m
    assert whole.centres_m[:, 0].min() - 10 >= west - 1e-6 and whole.centres_m[:, 1].max() + 10 <= north + 1e-6
    loose = TileDatabase.build(mosaic(hole=False), ORIGIN, TileLayout(0.5, 40, 5.0, min_valid=0.2), {})
    assert len(loose) > len(whole) and east - west == pytest.approx(104.0) and north - south == pytest.approx(80.0)


@given(st.floats(-70, 90), st.floats(-70, 70), st.floats(0, 60))
def test_within_near_nearest_and_covers_agree_with_brute_force(tiles: TileDatabase, east: float, north: float, radius: float) -> None:
    place = np.array([east, north])
    distance = np.linalg.norm(tiles.centres_m - place, axis=1)
    clear = np.abs(distance - radius) > 1e-6
    found = np.isin(np.arange(len(tiles)), tiles.within(place, radius))
    np.testing.assert_array_equal(found[clear], (distance <= radius)[clear])
    box = (east - radius, north - 7.0, east + 3.0, north + radius)
    for slack, compare in ((-1e-6, np.isin), (1e-6, lambda wanted, found: np.isin(found, wanted))):  # an edge may be in or out
        low, high = np.array(box[:2]) - slack, np.array(box[2:]) + slack
        wanted = np.flatnonzero(((tiles.centres_m >= low) & (tiles.centres_m <= high)).all(axis=1))
        assert compare(wanted, tiles.near(box)).all()
    per_axis = np.abs(tiles.centres_m - place).max(axis=1)
    if abs(per_axis.min() - 2.5) > 1e-6:
        assert bool(tiles.covers(place)) == (per_axis.min() < 2.5)
        assert int(tiles.nearest(place)) == (int(per_axis.argmin()) if per_axis.min() < 2.5 else -1)


def test_covers_takes_any_shape(tiles: TileDatabase) -> None:
    points = np.array([[[0.0, 20.0], [900.0, 0.0]], [[30.0, 10.0], [-30.0, -30.0]]])
    np.testing.assert_array_equal(tiles.covers(points), [[True, False], [True, False]])
    assert tiles.covers(np.zeros((0, 2))).shape == (0,)


def test_a_tile_is_a_crop_with_its_place(tiles: TileDatabase) -> None:
    tile = tiles.tile(7)
    east, north = tiles.centres_m[7]
    assert tile.id == 7 and tile.bounds_m == (east - 10, north - 10, east + 10, north + 10) and tile.metres_per_px == 0.5
    np.testing.assert_array_equal(tile.image, mosaic().crop((east, north), 40, 0.5)[0])
    turned = tiles.tile(7, heading_rad=0.0).image
    assert np.abs(turned.astype(int) - np.rot90(tile.image)).mean() < 2


def test_what_is_saved_comes_back(described: TileDatabase, tmp_path: Path) -> None:
    described.save(tmp_path / "t")
    loaded = TileDatabase.load(tmp_path / "t")
    assert {p.name for p in (tmp_path / "t").iterdir()} == {"tiles.yaml", "imagery.tif", "tiles.npz", "descriptors.npz", "index.faiss"}
    np.testing.assert_array_equal(loaded.centres_m, described.centres_m)
    assert (loaded.origin, loaded.layout, loaded.provenance) == (ORIGIN, LAYOUT, described.provenance)
    assert loaded.bounds_m == pytest.approx(described.bounds_m)
    assert loaded.descriptors is not None and described.descriptors is not None and loaded.descriptors.encoder == "fake:1234"
    np.testing.assert_array_equal(loaded.descriptors.features, described.descriptors.features)
    np.testing.assert_array_equal(loaded.descriptors.uncertainty, described.descriptors.uncertainty)
    whole = loaded.mosaic.load()  # type: ignore[union-attr]
    np.testing.assert_array_equal(whole.rgb, mosaic().rgb)
    np.testing.assert_array_equal(whole.valid, mosaic().valid)
    for index in (0, 11, len(loaded) - 1):
        np.testing.assert_array_equal(loaded.tile(index).image, described.tile(index).image)
    index = TileIndex.load(tmp_path / "t" / "index.faiss")
    assert index.search(described.descriptors.features[5], 3)[0].source == 5


def test_windows_of_the_file_are_those_of_the_memory(tiles: TileDatabase, tmp_path: Path) -> None:
    """Also where the crop is much coarser, turned, and over the edge: smaller copies in the file may not shift it."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (75, 90, 3), dtype=np.uint8)
    rgb = small.repeat(16, axis=0).repeat(16, axis=1)
    valid = np.ones(rgb.shape[:2], bool)
    valid[300:500, 400:900], rgb[300:500, 400:900] = False, 0
    big = Mosaic(rgb, valid, -100.0, 80.0, 0.2)
    TileDatabase.build(big, ORIGIN, TileLayout(0.8, 64, 10.0), {}).save(tmp_path / "t")
    stored = TileDatabase.load(tmp_path / "t").mosaic
    for centre, size, px, yaw in (
        ((-60, 0), 64, 0.2, None),
        ((-90, 70), 64, 0.8, 0.3),
        ((20, -30), 100, 1.6, 2.0),
        ((44, -40), 90, 3.2, None),
    ):
        (a, known_a), (b, known_b) = big.crop(centre, size, px, yaw), stored.crop(centre, size, px, yaw)
        assert (known_a != known_b).mean() < 0.01
        both = known_a & known_b
        assert np.abs(a[both].astype(int) - b[both]).mean() < 1.0, (centre, px)


@pytest.mark.parametrize("name", ["tiles.yaml", "imagery.tif", "tiles.npz", "descriptors.npz", "index.faiss"])
def test_missing_and_damaged_files_are_named(described: TileDatabase, tmp_path: Path, name: str) -> None:
    described.save(tmp_path / "t")
    path = tmp_path / "t" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"tiles\.yaml|" + name):
        TileDatabase.load(tmp_path / "t")
    path.unlink()
    with pytest.raises(DataError, match=name):
        TileDatabase.load(tmp_path / "t")


def test_without_imagery_tiles_can_be_found_but_not_shown(described: TileDatabase, tmp_path: Path) -> None:
    described.save(tmp_path / "t")
    (tmp_path / "t" / "imagery.tif").unlink()
    tiles = TileDatabase.load(tmp_path / "t", mosaic=False)
    assert len(tiles.within((20.0, 20.0), 10.0)) > 3
    with pytest.raises(DataError, match=r"imagery.tif.*again"):
        tiles.tile(0)


def test_other_versions_contradictions_and_pickles_are_refused(described: TileDatabase, tmp_path: Path) -> None:
    described.save(tmp_path / "t")
    path = tmp_path / "t" / "tiles.yaml"
    meta = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**meta, "format_version": 9}))
    with pytest.raises(DataError, match="version 9"):
        TileDatabase.load(tmp_path / "t")
    path.write_text(yaml.safe_dump({**meta, "layout": {**meta["layout"], "spacing_m": 7.0}}))
    with pytest.raises(DataError, match="7.0 m apart"):
        TileDatabase.load(tmp_path / "t")
    path.write_text(yaml.safe_dump({**meta, "origin": {"lat": 3}}))
    with pytest.raises(DataError, match="contradict"):
        TileDatabase.load(tmp_path / "t")
    path.write_text(yaml.safe_dump(meta))
    np.savez(tmp_path / "t" / "tiles.npz", centres_m=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(DataError, match=r"tiles.npz"):
        TileDatabase.load(tmp_path / "t", verify=False)
    with pytest.raises(DataError, match="holds no tiles"):
        TileDatabase.load(tmp_path)


def test_nothing_is_overwritten_unasked(tiles: TileDatabase, described: TileDatabase, tmp_path: Path) -> None:
    tiles.save(tmp_path / "t")
    with pytest.raises(DataError, match="exists already"):
        described.save(tmp_path / "t")
    described.save(tmp_path / "t", overwrite=True)
    loaded = TileDatabase.load(tmp_path / "t")
    loaded.save(tmp_path / "t", overwrite=True)  # onto itself: the imagery that it reads by windows must survive
    np.testing.assert_array_equal(TileDatabase.load(tmp_path / "t").tile(3).image, tiles.tile(3).image)


def test_a_copy_stands_alone(described: TileDatabase, tmp_path: Path) -> None:
    described.save(tmp_path / "a")
    TileDatabase.load(tmp_path / "a").save(tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    np.testing.assert_array_equal(TileDatabase.load(tmp_path / "b").tile(3).image, described.tile(3).image)


def test_imagery_without_a_tile_is_refused() -> None:
    nothing = Mosaic(np.zeros((50, 50, 3), np.uint8), np.zeros((50, 50), bool), 0.0, 0.0, 0.4)
    with pytest.raises(DataError, match="holds no tile of 20 m"):
        TileDatabase.build(nothing, ORIGIN, LAYOUT, {})


def test_descriptors_of_other_tiles_are_refused(tiles: TileDatabase, described: TileDatabase) -> None:
    assert described.descriptors is not None
    some = described.descriptors
    with pytest.raises(DataError, match="encode the tiles again"):
        tiles.with_descriptors(TileDescriptors(some.features[:-1], some.uncertainty[:-1], some.encoder))


def test_another_encoder_is_refused_by_name(tiles: TileDatabase, described: TileDatabase) -> None:
    described.require_encoder(SimpleNamespace(fingerprint="fake:1234"))
    with pytest.raises(ConfigError, match=r"fake:1234.*other:99.*tiles encode"):
        described.require_encoder(SimpleNamespace(fingerprint="other:99"))
    with pytest.raises(ConfigError, match=r"no descriptors.*other:99"):
        tiles.require_encoder(SimpleNamespace(fingerprint="other:99"))
    with pytest.raises(ConfigError, match="no descriptors"):
        tiles.index()


@given(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02), st.floats(-0.02, 0.02))
def test_a_map_must_have_the_same_origin_to_a_centimetre(tiles: TileDatabase, east: float, north: float, up: float) -> None:
    lat, lon, alt = (float(v) for v in geodetic_from_enu(ORIGIN, [east, north, up]))
    sparse_map = SimpleNamespace(folder=Path("city_map"), origin=GeoOrigin(lat, lon, alt))
    apart = float(np.linalg.norm([east, north, up]))
    if apart < 0.0099:
        tiles.require_same_origin(sparse_map)  # type: ignore[arg-type]
    elif apart > 0.0101:
        with pytest.raises(ConfigError, match=r"tiles build \.\.\. --map city_map"):
            tiles.require_same_origin(sparse_map)  # type: ignore[arg-type]


def test_a_real_map_without_place_on_earth_is_refused(tiles: TileDatabase, town_map: SparseMap) -> None:
    if town_map.origin is None:
        with pytest.raises(ConfigError, match="not georeferenced"):
            tiles.require_same_origin(town_map)
    else:
        with pytest.raises(ConfigError, match="its origin lies"):
            tiles.require_same_origin(town_map)


@pytest.mark.parametrize("values", [{"spacing_m": 0.0}, {"size_px": 0}, {"metres_per_px": -1.0}, {"min_valid": 0.0}, {"min_valid": 1.1}])
def test_a_layout_without_tiles_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="tiles need"):
        TileLayout(**values)  # type: ignore[arg-type]
