"""R2D2, +LG, +LG+MA by one call: three tiny untrained networks on the same pairs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ros2_loc.cli.main import main
from ros2_loc.errors import ConfigError
from ros2_loc.evaluation.features_methods import ABLATION, ablation_methods
from ros2_loc.evaluation.features_records import FeaturesEvaluation
from ros2_loc.models.context_r2d2 import ContextR2D2
from ros2_loc.models.hrnet import HRNet
from ros2_loc.models.r2d2 import R2D2
from ros2_loc.models.weights import save_model

sys.path.insert(0, str(Path(__file__).parent))
from feature_cases import image_folder

TINY = ContextR2D2.Config(context_channels=8, semantic=HRNet.Config((4, 4, 4, 4), (1, 1, 1), 1, 8, 4, 1), r2d2=R2D2.Config(mchan=1))
ABOUT = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of the three rows."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for k, modules in enumerate(ABLATION.values()):
        save_model(folder / f"{k}.safetensors", ContextR2D2(replace(TINY, **modules)).eval(), ABOUT)
    save_model(folder / "r2d2.safetensors", R2D2(TINY.r2d2).eval(), ABOUT)
    return [str(folder / f"{k}.safetensors") for k in range(3)]


def test_rows_are_told_by_their_files(weights: list[str]) -> None:
    assert [(m.label, m.extractor) for m in ablation_methods(weights)] == [
        (label, {"name": "context_r2d2", "weights": file}) for label, file in zip(ABLATION, weights, strict=True)
    ]
    plain = str(Path(weights[0]).with_name("r2d2.safetensors"))
    assert ablation_methods([plain, *weights[1:]])[0].extractor == {"name": "r2d2", "weights": plain}
    assert ablation_methods(["r2d2_wasf_n16", *weights[1:]])[0].extractor == {"name": "r2d2", "weights": "r2d2_wasf_n16"}


def test_files_in_another_order_are_refused(weights: list[str]) -> None:
    with pytest.raises(ConfigError, match="is not R2D2 \\+ LG but local_guided True, multi_scale True"):
        ablation_methods([weights[0], weights[2], weights[1]])
    with pytest.raises(ConfigError, match="is not R2D2 \\+ LG but r2d2"):
        ablation_methods([weights[0], str(Path(weights[0]).with_name("r2d2.safetensors")), weights[2]])
    with pytest.raises(ConfigError, match="absent"):
        ablation_methods([weights[0], "absent.safetensors", weights[2]])


@pytest.mark.slow
def test_one_command(weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = image_folder(tmp_path / "images", 1)
    words = ["--ablation", *weights, "--extractors", "orb", "--homographies", str(images), "--json", str(tmp_path / "a.json")]
    assert main(["evaluate", "features", *words]) == 0
    cells = FeaturesEvaluation.read_json(tmp_path / "a.json").cells
    assert [cell.method for cell in cells] == ["orb", *ABLATION]
    assert len({tuple(result.name for result in cell.results) for cell in cells}) == 1 and "R2D2 + LG + MA" in capsys.readouterr().out
