"""Builds resume where they stopped, and tiles carry the descriptors of their own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.types import TileDescriptors
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.mapping import tile_build
from ros2_loc.mapping.mosaic import Mosaic, StoredMosaic, store
from ros2_loc.mapping.tile_build import build_tiles, encode_tiles
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.mapping.tile_layout import TileLayout

ORIGIN, LAYOUT = GeoOrigin(49.0, 8.4, 115.0), TileLayout(0.5, 32, 5.0, min_valid=1.0)


class MeanColours:
    """Describes a tile by the mean colours of 4 x 4 cells; can be told to be interrupted."""

    name = "mean_colours"

    def __init__(self, fingerprint: str = "mean_colours:1", stop_after: int = 10**9) -> None:
        self.fingerprint, self.stop_after, self.seen = fingerprint, stop_after, 0
        self.grid, self.tile_px = OverheadGrid(4, 4.0, 1), 16

    def encode_tiles(self, images: np.ndarray) -> TileDescriptors:
        if self.seen + len(images) > self.stop_after:
            raise KeyboardInterrupt
        assert images.shape[1:] == (16, 16, 3) and images.dtype == np.uint8
        self.seen += len(images)
        cells = images.reshape(len(images), 4, 4, 4, 4, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2) + 1.0
        features = cells / np.linalg.norm(cells.reshape(len(images), -1), axis=1)[:, None, None, None]
        return TileDescriptors(features.astype(np.float32), np.ones((len(images), 3, 3), np.float32), self.fingerprint)


def mosaic() -> Mosaic:
    return Mosaic(np.random.default_rng(0).integers(0, 255, (240, 200, 3), dtype=np.uint8), np.ones((240, 200), bool), -20.0, 30.0, 0.25)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_build, "_PART", 16)
    monkeypatch.setattr(tile_build, "BATCH", 8)


class Draw:
    """Counts how often the imagery is drawn."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, path: Path) -> StoredMosaic:
        self.calls += 1
        return store(mosaic(), path, ORIGIN)


def build(out: Path, draw: Draw, encoder: Any, **values: Any) -> TileDatabase:
    return build_tiles(out, draw, ORIGIN, LAYOUT, {"sources": ["noise"]}, encoder, show_progress=False, **values)


def test_every_tile_has_the_descriptor_of_its_picture(tmp_path: Path) -> None:
    tiles = build(tmp_path / "t", Draw(), MeanColours())
    assert tiles.descriptors is not None and tiles.descriptors.features.dtype == np.float16 and len(tiles) > 50
    for index in (0, 30, len(tiles) - 1):
        image = mosaic().crop(tiles.centres_m[index], 16, 1.0)[0]
        own = MeanColours().encode_tiles(image[None]).features[0]
        np.testing.assert_allclose(tiles.descriptors.features[index], own, atol=1e-3)
        assert tiles.index().search(own, 1)[0].source == index
    tiles.require_encoder(MeanColours())
    assert not (tmp_path / ".t.building").exists()


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    draw, stopped = Draw(), MeanColours(stop_after=25)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "t", draw, stopped)
    assert not (tmp_path / "t").exists() and (tmp_path / ".t.building").is_dir()
    rest = MeanColours()
    tiles = build(tmp_path / "t", draw, rest)
    assert draw.calls == 1 and rest.seen == len(tiles) - 16  # whole parts are kept
    fresh = build(tmp_path / "u", Draw(), MeanColours())
    np.testing.assert_array_equal(tiles.descriptors.features, fresh.descriptors.features)  # type: ignore[union-attr]


def test_other_sources_or_another_encoder_begin_anew(tmp_path: Path) -> None:
    draw = Draw()
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "t", draw, MeanColours(stop_after=25))
    other = MeanColours("mean_colours:2")
    tiles = build(tmp_path / "t", draw, other)
    assert draw.calls == 1 and other.seen == len(tiles)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "v", draw, MeanColours(stop_after=25))
    build_tiles(tmp_path / "v", draw, ORIGIN, LAYOUT, {"sources": ["other"]}, None, show_progress=False)
    assert draw.calls == 3


def test_without_an_encoder_and_later_with_one(tmp_path: Path) -> None:
    tiles = build(tmp_path / "t", Draw(), None)
    assert tiles.descriptors is None
    encode_tiles(tiles, MeanColours(), tmp_path / "work", show_progress=False).save(tmp_path / "t", overwrite=True)
    TileDatabase.load(tmp_path / "t").require_encoder(MeanColours())


def test_an_encoder_of_another_coverage_is_refused_before_any_work(tmp_path: Path) -> None:
    encoder, draw = MeanColours(), Draw()
    encoder.grid = OverheadGrid(4, 5.0, 1)
    with pytest.raises(ConfigError, match=r"cover 16.0 m, mean_colours looks at 20.0 m: build with --size 16 --metres-per-px 1.25"):
        build(tmp_path / "t", draw, encoder)
    assert draw.calls == 0


def test_what_is_there_stays(tmp_path: Path) -> None:
    build(tmp_path / "t", Draw(), None)
    with pytest.raises(DataError, match="exists already"):
        build(tmp_path / "t", Draw(), None)
    build(tmp_path / "t", Draw(), MeanColours(), overwrite=True)
    assert TileDatabase.load(tmp_path / "t").descriptors is not None
