"""The lists of KITTI-CVL, in both forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from ros2_loc.errors import DataError
from ros2_loc.io.kitti_cvl import ListedFrame, by_drive, cvlnet_list, read_pose_list, read_tile_list

FRAME = "2011_09_28/2011_09_28_drive_0034_sync/0000000048.png"


def test_a_line_with_its_tile(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{FRAME} 49.010958046418 8.4159707014339\n\n")
    (tile,) = read_tile_list(tmp_path / "list.txt")
    assert tile.frame == ListedFrame("2011_09_28", "2011_09_28_drive_0034_sync", 48) and tile.frame.name == "0000000048.png"
    assert (tile.lat_deg, tile.lon_deg) == (49.010958046418, 8.4159707014339)


def test_a_line_with_a_disturbance_or_without(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{FRAME} -0.3455326 -0.9653194 -0.0077375486\n{FRAME}\n")
    with_it, without = read_pose_list(tmp_path / "list.txt")
    assert with_it.disturbance == (-0.3455326, -0.9653194, -0.0077375486) and without.disturbance is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "is empty"),
        ("# nothing", "is no frame"),
        ("2011_09_28/2011_09_26_drive_0034_sync/0000000048.png 49 8", "is no frame"),
        (f"{FRAME} 49", "not latitude and longitude"),
        (f"{FRAME} 49 8 7", "not latitude and longitude"),
        (f"{FRAME} 49 east", "no numbers"),
        (f"{FRAME} 149 8", "is not a place"),
    ],
)
def test_other_lines_are_told_with_their_number(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "list.txt").write_text(line)
    with pytest.raises(DataError, match=expected) as told:
        read_tile_list(tmp_path / "list.txt")
    assert "\n" not in str(told.value) and (not line or "line 1" in str(told.value))


def test_disturbances_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{FRAME} 0.1 1.2 0.3\n")
    with pytest.raises(DataError, match="from -1 to 1"):
        read_pose_list(tmp_path / "list.txt")


def test_lists_are_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train_files_with_sat_GPS.txt"):
        cvlnet_list(tmp_path, "train")
    (tmp_path / "CVLNet").mkdir()
    (tmp_path / "CVLNet" / "train_files_with_sat_GPS.txt").write_text("x")
    assert cvlnet_list(tmp_path, "train").parent.name == "CVLNet"


def test_the_published_lists_have_the_paper_s_sizes(shared_data: Path) -> None:
    """Table 1: 23 905 to train, 2 362 to validate, 2 473 to test."""
    lists = shared_data / "kitti" / "cvl_lists"
    counts = [len(read_tile_list(cvlnet_list(lists, part))) for part in ("train", "validate", "test")]
    assert counts == [23905, 2362, 2473]
    drives = {part: set(by_drive(read_tile_list(cvlnet_list(lists, part)))) for part in ("train", "validate", "test")}
    assert drives["validate"] & drives["train"] and not drives["test"] & drives["train"], "the tests are of other regions"
    poses = [read_pose_list(lists / "OrienterNet" / f"{name}_files.txt") for name in ("train", "test1", "test2")]
    assert [len(p) for p in poses] == [19655, 3773, 7542]
    assert all(p.disturbance is None for p in poses[0]) and all(p.disturbance is not None for p in poses[1])
