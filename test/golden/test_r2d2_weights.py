"""The published weights of R2D2 on real images: which keypoints, their scores and descriptors."""

from __future__ import annotations

from pathlib import Path

import golden_r2d2
import pytest

CASES = [("r2d2_WASF_N16.pt", "boat.png"), ("r2d2_WASF_N16.pt", "test.png"), ("r2d2_WASF_N8_big.pt", "boat.png")]


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "image"), CASES)
def test_keypoints_are_the_published_ones(weights: str, image: str, parity: Path, report: list[str]) -> None:
    folder = parity / "r2d2"
    file = parity.parent / "weights" / "r2d2" / weights
    if not file.is_file() or not (folder / "golden_real.npz").is_file():
        pytest.skip(f"no weights at {file}, or no golden_real.npz: they are not part of this project")
    compared = golden_r2d2.compare_real(folder, file, image)
    report += [f"r2d2: {line}" for line in compared]
    assert not [str(line) for line in compared if not line.is_good]
