"""Positions in the names of images: both forms there and back, the names of public sets, names that are wrong."""

from __future__ import annotations

import string
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import DataError
from ros2_loc.io.geotagged import (
    geotagged_name,
    is_geotagged,
    parse_geotagged,
    read_geotagged,
    short_geotagged_name,
    utm_from_geodetic,
)

metres = st.floats(-1e7, 1e7)
words = st.text(string.ascii_letters + string.digits + "_-", max_size=8)
zones = st.none() | st.builds(lambda n, band: f"{n}{band}", st.integers(1, 60), st.sampled_from("CDEFGHJKLMNPQRSTUVWX"))
stamps = st.none() | st.integers(0, 4_000_000_000).map(lambda s: s * 1_000_000_000)


@given(metres, metres, st.none() | st.floats(-720, 720), zones, stamps, words)
def test_long_form_round_trip(
    east_m: float, north_m: float, heading_deg: float | None, zone: str | None, stamp_ns: int | None, note: str
) -> None:
    name = geotagged_name(east_m, north_m, heading_deg=heading_deg, zone=zone, stamp_ns=stamp_ns, note=note, pano="p1", tile="03")
    image = parse_geotagged(Path("folder") / name)
    np.testing.assert_allclose([image.east_m, image.north_m], [east_m, north_m], atol=0.006)
    assert (image.zone, image.stamp_ns, image.note) == (zone, stamp_ns, note)
    if heading_deg is None:
        assert image.heading_deg is None
    else:
        assert image.heading_deg is not None
        assert 0 <= image.heading_deg < 360
        assert abs((image.heading_deg - heading_deg + 180) % 360 - 180) < 0.006
    assert geotagged_name(image.east_m, image.north_m, zone=image.zone).split("@")[1:3] == name.split("@")[1:3]


@given(metres, metres, words)
def test_short_form_round_trip(east_m: float, north_m: float, note: str) -> None:
    image = parse_geotagged(short_geotagged_name(east_m, north_m, note))
    np.testing.assert_allclose([image.east_m, image.north_m], [east_m, north_m], atol=0.006)
    assert (image.heading_deg, image.zone, image.stamp_ns, image.note) == (None, None, None, note)


def test_names_of_public_sets() -> None:
    image = parse_geotagged("@0551000.97@4180002.81@10@S@037.76624@-122.42104@bDoG_RZ@@271.50@@@@201311@@.jpg")
    assert (image.east_m, image.north_m, image.zone, image.heading_deg, image.note) == (551000.97, 4180002.81, "10S", 271.5, "")
    assert image.stamp_ns == 1383264000 * 10**9  # 2013-11-01
    image = parse_geotagged("@0584347.01@4477001.82@17@T@40.43986@-079.99917@000000@00@@@@@@pitch1_yaw1@.jpg")
    assert (image.zone, image.heading_deg, image.stamp_ns, image.note) == ("17T", None, None, "pitch1_yaw1")
    assert parse_geotagged("@0368000.12@3947000.34@54@S@@@@@@@@@some_day@@.png").stamp_ns is None


def test_a_folder_is_read_with_the_folders_in_it(tmp_path: Path) -> None:
    for name in ("b/" + geotagged_name(1.0, 2.0), "a/" + short_geotagged_name(3.0, 4.0, "x", ".png"), "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes())
    assert [(image.east_m, image.north_m) for image in read_geotagged(tmp_path)] == [(3.0, 4.0), (1.0, 2.0)]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("db3.jpg", "db3.jpg: its name says no position"),
        ("@12@.jpg", "its north is '', not a number"),
        ("@12@forty@.jpg", "its north is 'forty', not a number"),
        ("@nan@4@.jpg", "its east is 'nan', which is not finite"),
        ("@1@2@10@S@@@@@north@@@@@@.jpg", "its heading is 'north', not a number"),
    ],
)
def test_a_name_that_is_wrong(tmp_path: Path, name: str, wrong: str) -> None:
    (tmp_path / geotagged_name(1, 2)).touch()
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=wrong):
        read_geotagged(tmp_path)


def test_what_can_not_be_a_name() -> None:
    for arguments in ({"east_m": float("nan")}, {"zone": "S10"}, {"zone": "10I"}, {"note": "a@b"}, {"pano": "a/b"}):
        with pytest.raises(DataError):
            geotagged_name(**{"east_m": 0.0, "north_m": 0.0, **arguments})
    with pytest.raises(DataError, match="no such folder"):
        read_geotagged("/nowhere")


def test_what_is_geotagged() -> None:
    assert is_geotagged(geotagged_name(1, 2))
    assert is_geotagged(short_geotagged_name(1, 2))
    assert not is_geotagged("q1.jpg")


def test_utm_of_known_places() -> None:
    """San Francisco's city hall and Sydney's opera, as published converters say."""
    east_m, north_m, zone = utm_from_geodetic(37.7793, -122.4193)
    assert zone == "10S"
    np.testing.assert_allclose([east_m, north_m], [551137.0, 4181461.0], atol=60)
    east_m, north_m, zone = utm_from_geodetic(-33.8568, 151.2153)
    assert zone == "56H"
    np.testing.assert_allclose([east_m, north_m], [334900.0, 6252290.0], atol=60)
    with pytest.raises(DataError, match="outside of UTM"):
        utm_from_geodetic(85.0, 0.0)
