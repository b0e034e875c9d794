"""Resizing and back: the pixel convention, masks, order, limits, batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.perception.extractors.scaling import Prepared, features_of, groups, no_features, prepare, stacked

SIZES = st.integers(1, 400)


def frame_of(image: np.ndarray, mask: np.ndarray | None = None) -> Frame:
    height, width = image.shape[:2]
    camera = Camera("PINHOLE", width, height, (100.0, 100.0, width / 2, height / 2))
    return Frame(0, image, camera, Pose.identity(), mask=mask)


def blank(width: int, height: int) -> Frame:
    return frame_of(np.zeros((height, width, 3), np.uint8))


def blob(width: int, height: int, x: float, y: float, sigma: float) -> np.ndarray:
    """A bright spot centred at (x, y), the first pixel's centre being (0.5, 0.5)."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    bright = 250.0 * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2)
    return np.repeat(np.round(bright).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([[(columns * weight).sum(), (rows * weight).sum()]]) / weight.sum()


@given(SIZES, SIZES, st.integers(0, 500), st.booleans(), st.integers(0, 100))
def test_there_and_back_is_exact(width: int, height: int, edge: int, enlarge: bool, seed: int) -> None:
    prepared = prepare(blank(width, height), edge, enlarge)
    points = np.random.default_rng(seed).uniform(0, 1, (20, 2)) * (width, height)
    np.testing.assert_allclose(prepared.to_full(prepared.to_resized(points)), points, rtol=1e-12)
    # the corners of the image plane are those of the resized one
    np.testing.assert_allclose(prepared.to_full(np.array([[0, 0], prepared.size])), [[0, 0], [width, height]], rtol=1e-12)


@given(SIZES, SIZES, st.integers(1, 500), st.booleans())
def test_the_long_edge_is_what_was_asked_for(width: int, height: int, edge: int, enlarge: bool) -> None:
    size = prepare(blank(width, height), edge, enlarge).size
    assert max(size) == (edge if enlarge else min(edge, max(width, height)))
    assert min(size) >= 1 and abs(min(size) - min(width, height) * max(size) / max(width, height)) <= 1


@pytest.mark.parametrize(("edge", "enlarge"), [(97, False), (151, False), (200, False), (333, True), (640, True)])
@pytest.mark.parametrize("position", [(60.5, 50.5), (123.3, 71.9), (141.75, 40.2)])
def test_a_spot_comes_back_where_it_was(edge: int, enlarge: bool, position: tuple[float, float]) -> None:
    image = blob(201, 115, *position, sigma=6.0)
    prepared = prepare(frame_of(image), edge, enlarge)
    assert max(prepared.size) == edge
    np.testing.assert_allclose(prepared.to_full(centroid(prepared.image)), [position], atol=0.1)


def test_full_size_is_used_without_a_copy() -> None:
    mask = np.ones((40, 60), bool)
    frame = frame_of(np.zeros((40, 60, 3), np.uint8), mask)
    prepared = prepare(frame, 100)
    assert prepared.image is frame.image and prepared.mask is mask


@pytest.mark.parametrize("edge", [31, 50, 77, 160])
def test_the_mask_goes_with_the_image(edge: int) -> None:
    mask = np.zeros((60, 100), bool)
    mask[:, 40:] = True
    prepared = prepare(frame_of(np.zeros((60, 100, 3), np.uint8), mask), edge, enlarge=True)
    assert prepared.mask is not None and prepared.mask.shape == prepared.image.shape[:2]
    centres = prepared.to_full(np.column_stack([np.arange(prepared.size[0]) + 0.5] * 2))[:, 0]
    differing = prepared.mask[0] != (centres >= 40)
    assert (np.abs(centres[differing] - 40) < 1.0).all()  # the pixel in which the border lies, at most


def test_groups_hold_one_size_and_each_index_once() -> None:
    sizes = [(40, 30), (50, 30), (40, 30), (40, 30), (30, 40), (40, 30)]
    prepared = [prepare(blank(*size)) for size in sizes]
    found = list(groups(prepared, 3))
    assert sorted(index for group in found for index in group) == list(range(6)) and max(map(len, found)) == 3
    assert all(len({sizes[index] for index in group}) == 1 for group in found)
    assert all(len(group) == 1 for group in groups(prepared, 1))


def test_stacking_fills_at_the_right_and_bottom() -> None:
    image = np.random.default_rng(0).integers(0, 256, (13, 21, 3), dtype=np.uint8)
    batch = stacked([prepare(frame_of(image))] * 2, multiple=8)
    assert batch.shape == (2, 3, 16, 24) and batch.dtype == np.float32
    np.testing.assert_allclose(batch[1, :, :13, :21], image.transpose(2, 0, 1) / np.float32(255.0))
    np.testing.assert_array_equal(batch[0, :, 15], batch[0, :, 12])
    assert stacked([prepare(frame_of(image))]).shape == (1, 3, 13, 21)


def features(frame: Frame, points: list[list[float]], scores: list[float], limit: int = 100) -> np.ndarray:
    n = len(points)
    return features_of(np.array(points), np.eye(n, 4), np.array(scores), np.ones(n), frame, limit, "test").keypoints


def test_best_first_and_ties_by_position() -> None:
    found = features(blank(40, 30), [[9, 1], [3, 8], [3, 2], [20, 20], [5, 5]], [0.5, 0.5, 0.5, 0.9, 0.1], limit=4)
    assert found.tolist() == [[20, 20], [3, 2], [3, 8], [9, 1]]


def test_only_inside_only_unmasked_only_finite() -> None:
    mask = np.ones((30, 40), bool)
    mask[:, :10] = False
    frame = frame_of(np.zeros((30, 40, 3), np.uint8), mask)
    nan = float("nan")
    outside = [[40, 5], [20, 30], [-0.1, 5], [20, -1e-4], [nan, 3], [39.9999999999, 5]]
    found = features(frame, [[15, 5], [9.99, 5], [10.0, 6], *outside, [39.99, 29.99]], [0.9, 0.8, 0.7, *[1.0] * 6, 0.6])
    np.testing.assert_allclose(found, [[15, 5], [10, 6], [39.99, 29.99]], rtol=1e-6)
    descriptors = np.eye(3, 4)
    descriptors[1, 2] = np.inf
    kept = features_of(np.full((3, 2), 20.0), descriptors, np.array([0.1, 0.9, nan]), np.ones(3), frame, 9, "test")
    assert kept.scores.tolist() == pytest.approx([0.1])


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_smallest_images(size: tuple[int, int]) -> None:
    frame = blank(*size)
    for edge in (0, 1, 20):
        prepared = prepare(frame, edge, enlarge=True)
        assert isinstance(prepared, Prepared) and stacked([prepared], 32).shape[2] % 32 == 0
    empty = no_features(frame, 128, "test")
    assert len(empty) == 0 and empty.descriptors.shape == (0, 128) and empty.size == size
