"""Tiles on paper: what is drawn lies where the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.visualization.colors import RED
from ros2_loc.visualization.tiles import TilePicture, draw_coverage, draw_tile


def middle_of(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """(x, y) px of all pixels of a colour."""
    rows, columns = np.nonzero((np.abs(picture.astype(int) - color) < 25).all(axis=-1))
    assert len(rows) > 20
    return np.array([columns.mean(), rows.mean()])


def pictured(offset: tuple[float, float], up_rad: float) -> np.ndarray:
    image = np.full((64, 64, 3), 120, np.uint8)
    centre = np.array([1000.0, -500.0])
    return draw_tile(TilePicture(image, 100.0, up_rad, centre, centre + offset, 9.6, ("tile 1", "somewhere")))


@pytest.mark.parametrize(("up_rad", "east_is"), [(np.pi / 2, (1, 0)), (0.0, (0, -1)), (np.pi, (0, 1)), (-np.pi / 2, (-1, 0))])
def test_the_place_is_marked_where_it_is(up_rad: float, east_is: tuple[int, int]) -> None:
    """15 m east of the centre goes to the side that the heading says (x right, y down)."""
    moved = middle_of(pictured((30.0, 0.0), up_rad), RED) - middle_of(pictured((0.0, 0.0), up_rad), RED)
    direction = moved / np.linalg.norm(moved)
    assert direction @ np.array(east_is) > 0.97


def test_coverage_has_a_square_for_each_tile() -> None:
    background = np.full((50, 100, 3), 255, np.uint8)
    one = draw_coverage(background, (0.0, 0.0, 100.0, 50.0), np.array([[20.0, 25.0]]), 10.0, "one tile")
    two = draw_coverage(background, (0.0, 0.0, 100.0, 50.0), np.array([[20.0, 25.0], [80.0, 25.0]]), 10.0, "two tiles")
    tinted = [((picture[..., 2].astype(int) - picture[..., 0]) > 30) for picture in (one, two)]
    assert tinted[1].sum() == pytest.approx(2 * tinted[0].sum(), rel=0.1)
    assert np.nonzero(tinted[1])[1].mean() > np.nonzero(tinted[0])[1].mean()
