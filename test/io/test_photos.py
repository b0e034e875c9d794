"""Photos: EXIF as phones write it, names of the field, damaged files; copies that stand upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from ros2_loc.errors import DataError
from ros2_loc.io.geotagged import short_geotagged_name, utm_from_geodetic
from ros2_loc.io.images import read_image, write_image
from ros2_loc.io.photos import copy_upright, find_photos, read_photo, read_upright

IMAGE = np.zeros((20, 30, 3), np.uint8)
IMAGE[:10, :15] = (250, 20, 20)  # upper left is red


def _dms(angle: float) -> tuple[float, float, float]:
    degrees, minutes = divmod(abs(angle) * 60, 60)
    return degrees, int(minutes), (minutes - int(minutes)) * 60


def write_photo(path: Path, lat: float | None = None, lon: float | None = None, orientation: int = 1, **gps: object) -> Path:
    """A JPEG with the tags of a phone; `gps` by the tags' numbers as `t16`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    tags = exif.get_ifd(0x8825)
    if lat is not None and lon is not None:
        tags.update({1: "S" if lat < 0 else "N", 2: _dms(lat), 3: "W" if lon < 0 else "E", 4: _dms(lon)})
    tags.update({int(name[1:]): value for name, value in gps.items()})
    shot = exif.get_ifd(0x8769)
    shot.update({0x829D: 2.0, 0x829A: 0.25, 0x8827: 400})
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IMAGE).save(path, exif=exif, quality=95)
    return path


@given(*(st.floats(low, high).map(lambda value: round(value, 5)) for low, high in ((-79, 83), (-179.9, 179.9))))
def test_positions_come_back(tmp_path_factory: pytest.TempPathFactory, lat: float, lon: float) -> None:
    assume(abs(lat) + abs(lon) > 1e-3)  # what cameras write before their first fix
    photo = read_photo(write_photo(tmp_path_factory.getbasetemp() / "p.jpg", lat, lon))
    assert photo.utm is not None
    east, north, zone = utm_from_geodetic(lat, lon)
    if zone == photo.utm[2]:  # rounding may cross the border of a zone
        assert np.hypot(photo.utm[0] - east, photo.utm[1] - north) < 0.1


def test_what_a_phone_writes(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.jpg", -33.9, 151.2, t16="T", t17=90.5, t29="2024:03:05", t7=(20, 15, 7.5))
    photo = read_photo(path)
    assert photo.utm is not None and photo.utm[2] == "56H"
    assert photo.heading_deg == 90.5
    assert photo.stamp_ns == 1_709_669_707_000_000_000  # 2024-03-05 20:15:07 UTC
    assert photo.light_value == pytest.approx(2.0)  # f/2, 1/4 s, ISO 400: a street at night


def test_a_compass_heading_is_none_as_its_declination_is_unknown(tmp_path: Path) -> None:
    assert read_photo(write_photo(tmp_path / "a.jpg", 48.0, 9.0, t16="M", t17=90.0)).heading_deg is None


@pytest.mark.parametrize("gps", [{}, {"t1": "N", "t2": (48, 30, 0)}, {"t1": "N", "t2": (0, 0, 0), "t3": "E", "t4": (0, 0, 0)}])
def test_without_a_position(tmp_path: Path, gps: dict) -> None:
    assert read_photo(write_photo(tmp_path / "a.jpg", **gps)).utm is None


def test_a_name_of_the_field_is_a_position(tmp_path: Path) -> None:
    path = tmp_path / short_geotagged_name(500_000.0, 4_100_000.0, "x")
    write_image(path, IMAGE)
    photo = read_photo(path)
    assert photo.utm == (500_000.0, 4_100_000.0, None) and photo.light_value is None


def test_copies_stand_upright(tmp_path: Path) -> None:
    turned = write_photo(tmp_path / "a.jpg", orientation=6)  # the camera was held on its side
    assert read_upright(turned).shape == (30, 20, 3)
    copy_upright(turned, tmp_path / "out" / "b.jpg")
    copied = read_image(tmp_path / "out" / "b.jpg")
    assert copied.shape == (30, 20, 3) and copied[5, 15, 0] > 200 > 60 > copied[5, 5, 0]
    straight = write_photo(tmp_path / "c.jpg")
    copy_upright(straight, tmp_path / "out" / "c.jpg")
    assert (tmp_path / "out" / "c.jpg").read_bytes() == straight.read_bytes()


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8 no image \xff\xd9")
    for read in (read_photo, read_upright):
        with pytest.raises(DataError, match="is not an image"):
            read(path)
    cut = write_photo(tmp_path / "b.jpg")
    cut.write_bytes(cut.read_bytes()[:400])
    with pytest.raises(DataError):
        read_upright(cut)


def test_photos_are_found(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "1.png", ".hidden/3.jpg", "b/.4.jpg"):
        write_image(tmp_path / name, IMAGE)
    (tmp_path / "notes.txt").write_text("x")
    assert [path.relative_to(tmp_path).as_posix() for path in find_photos(tmp_path)] == ["1.png", "b/2.jpg"]
    with pytest.raises(DataError, match="no such folder"):
        find_photos(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        find_photos(tmp_path / "empty")
