"""Masks in a file, and of the images of a sequence."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import DataError
from ros2_loc.io.features import stored_names
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.masks import append_mask, masked_share, read_mask, with_masks


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_a_mask_comes_back_as_it_was(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, height, width)) < 0.5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.h5"
        append_mask(path, "a.png", first)
        append_mask(path, "b.png", first)
        append_mask(path, "b.png", second)
        assert stored_names(path) == {"a.png", "b.png"}
        np.testing.assert_array_equal(read_mask(path, "a.png"), first)
        np.testing.assert_array_equal(read_mask(path, "b.png"), second)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "masks.h5"
    with pytest.raises(DataError, match=r"masks.h5: missing"):
        read_mask(path, "a.png")
    append_mask(path, "a.png", np.ones((4, 5), dtype=bool))
    with pytest.raises(DataError, match=r"has no mask of b.png"):
        read_mask(path, "b.png")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cut short"):
        read_mask(path, "a.png")


def test_frames_of_a_sequence_have_its_masks(town_sequence: ImageSequence, tmp_path: Path) -> None:
    assert town_sequence.frame(0).mask is None
    masks = np.random.default_rng(0).random((20, 200, 320)) < 0.5
    for name, mask in zip(town_sequence.names, masks, strict=True):
        append_mask(tmp_path / "masks.h5", name, mask)
    masked = with_masks(town_sequence, tmp_path / "masks.h5").subset([3, 7, 8])
    for row, i in enumerate((3, 7, 8)):
        np.testing.assert_array_equal(masked.frame(row).mask, masks[i])  # type: ignore[arg-type]
    assert masked_share(masked) == pytest.approx(1.0 - masks[[3, 7, 8]].mean()) and masked_share(town_sequence) == 0.0
    wrong = replace(town_sequence, load_mask=lambda i: np.ones((2, 2), dtype=bool))
    with pytest.raises(DataError, match="size of the image"):
        wrong.frame(0)
