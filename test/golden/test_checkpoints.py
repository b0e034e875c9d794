"""The authors' checkpoints, made up from their keys and shapes, through the loader of weights: every fuse_method, strictly."""

from __future__ import annotations

from pathlib import Path

import golden_cvlnet
import pytest
import torch
from golden_recipe import state_dict

from ros2_loc.models.cvlnet.loading import load_cvlnet
from ros2_loc.models.cvlnet.official import OfficialCVLNet, fuse_method_of, renamed
from ros2_loc.models.cvlnet.official_fusion import FUSE_METHODS


@pytest.fixture(scope="module")
def folder(parity: Path) -> Path:
    return parity / "cvlnet"


@pytest.mark.parametrize("fuse_method", FUSE_METHODS)
def test_every_key_of_theirs_has_one_place(fuse_method: str, folder: Path) -> None:
    keys = golden_cvlnet.variants(folder)[fuse_method]
    with torch.device("meta"):  # shapes without numbers
        state = {key: torch.zeros(shape) for key, shape in keys.items()}
        network = OfficialCVLNet(OfficialCVLNet.Config(fuse_method))
    assert fuse_method_of(state) == fuse_method
    placed = {key: value.shape for key, value in renamed(state).items()}
    assert len(placed) == len(keys) and placed == {key: value.shape for key, value in network.state_dict().items()}


def test_a_checkpoint_file_is_recognized(folder: Path, tmp_path: Path) -> None:
    keys = golden_cvlnet.variants(folder)["vis_LSTM"]
    state = state_dict({key: shape for key, shape in keys.items() if "FeatureNet.model.0." not in key}, {}, seed=3)
    trunks = {key: torch.zeros(shape) for key, shape in keys.items() if "FeatureNet.model.0." in key}
    torch.save({**trunks, **state}, tmp_path / "Model_best.pth")
    network, sha256 = load_cvlnet(tmp_path / "Model_best.pth")
    assert isinstance(network, OfficialCVLNet) and network.config.fuse_method == "vis_LSTM" and len(sha256) == 64
