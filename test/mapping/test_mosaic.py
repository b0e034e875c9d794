"""Crops of a mosaic show the ground where it is, at any scale and heading, and say what they do not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import DataError
from ros2_loc.mapping.mosaic import Mosaic

WEST, NORTH, PX = -40.0, 30.0, 0.2


@pytest.fixture(scope="module")
def ramp() -> Mosaic:
    """Red grows by 2 for each metre east, green by 2 for each metre north; blue is 100."""
    east, north = WEST + (np.arange(400) + 0.5) * PX, NORTH - (np.arange(300) + 0.5) * PX
    rgb = np.zeros((300, 400, 3), np.uint8)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = 100 + 2 * east, (100 + 2 * north)[:, None], 100
    return Mosaic(rgb, np.ones((300, 400), bool), WEST, NORTH, PX)


def pixel_places(centre: np.ndarray, size: int, metres_per_px: float, yaw: float) -> np.ndarray:
    """(s, s, 2) east, north of the middles of a crop's pixels, from the definition of heading."""
    up, right = np.array([np.cos(yaw), np.sin(yaw)]), np.array([np.sin(yaw), -np.cos(yaw)])
    steps = (np.arange(size) + 0.5 - size / 2) * metres_per_px
    return centre + steps[None, :, None] * right - steps[:, None, None] * up


@given(st.floats(-18, 18), st.floats(-8, 8), st.sampled_from([8, 13, 40]), st.floats(0.1, 1.1), st.none() | st.floats(-np.pi, np.pi))
def test_every_pixel_shows_its_place(ramp: Mosaic, east: float, north: float, size: int, metres_per_px: float, yaw: float | None) -> None:
    rgb, valid = ramp.crop((east, north), size, metres_per_px, yaw)
    places = pixel_places(np.array([east, north]), size, metres_per_px, np.pi / 2 if yaw is None else yaw)
    half = metres_per_px * 0.75
    inside = (np.abs(places - [0.0, 0.0]) + half < [40.0, 30.0]).all(axis=-1)
    outside = (np.abs(places) - half > [40.0, 30.0]).any(axis=-1)
    assert valid[inside].all() and not valid[outside].any() and not rgb[~valid].any()
    np.testing.assert_allclose(rgb[inside][:, :2], 100 + 2 * places[inside], atol=1.6)  # rounded down in the ramp, then to the nearest
    assert (rgb[inside][:, 2] == 100).all()


def test_whole_pixels_come_back_as_they_are() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mosaic = Mosaic(rgb, np.ones((60, 80), bool), 3.0, 7.0, 0.5)
    crop, valid = mosaic.crop((3.0 + 20.0, 7.0 - 15.0), 20, 0.5)
    np.testing.assert_array_equal(crop, rgb[20:40, 30:50])
    turned, _ = mosaic.crop((3.0 + 20.0, 7.0 - 15.0), 20, 0.5, heading_rad=0.0)  # east is up
    np.testing.assert_array_equal(turned, np.rot90(rgb[20:40, 30:50]))
    assert valid.all()


@pytest.mark.parametrize("times", [2, 3, 4, 7, 12])
def test_a_coarser_crop_is_the_mean_of_what_it_covers(times: int) -> None:
    rng = np.random.default_rng(times)
    rgb, valid = rng.integers(0, 255, (168, 168, 3), dtype=np.uint8), rng.random((168, 168)) < 0.8
    mosaic = Mosaic(rgb, valid, 0.0, 0.0, 0.1)
    size = 168 // times
    crop, known = mosaic.crop((size * times * 0.05, -size * times * 0.05), size, 0.1 * times)
    blocks = np.s_[: size * times, : size * times]
    weight = valid[blocks].reshape(size, times, size, times).astype(float)
    mean = (rgb[blocks].reshape(size, times, size, times, 3) * weight[..., None]).sum((1, 3)) / np.maximum(weight.sum((1, 3)), 1)[..., None]
    share = weight.mean((1, 3))
    clear = np.abs(share - 0.5) > 0.02
    np.testing.assert_array_equal(known[clear], (share > 0.5)[clear])
    # samples lie between pixels at even factors, so single pixels of noise bleed; the mean of the picture does not move
    np.testing.assert_allclose(crop[known].mean(), mean[known].mean(), atol=0.7)
    assert np.corrcoef(crop[known].ravel(), mean[known].ravel())[0, 1] > 0.93


def test_missing_pixels_do_not_darken_their_neighbours() -> None:
    rgb = np.full((40, 40, 3), 200, np.uint8)
    valid = np.ones((40, 40), bool)
    rgb[:, 20:], valid[:, 20:] = 0, False
    crop, known = Mosaic(rgb, valid, 0.0, 40.0, 1.0).crop((20.3, 20.0), 30, 0.7)
    assert (crop[known] == 200).all() and not crop[~known].any()
    assert 0.4 < known.mean() < 0.55


def test_outside_is_black_and_not_known(ramp: Mosaic) -> None:
    rgb, valid = ramp.crop((5000.0, 0.0), 16, 1.0)
    assert rgb.shape == (16, 16, 3) and not rgb.any() and not valid.any()


def test_what_is_no_mosaic_is_refused() -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(DataError, match="uint8"):
        Mosaic(rgb.astype(float), np.ones((4, 5), bool), 0.0, 0.0, 1.0)
    with pytest.raises(DataError, match="bool"):
        Mosaic(rgb, np.ones((5, 4), bool), 0.0, 0.0, 1.0)
    with pytest.raises(DataError, match="metres_per_px > 0"):
        Mosaic(rgb, np.ones((4, 5), bool), 0.0, 0.0, 0.0)
