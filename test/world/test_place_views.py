"""Sets of places: queries lie near the database, all domains from the same poses, an interrupted call is taken up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.errors import ConfigError
from ros2_loc.io.geotagged import read_geotagged
from ros2_loc.io.images import read_image
from ros2_loc.world.place_views import PlaceSet, write_place_set

HOW = PlaceSet(seed=4, domains=("day", "night"), spacing_m=30.0, queries=3, extent_m=200.0, patterns=1, size_px=(48, 32))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("places") / "set"
    said: list[tuple[int, int]] = []
    count = write_place_set(out, HOW, progress=lambda done, total: said.append((done, total)))
    assert said == [(k, count) for k in range(1, count + 1)]
    return out


def test_queries_lie_near_places_and_look_about_the_same_way(places: Path) -> None:
    database, queries = read_geotagged(places / "database"), read_geotagged(places / "queries_day")
    assert len(queries) == 3 < len(database)
    assert {image.zone for image in (*database, *queries)} == {"32U"}
    for query in queries:
        offset = [np.hypot(query.east_m - d.east_m, query.north_m - d.north_m) for d in database]
        nearest = database[int(np.argmin(offset))]
        assert 0 < min(offset) < np.hypot(HOW.along_m, HOW.across_m) + 0.4  # the camera sits ahead of the car's turning point
        headings = [d.heading_deg for d, away in zip(database, offset, strict=True) if away < 8.0]
        assert min(abs((query.heading_deg - h + 180) % 360 - 180) for h in headings) < HOW.heading_deg + 0.1
        assert read_image(nearest.path).shape == (32, 48, 3)


def test_domains_are_seen_from_the_same_poses(places: Path) -> None:
    day, night = (read_geotagged(places / f"queries_{name}") for name in ("day", "night"))
    assert [image.path.name for image in day] == [image.path.name for image in night]
    brightness = [np.mean([read_image(image.path).mean() for image in images]) for images in (day, night)]
    assert brightness[1] < 0.7 * brightness[0]


def test_an_interrupted_set_is_finished(places: Path) -> None:
    names = sorted(path.name for path in (places / "queries_night").iterdir())
    victim = places / "queries_night" / names[1]
    before, other = victim.read_bytes(), (places / "database" / sorted(p.name for p in (places / "database").iterdir())[0])
    stamp = other.stat().st_mtime_ns
    victim.unlink()
    write_place_set(places, HOW)
    assert victim.read_bytes() == before and other.stat().st_mtime_ns == stamp


def test_more_domains_may_follow_but_no_other_settings(places: Path, tmp_path: Path) -> None:
    write_place_set(places, replace(HOW, domains=("fog",)))
    assert len(read_geotagged(places / "queries_fog")) == 3
    with pytest.raises(ConfigError, match="other settings \\(seed, spacing_m\\)"):
        write_place_set(places, replace(HOW, seed=5, spacing_m=20.0))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no set of places"):
        write_place_set(tmp_path, HOW)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"domains": ("dark",)}, "no domain 'dark'"),
        ({"directions": ("up",)}, "forward, left, back, right"),
        ({"spacing_m": 0.0}, "positive spacing"),
        ({"queries": 0}, "at least one query"),
    ],
)
def test_settings_that_can_not_be(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PlaceSet(**values)
