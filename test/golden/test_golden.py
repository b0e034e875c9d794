"""`pytest test/golden --parity DIR`: our networks beside the outputs of the published code, for every seed that DIR has."""

from __future__ import annotations

from pathlib import Path

import golden_centernet
import golden_cosplace
import golden_cvlnet
import golden_cvnet
import golden_d2det
import golden_d2net
import golden_delg
import golden_hrnet
import golden_loftr
import golden_patchnetvlad
import golden_r2d2
import golden_rrt
import golden_superglue
import golden_transvpr
import pytest
from golden_recipe import BAR

COMPARE = {
    "centernet": golden_centernet.compare_all,
    "cosplace": golden_cosplace.compare_all,
    "cvlnet": golden_cvlnet.compare_all,
    "cvnet": golden_cvnet.compare_all,
    "d2det": golden_d2det.compare_all,
    "d2net": golden_d2net.compare_all,
    "delg": golden_delg.compare_all,
    "hrnet": golden_hrnet.compare_all,
    "loftr": golden_loftr.compare_all,
    "patchnetvlad": golden_patchnetvlad.compare_all,
    "r2d2": golden_r2d2.compare_all,
    "rrt": golden_rrt.compare_all,
    "superglue": golden_superglue.compare_all,
    "transvpr": golden_transvpr.compare_all,
}


@pytest.mark.timeout(900)  # two full-size videos and tiles through VGG16
def test_golden(golden: tuple[Path, int], report: list[str]) -> None:
    folder, seed = golden
    compared = COMPARE[folder.name](folder, seed)
    report += [f"{folder.name} seed {seed}: {line}" for line in compared]
    wrong = [str(line) for line in compared if not line.is_good]
    assert compared and not wrong, f"beyond the bar of {BAR:g}, or differing: {wrong}"
