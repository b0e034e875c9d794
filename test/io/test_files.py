"""Files are whole or not there; text files of numbers say what is wrong with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.errors import DataError
from ros2_loc.io import files


def everything_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "a.txt"
    with files.atomic_path(target) as temporary:
        temporary.write_text("half")
        assert temporary.name == "a.txt" and not target.exists()
    assert target.read_text() == "half" and everything_in(tmp_path) == ["sub", "sub/a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_half_written_is_left_and_the_old_one_stays(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), files.atomic_path(target) as temporary:
        temporary.write_text("ha")
        raise error
    assert target.read_text() == "old" and everything_in(tmp_path) == ["a.txt"]


def test_a_folder_replaces_the_old_one_at_once(tmp_path: Path) -> None:
    target = tmp_path / "map"
    for generation in ("one", "two"):
        with files.atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / generation).touch()
    assert everything_in(tmp_path) == ["map", "map/two"]


def test_what_exists_may_be_protected(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match="exists already"), files.atomic_path(tmp_path / "a", overwrite=False):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="can't be written"), files.atomic_path(tmp_path / "file" / "a.txt"):
        pass


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    with pytest.raises(DataError, match="none"):
        files.sha256(tmp_path / "none")


def test_rows_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("# head\n1, 2.5 -3e-2\n\n4 5 6 # tail\n")
    np.testing.assert_array_equal(files.rows_of_numbers(path, "numbers"), [[1, 2.5, -0.03], [4, 5, 6]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "no numbers"),
        (b"1 2\n3", "line 2 has 1 numbers where the first has 2"),
        (b"1 2\n3 four\n", "line 2 is not numbers"),
        (b"1 2\n3 nan\n", "row 2 holds a number that is not finite"),
        (b"\xff\xd8\xff\xe0\x00", "not text"),
    ],
)
def test_damaged_numbers_are_told_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        files.rows_of_numbers(path, "numbers")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; give the path of the poses"):
        files.require_file(tmp_path / "x", "poses")
    with pytest.raises(DataError, match="is a folder"):
        files.require_file(tmp_path, "poses")
