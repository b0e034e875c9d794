"""Depth images: a round trip, and what is no depth image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ros2_loc.errors import DataError
from ros2_loc.io.depth import read_depth, write_depth


@given(arrays(np.float32, (5, 7), elements=st.floats(0.0009765625, 65.5, width=32)))
def test_depth_comes_back_to_the_millimetre(tmp_path_factory: pytest.TempPathFactory, depth: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("depth") / "d.png"
    write_depth(path, depth)
    assert np.abs(read_depth(path) - depth).max() <= 0.000505


def test_what_was_not_measured_stays_so(tmp_path: Path) -> None:
    write_depth(tmp_path / "d.png", np.array([[np.inf, np.nan, 0.0, -2.0, 70.0, 3.0]]))
    assert np.isnan(read_depth(tmp_path / "d.png")[0]).tolist() == [True, True, True, True, True, False]
    cv2.imwrite(str(tmp_path / "kinect.png"), np.array([[65535, 1200]], np.uint16))
    assert np.isnan(read_depth(tmp_path / "kinect.png")[0, 0]) and read_depth(tmp_path / "kinect.png")[0, 1] == pytest.approx(1.2)


def test_other_images_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "text.png").write_text("no image")
    for name in ("colour.png", "text.png"):
        with pytest.raises(DataError, match="16-bit PNG"):
            read_depth(tmp_path / name)
