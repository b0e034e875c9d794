"""The loaders of published files: whatever else they are given is one line that names the file, and touches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ros2_loc.errors import DataError
from ros2_loc.models.weight_table import TABLE
from ros2_loc.models.weights import attribute_of

LOADERS = sorted({row.loader for row in TABLE.values() if row.loader} | {"ros2_loc.models.cvlnet.loading:load_published"})


def files(folder: Path) -> dict[str, Path]:
    """Not weights, weights cut short, of nobody, and of another network (r2d2's first layer, superpoint's first, a ResNet's)."""
    names = {
        "other": {"conv.weight": torch.zeros(2, 3)},
        "r2d2": {"net": "Quad_L2Net_ConfCFS()", "state_dict": {"module.ops.0.weight": torch.zeros(32, 3, 3, 3)}},
        "superpoint": {"conv1a.weight": torch.zeros(64, 1, 3, 3), "conv1a.bias": torch.zeros(64)},
        "resnet": {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)},
        "nested": {"epoch": 3, "optimizer": {"state": {}}},
    }
    for name, content in names.items():
        torch.save(content, folder / f"{name}.pth")
    (folder / "text.pth").write_text("<html>404</html>")
    (folder / "cut.pth").write_bytes((folder / "r2d2.pth").read_bytes()[:-300])
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("loader", LOADERS)
def test_other_files_are_one_line_that_names_them(loader: str, tmp_path: Path) -> None:
    for path in files(tmp_path).values():
        with pytest.raises(DataError) as caught:
            attribute_of(loader)(path)
        said = str(caught.value)
        assert str(path) in said and "\n" not in said and len(said) < 400, said


@pytest.mark.parametrize("loader", LOADERS)
def test_a_name_whose_file_is_missing_says_what_to_type(loader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in (name for name, row in TABLE.items() if row.loader == loader):
        with pytest.raises(DataError, match=rf"{TABLE[name].published}.* are not here: ros2-loc weights pull {name}"):
            attribute_of(loader)(name)
