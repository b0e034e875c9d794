"""Pictures: right size, right place, right colour; nothing drawn outside, inputs untouched, quick enough."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.visualization.colors import good_to_bad
from ros2_loc.visualization.matches import draw_matches
from ros2_loc.visualization.overlay import OverlayStatus, draw_overlay
from ros2_loc.visualization.trajectory import TopView, write_top_view

ESTIMATE = PoseEstimate(0, Pose.identity(), np.diag([0.02**2] * 3 + [0.001**2] * 3), 57, "map")
REJECTION = Rejection(0, RejectionReason.TOO_FEW_INLIERS, "7 of 12 needed – naïve")
STAGES = {"extract": 0.1, "match": 0.05, "solve": 0.02}


def gray(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def is_green(pixel: np.ndarray) -> bool:
    return int(pixel[1]) > 150 and int(pixel[0]) < 120


def is_red(pixel: np.ndarray) -> bool:
    return int(pixel[0]) > 150 and int(pixel[1]) < 120


@pytest.mark.parametrize("vertical", [False, True])
def test_match_ends_lie_on_their_pixels_whatever_the_scales(vertical: bool) -> None:
    query, place = gray(100, 200), gray(50, 100)
    pairs = np.array([[40.5, 30.5, 20.25, 15.25], [150.5, 80.5, 75.25, 40.25]])
    picture = draw_matches(query, place, pairs, np.array([0.0, 9.0]), vertical=vertical)
    offset = np.array([0, 106]) if vertical else np.array([206, 0])
    assert picture.shape == ((206, 200, 3) if vertical else (100, 406, 3))
    for end in ([40, 30], np.array([40, 30]) + offset):
        assert is_green(picture[end[1], end[0]])
    for end in ([150, 80], np.array([150, 80]) + offset):
        assert is_red(picture[end[1], end[0]])
    assert (query == 90).all() and (place == 90).all()


def test_matches_can_be_none_many_or_outside() -> None:
    query, place = gray(60, 80), gray(60, 80)
    clean = draw_matches(query, place, np.zeros((0, 4)))
    assert clean.shape == (60, 166, 3) and (clean[:, :80] == 90).all()
    rng = np.random.default_rng(0)
    many = draw_matches(query, place, rng.uniform(-50, 150, (3000, 4)), rng.uniform(0, 5, 3000), max_lines=20)
    assert 0 < (many[:, :80] != 90).any(axis=2).mean() < 0.9


def test_wide_images_are_stacked() -> None:
    assert draw_matches(gray(30, 100), gray(30, 100), np.zeros((0, 4))).shape == (66, 100, 3)
    assert draw_matches(gray(30, 100), gray(30, 100), np.zeros((0, 4)), height_px=15).shape == (36, 50, 3)


def test_overlay_draws_inliers_and_keeps_the_image_elsewhere() -> None:
    image = gray(400, 640)
    inliers = np.array([[100.5, 100.5], [300.5, 200.5]])
    picture = draw_overlay(image, OverlayStatus(ESTIMATE, "tracking", 90, "000005.png", STAGES), inliers, errors_px=np.array([0.1, 8.0]))
    assert picture.shape[0] > 400 and picture.shape[1] == 640
    assert is_green(picture[100, 100]) and is_red(picture[200, 300])
    changed = (picture[:400] != image).any(axis=2)
    changed[90:111, 90:111] = changed[190:211, 290:311] = False
    assert not changed.any()
    assert (image == 90).all()


@pytest.mark.parametrize("size", [(48, 64), (375, 1242), (1080, 1920)])
@pytest.mark.parametrize("result", [ESTIMATE, REJECTION])
def test_overlay_of_any_size_and_result(size: tuple[int, int], result: PoseEstimate | Rejection) -> None:
    outside = np.array([[-5.0, 3.0], [5000.0, 5000.0], [size[1] - 0.5, size[0] - 0.5]])
    picture = draw_overlay(gray(*size), OverlayStatus(result, "lost", 9, "x" * 300, STAGES), outside, outside)
    assert picture.shape[1] == size[1] and picture.shape[0] > size[0] and picture.dtype == np.uint8
    assert picture[size[0] + 8 :].std() > 0  # there is text


def test_the_bar_shows_the_state_by_colour() -> None:
    accents = {s: draw_overlay(gray(100, 200), OverlayStatus(ESTIMATE, s))[100, 5].tolist() for s in ("tracking", "lost", "relocalizing")}
    assert is_green(np.array(accents["tracking"])) and is_red(np.array(accents["lost"])) and len(set(map(tuple, accents.values()))) == 3


def test_overlay_is_quick() -> None:
    """Under 5 ms at 640 x 400 on a quiet machine; the best of several runs, on a busy one."""
    rng, image = np.random.default_rng(0), gray(400, 640)
    points = rng.uniform([0, 0], [640, 400], (1500, 2))
    times = []
    for _ in range(15):
        start = time.perf_counter()
        draw_overlay(image, OverlayStatus(ESTIMATE, "tracking", 500, "place", STAGES), points, points, rng.uniform(0, 3, 1500))
        times.append(time.perf_counter() - start)
    assert min(times) < 0.010


def test_colours_go_from_green_to_red() -> None:
    assert is_green(np.array(good_to_bad(0.0))) and is_red(np.array(good_to_bad(1.0)))
    assert good_to_bad(-3.0) == good_to_bad(0.0) and good_to_bad(40.0) == good_to_bad(1.0)


def test_top_view_shows_what_it_is_given(tmp_path: Path) -> None:
    path = np.column_stack([np.linspace(0, 100, 50), np.sin(np.linspace(0, 6, 50)) * 20, np.zeros(50)])
    broken = path.copy()
    broken[10] = np.nan
    view = TopView(broken, path + 0.05, np.linspace(0.01, 0.2, 50), path[::10], path[::5] + np.array([0, 3, 0]))
    write_top_view(tmp_path / "view.png", view, "title")
    picture = cv2.imread(str(tmp_path / "view.png"))
    assert picture.shape[1] == 1600
    hue = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    vivid = hue[..., 1] > 120
    assert (vivid & (hue[..., 0] > 105) & (hue[..., 0] < 125)).sum() > 200  # blue: small errors
    assert (vivid & ((hue[..., 0] < 8) | (hue[..., 0] > 172))).sum() > 200  # red: large ones and rejected
    write_top_view(tmp_path / "empty.png", TopView())
    assert cv2.imread(str(tmp_path / "empty.png")) is not None
