"""The picture of two localizers: everything lies where it was said to be, in the frame of the imagery."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.visualization.localizers import LocalizersView, draw_localizers, write_localizers


def view() -> LocalizersView:
    """A map that is turned by 90 degrees and shifted against the imagery."""
    imagery_from_map = Pose(so3_exp([0.0, 0.0, np.pi / 2]), np.array([10.0, 20.0, 0.0]))
    x = np.linspace(0.0, 60.0, 61)
    truth_m = np.column_stack([x, np.zeros(61)])
    return LocalizersView(
        imagery=np.full((200, 200, 3), 120, np.uint8),
        imagery_from_map=np.column_stack([imagery_from_map.rotation[:2, :2], imagery_from_map.translation[:2]]),
        bounds_m=(-100.0, -100.0, 100.0, 100.0),
        truth_m=truth_m,
        off_map=(x > 20) & (x < 40),
        places_m=truth_m[::6],
        map_poses_m=truth_m[:20],
        tile_poses_m=truth_m[25:40:5] + np.array([0.0, 2.0]),
        tile_covariances_m2=np.array([np.diag([9.0, 1.0])] * 3),
        fused_m=truth_m + 0.3,
    )


def test_points_lie_in_the_frame_of_the_imagery() -> None:
    axes = Figure().add_subplot()
    draw_localizers(axes, view())
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(np.column_stack(lines["truth"].get_data())[[0, -1]], [[10.0, 20.0], [10.0, 80.0]], atol=1e-9)
    tiles = np.column_stack(next(line for name, line in lines.items() if str(name).startswith("cross_view")).get_data())
    np.testing.assert_allclose(tiles[0], [8.0, 45.0], atol=1e-9)
    band = np.asarray(lines["off the map"].get_ydata())
    assert np.nanmin(band) == pytest.approx(41.0) and np.nanmax(band) == pytest.approx(59.0)
    ellipse = axes.patches[0]
    corners = ellipse.get_transform().transform_path(ellipse.get_path()).vertices
    extent_m = np.ptp(axes.transData.inverted().transform(corners), axis=0)
    np.testing.assert_allclose(extent_m, [4.0, 12.0], rtol=0.01)  # 2 sigma to each side, along x of the map, which is north here


def test_a_drive_that_nobody_answered_is_drawn(tmp_path: Path) -> None:
    empty = LocalizersView(np.zeros((50, 50, 3), np.uint8), np.eye(2, 3), (0.0, 0.0, 50.0, 50.0))
    write_localizers(tmp_path / "empty.png", empty)
    write_localizers(tmp_path / "full.png", view(), "title")
    image = cv2.imread(str(tmp_path / "full.png"))
    assert image is not None and min(image.shape[:2]) > 800 and cv2.imread(str(tmp_path / "empty.png")) is not None
