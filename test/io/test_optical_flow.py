"""Files of optical flow as OpenCV and KITTI's kit write them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ros2_loc.errors import DataError
from ros2_loc.io.optical_flow import read_flow

FLOW = np.random.default_rng(0).uniform(-200, 200, (6, 9, 2)).astype(np.float32)


def test_middlebury_s_form(tmp_path: Path) -> None:
    cv2.writeOpticalFlow(str(tmp_path / "a.flo"), FLOW)
    flow, known = read_flow(tmp_path / "a.flo")
    assert np.array_equal(flow, FLOW) and known.all()
    unknown = FLOW.copy()
    unknown[2, 3], unknown[1, 1] = 1.7e9, np.nan
    cv2.writeOpticalFlow(str(tmp_path / "b.flo"), unknown)
    flow, known = read_flow(tmp_path / "b.flo")
    assert np.argwhere(~known).tolist() == [[1, 1], [2, 3]] and not flow[2, 3].any()


def test_kitti_s_form(tmp_path: Path) -> None:
    known = np.ones((6, 9), bool)
    known[4, 5] = False
    stored = np.dstack([known, *(np.round(FLOW[..., k] * 64 + 2**15) for k in (1, 0))]).astype(np.uint16)  # blue, green, red
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    flow, found = read_flow(tmp_path / "a.png")
    assert np.array_equal(found, known) and np.abs(flow - FLOW)[known].max() <= 1 / 128 + 1e-4


def test_files_that_are_no_flow_are_refused(tmp_path: Path) -> None:
    cv2.writeOpticalFlow(str(tmp_path / "short.flo"), FLOW)
    (tmp_path / "short.flo").write_bytes((tmp_path / "short.flo").read_bytes()[:-3])
    (tmp_path / "other.flo").write_bytes(b"no flow at all")
    cv2.imwrite(str(tmp_path / "grey.png"), np.zeros((3, 3), np.uint8))
    for name, said in (("short.flo", "cut short"), ("other.flo", "Middlebury"), ("grey.png", "16-bit PNG"), ("none.flo", "no such file")):
        with pytest.raises(DataError, match=said):
            read_flow(tmp_path / name)
