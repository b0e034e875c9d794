"""The overhead grid: where its cells are, where a camera sees them, what shifts mean."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.overhead import OverheadGrid, project_overhead, subcell_peak
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import GeometryError

sys.path.insert(0, str(Path(__file__).parent))
from strategies import CAMERAS

GRID = OverheadGrid(16, 2.0, 3)
LEVEL = Pose(BODY_FROM_OPTICAL, np.array([0.4, 0.1, 1.6]))
DOWN = Pose(so3_exp([0, np.deg2rad(25), 0]) @ BODY_FROM_OPTICAL, np.array([0.4, 0.1, 3.0]))
PINHOLE = Camera.pinhole(320, 200, 160, 160, 160, 80)
WIDE = Camera("OPENCV_FISHEYE", 400, 300, (170, 168, 201, 150, -0.02, 0.003, 0.0, 0.0))
angles = st.floats(-0.12, 0.12)
yaws = st.floats(-np.pi, np.pi)
metres = st.floats(-12.0, 12.0)


def pose(x: float, y: float, yaw: float, roll: float = 0.0, pitch: float = 0.0, z: float = 0.0) -> Pose:
    return Pose(so3_exp([0, 0, yaw]) @ so3_exp([0, pitch, 0]) @ so3_exp([roll, 0, 0]), np.array([x, y, z]))


def test_cells_run_from_the_north_west_by_halves() -> None:
    centres = OverheadGrid(4, 2.0, 1).cell_centres_m()
    np.testing.assert_allclose(centres[0, 0], [-3.0, 3.0])
    np.testing.assert_allclose(centres[0, 3], [3.0, 3.0])
    np.testing.assert_allclose(centres[3, 0], [-3.0, -3.0])
    np.testing.assert_allclose(centres.mean(axis=(0, 1)), 0.0, atol=1e-12)
    assert OverheadGrid().coverage_m == pytest.approx(102.4)


def test_shifts_are_whole_cells_and_the_middle_is_no_shift() -> None:
    offsets = GRID.shift_offsets_m()
    assert offsets.shape == (7, 7, 2) and GRID.num_shifts == 7
    np.testing.assert_array_equal(offsets[3, 3], [0, 0])
    np.testing.assert_array_equal(offsets[0, 3], [0, 6])
    np.testing.assert_array_equal(offsets[3, 6], [6, 0])
    np.testing.assert_allclose(GRID.shift_offset_m(2.5, 3.25), [0.5, 1.0])


@pytest.mark.parametrize(("cells", "size", "shifts"), [(0, 1.0, 0), (8, 0.0, 1), (8, 1.0, 8), (8, 1.0, -1), (8, float("nan"), 1)])
def test_a_grid_that_cannot_be_is_refused(cells: int, size: float, shifts: int) -> None:
    with pytest.raises(GeometryError, match="overhead grid"):
        OverheadGrid(cells, size, shifts)


@given(st.sampled_from(CAMERAS), st.sampled_from([LEVEL, DOWN]), metres, metres, yaws, angles, angles, st.floats(-0.5, 0.5))
def test_rays_through_the_pixels_hit_the_ground_at_the_cells(
    camera: Camera, mounting: Pose, x: float, y: float, yaw: float, roll: float, pitch: float, ground: float
) -> None:
    query_from_base = pose(x, y, yaw, roll, pitch)
    px, visible = project_overhead(GRID, camera, mounting, query_from_base, ground)
    assert px.dtype == np.float32 and px.shape == (16, 16, 2) and visible.shape == (16, 16)
    assert (px[~visible] == 0).all() and camera.contains(px[visible].astype(float) - 1e-4 * (px[visible] > 1)).all()
    query_from_camera = query_from_base @ mounting
    rays = camera.rays(px[visible]) @ query_from_camera.rotation.T
    camera_at = query_from_camera.translation
    length = (ground - camera_at[2]) / rays[:, 2]
    # float32 pixels near the horizon move far on the ground
    near = (rays[:, 2] < -0.02) & (np.abs(GRID.cell_centres_m()[visible]).max(axis=1) < 10)
    hits = (camera_at + length[:, None] * rays)[near, :2]
    np.testing.assert_allclose(hits, GRID.cell_centres_m()[visible][near], atol=0.1)


@pytest.mark.parametrize("camera", [PINHOLE, WIDE], ids=lambda c: c.model)
def test_a_texture_on_the_ground_comes_back_at_its_cells(camera: Camera) -> None:
    """The image of a smooth pattern, made ray by ray, read where the cells are said to be."""

    def texture(xy: np.ndarray) -> np.ndarray:
        return 0.5 + 0.25 * np.sin(0.9 * xy[:, 0] + 0.3) + 0.25 * np.sin(0.7 * xy[:, 1] - 0.2 * xy[:, 0])

    query_from_base = pose(0.7, -0.4, 0.6, 0.03, -0.05)
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    query_from_camera = query_from_base @ DOWN
    rays = camera.rays(np.column_stack([columns.ravel(), rows.ravel()])) @ query_from_camera.rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = query_from_camera.translation[:2] - (query_from_camera.translation[2] / rays[:, 2])[:, None] * rays[:, :2]
        image = np.where(rays[:, 2] < 0, texture(np.nan_to_num(hits)), 0.0).reshape(rows.shape).astype(np.float32)
    grid = OverheadGrid(24, 1.0, 2)
    px, visible = project_overhead(grid, camera, DOWN, query_from_base)
    # OpenCV counts pixels from the centre of the first
    seen = cv2.remap(image, px[..., 0] - 0.5, px[..., 1] - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    expected = texture(grid.cell_centres_m().reshape(-1, 2)).reshape(24, 24)
    error = np.abs(seen - expected)[visible]
    assert visible.mean() > 0.15 and error.max() < 0.05 and np.median(error) < 0.004


@given(metres, metres, yaws, st.integers(0, 3))
def test_turning_the_pose_turns_the_grid(x: float, y: float, yaw: float, quarters: int) -> None:
    straight = pose(x, y, yaw)
    turned = Pose(so3_exp([0, 0, quarters * np.pi / 2]), np.zeros(3)) @ straight
    px, visible = project_overhead(GRID, PINHOLE, LEVEL, straight)
    px_turned, visible_turned = project_overhead(GRID, PINHOLE, LEVEL, turned)
    both = np.rot90(visible, quarters) & visible_turned
    assert (np.rot90(visible, quarters) ^ visible_turned).sum() <= 2  # cells on the very edge of the image
    np.testing.assert_allclose(np.rot90(px, quarters)[both], px_turned[both], atol=1e-3)


@given(metres, metres, yaws)
def test_moving_by_whole_cells_moves_the_grid(x: float, y: float, yaw: float) -> None:
    _, here = project_overhead(GRID, PINHOLE, LEVEL, pose(x, y, yaw))
    _, there = project_overhead(GRID, PINHOLE, LEVEL, pose(x + 4.0, y + 6.0, yaw))
    assert (here[3:, :-2] ^ there[:-3, 2:]).sum() <= 2


def test_what_is_behind_or_beside_the_camera_is_not_visible() -> None:
    _, visible = project_overhead(GRID, PINHOLE, LEVEL, Pose.identity())
    centres = GRID.cell_centres_m()
    assert visible.any() and (centres[visible][:, 0] > 1.0).all()
    assert (np.abs(centres[visible][:, 1] - 0.1) <= centres[visible][:, 0] - 0.4 + 1e-9).all()


@pytest.mark.parametrize("turn", [[0.0, -np.pi / 3, 0.0], [np.pi, 0.0, 0.0]], ids=["at the sky", "upside down"])
def test_a_camera_that_sees_no_ground_sees_no_cell(turn: list[float]) -> None:
    above = Camera.pinhole(320, 200, 300, 300, 160, 0.5) if turn[0] else PINHOLE  # turned over, its lower half shows the sky
    px, visible = project_overhead(GRID, above, Pose(so3_exp(turn) @ BODY_FROM_OPTICAL, LEVEL.translation), Pose.identity())
    assert not visible.any() and not px.any()


def test_a_distortion_that_folds_back_shows_no_cells_outside_of_the_view() -> None:
    """Beyond 49 degrees this polynomial brings points back into the image."""
    camera = Camera("OPENCV", 640, 400, (300, 300, 320, 150, -0.25, 0.0, 0.0, 0.0))
    _, visible = project_overhead(OverheadGrid(32, 1.0, 3), camera, LEVEL, Pose.identity())
    centres = OverheadGrid(32, 1.0, 3).cell_centres_m()[visible] - LEVEL.translation[:2]
    away = np.degrees(np.arctan2(np.hypot(centres[:, 1], 1.6), centres[:, 0]))
    folded = camera.project([[1.2, 0.9, 1.0]])
    assert camera.contains(folded).all()  # the trap is there
    assert len(away) > 20 and away.max() < 50


@given(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49), st.integers(1, 5), st.integers(1, 5), st.floats(0.5, 2), st.floats(-0.4, 0.4))
def test_the_peak_of_a_quadratic_is_found_exactly(di: float, dj: float, i: int, j: int, width: float, mixed: float) -> None:
    rows, columns = np.indices((7, 7), dtype=float)
    r, c = rows - i - di, columns - j - dj
    scores = 3.0 - width * r**2 - c**2 - mixed * r * c
    if np.unravel_index(scores.argmax(), scores.shape) != (i, j):
        return
    np.testing.assert_allclose(subcell_peak(scores), (i + di, j + dj), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 7]))
def test_the_peak_stays_within_half_a_cell_of_the_highest_score(seed: int, k: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(k, k)).astype(np.float32)
    row, column = subcell_peak(scores)
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    assert abs(row - i) <= 0.5 and abs(column - j) <= 0.5
    assert i not in (0, k - 1) or row == i
    assert j not in (0, k - 1) or column == j


def test_flat_scores_have_a_peak_without_refinement() -> None:
    assert subcell_peak(np.ones((5, 5))) == (0.0, 0.0)
