"""Weight files: round trip with their header, the table, strict loading, and one line for each kind of damage."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ros2_loc.errors import ConfigError, DataError, Ros2LocError
from ros2_loc.models import cvlnet, weight_files, weights
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.models.cvlnet.backbones import make_backbone
from ros2_loc.models.cvlnet.loading import load_cvlnet, load_trunk
from ros2_loc.models.safa import Safa
from ros2_loc.models.weight_files import sha256
from ros2_loc.models.weight_table import TABLE, WeightFile

HISTORY = {"recipe": {"epochs": 2, "data": ["town"]}, "seed": 7, "licence": "Apache-2.0"}
CONFIG = CVLNet.Config(cells=8, coverage_m=25.6, tile_px=32, image_px=(32, 64), fusion="lstm")


@pytest.fixture
def network() -> CVLNet:
    return cvlnet.random(CONFIG, seed=3)


@pytest.fixture
def file(network: CVLNet, tmp_path: Path) -> Path:
    weights.save_model(tmp_path / "network.safetensors", network, HISTORY)
    return tmp_path / "network.safetensors"


def damaged(file: Path, network: nn.Module, **changes: torch.Tensor | None) -> Path:
    """The file with tensors replaced, added, or (None) left out; `__` in a name stands for a dot."""
    state = {**network.state_dict(), **{key.replace("__", "."): value for key, value in changes.items()}}
    header = {key: weights.json.dumps(value) for key, value in weights.read_metadata(file).items()}
    save_file({key: value for key, value in state.items() if value is not None}, file, header)
    return file


def test_round_trip(file: Path, network: CVLNet) -> None:
    loaded = weights.load_model(file)
    assert isinstance(loaded, CVLNet) and loaded.config == CONFIG and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True))
    header = weights.read_metadata(file)
    assert header["network"] == "cvlnet" and {key: header[key] for key in HISTORY} == HISTORY


def test_every_network_of_the_table_can_be_written_and_read(tmp_path: Path) -> None:
    safa = Safa(Safa.Config(channels=4, position_maps=2, tile_px=32, image_px=(16, 32), polar=False))
    weights.save_model(tmp_path / "s.safetensors", safa, HISTORY)
    loaded = weights.load_model(tmp_path / "s.safetensors")
    assert isinstance(loaded, Safa) and loaded.config == safa.config
    with pytest.raises(ConfigError, match="of safa, here only CVLNet fits"):
        load_cvlnet(tmp_path / "s.safetensors")


def test_the_fingerprint_is_of_the_file(file: Path) -> None:
    assert load_cvlnet(file)[1] == sha256(file)


def test_random_weights_are_those_of_their_seed(network: CVLNet) -> None:
    state = torch.random.get_rng_state()
    again, other = cvlnet.random(CONFIG, seed=3), cvlnet.random(CONFIG, seed=4)
    assert torch.equal(state, torch.random.get_rng_state())
    first = next(iter(network.parameters()))
    assert torch.equal(first, next(iter(again.parameters()))) and not torch.equal(first, next(iter(other.parameters())))


def test_an_interrupted_write_leaves_the_old_file(file: Path, network: CVLNet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def breaks(state: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", breaks)
    with pytest.raises(DataError, match="No space left"):
        weights.save_model(file, network, HISTORY)
    assert file.read_bytes() == before and [path.name for path in file.parent.iterdir()] == [file.name]


def test_weights_without_a_history_are_not_written(network: CVLNet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="licence, seed"):
        weights.save_model(tmp_path / "x.safetensors", network, {"recipe": {}})
    assert not list(tmp_path.iterdir())


def test_each_mismatch_is_named(file: Path, network: CVLNet) -> None:
    key = "ground_descriptor__0__weight"
    for changes, said in (
        ({key: None}, r"ground_descriptor.0.weight missing"),
        ({"extra": torch.zeros(1)}, r"extra unknown"),
        ({key: torch.full((16, 16, 3, 3), torch.nan)}, r"ground_descriptor.0.weight not finite: the file is damaged"),
        ({key: torch.zeros(2, 2)}, r"ground_descriptor.0.weight \(2, 2\) for \(16, 16, 3, 3\) of another shape"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            weights.load_model(damaged(file, network, **changes))
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.safetensors", None, "cut short"),
        ("text.safetensors", b"not weights at all", "is no safetensors"),
        ("text.pth", b"not weights at all", "can't be read as weights"),
        ("code.pth", {"hook": dataclasses.dataclass}, "can't be read as weights"),
        ("nested.pth", {"epoch": 3, "model": {}}, "holds no state_dict"),
        ("other.pth", {"conv.weight": torch.zeros(2)}, "no checkpoint of CVLNet's authors"),
    ],
)
def test_other_files_are_one_line(name: str, content: object, said: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if isinstance(content, dict):
        torch.save(content, path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else file.read_bytes()[:-100])
    with pytest.raises(Ros2LocError, match=said) as caught:
        load_cvlnet(path)
    assert "\n" not in str(caught.value)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="ros2-loc train"):
        weights.load_model(tmp_path / "other.safetensors")


def test_a_name_that_is_neither_lists_the_names() -> None:
    with pytest.raises(ConfigError, match="huge: neither a file nor the name of weights"):
        weights.load_model("huge")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state", "net", None])
def test_tensors_are_found_beside_what_else_a_checkpoint_holds(wrapper: str | None, tmp_path: Path) -> None:
    state = {"conv.weight": torch.ones(2), "conv.bias": torch.zeros(1)}
    beside = {"epoch": 3, "net": "Quad_L2Net_ConfCFS()", "optimizer": {"state": {}}}
    torch.save({**beside, wrapper: state} if wrapper else state, tmp_path / "theirs.pth")
    found = weights.tensors_of(tmp_path / "theirs.pth")
    assert list(found) == list(state) and all(torch.equal(found[key], state[key]) for key in state)


def row_of(file: Path) -> WeightFile:
    return WeightFile(
        file=file.name, source="a test", sha256=sha256(file), licence="Apache-2.0", commercial=True, size_mb=0.1, preprocessing="0..1"
    )


def test_names_of_the_table_are_checked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "DATA", file.parent)
    row = row_of(file)
    monkeypatch.setitem(TABLE, "mine", row)
    assert isinstance(weights.load_model("mine"), CVLNet)
    monkeypatch.setitem(TABLE, "mine", dataclasses.replace(row, sha256="0" * 64))
    with pytest.raises(DataError, match="sha256 is"):
        weights.load_model("mine")
    monkeypatch.setitem(TABLE, "mine", dataclasses.replace(row, file="gone.safetensors"))
    with pytest.raises(DataError, match="not in this installation"):
        weights.load_model("mine")


def test_what_is_shipped_is_small_and_says_its_licence() -> None:
    for name, row in TABLE.items():
        if row.file:
            assert weights.locate(name).stat().st_size < 5e6
            header = weights.read_metadata(name)
            assert header["licence"] == row.licence and {"recipe", "seed"} <= set(header)


def test_published_weights_fill_the_trunk(tmp_path: Path) -> None:
    backbone = make_backbone("vgg16", 4)
    published = {key: torch.full_like(value, 0.5) for key, value in backbone.trunk.state_dict().items()}  # type: ignore[union-attr]
    behind = {"features.24.weight": torch.zeros(1), "classifier.6.bias": torch.zeros(1000)}
    torch.save({**published, **behind}, tmp_path / "vgg16.pth")
    load_trunk(backbone, tmp_path / "vgg16.pth")
    assert all((value == 0.5).all() for value in backbone.trunk.state_dict().values())  # type: ignore[union-attr]
    torch.save({**published, "features.99.weight": torch.zeros(1)}, tmp_path / "vgg19.pth")
    with pytest.raises(DataError, match="features.99.weight unknown"):
        load_trunk(backbone, tmp_path / "vgg19.pth")
    with pytest.raises(ConfigError, match="no published weights"):
        load_trunk(make_backbone("small", 4), tmp_path / "vgg16.pth")
