"""Weight files: which there are, what they are allowed for, and loading that takes all of a file or nothing.

Files of this project are safetensors whose header says which network with which settings they are of, and how they came to be. Files of
others are read as they were published and renamed key by key. Nothing is downloaded here: a missing file is an error that says where to
get it.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ros2_loc.config import build, to_dict
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cvlnet.backbones import Published, Vgg16
from ros2_loc.models.cvlnet.network import CVLNet
from ros2_loc.models.cvlnet.official import OfficialCVLNet, fuse_method_of, renamed

DATA = Path(__file__).resolve().parent / "data"
FORMAT = "ros2_loc weights 1"
# name in the header of a file -> class with a nested Config
NETWORKS = {
    "cvlnet": "ros2_loc.models.cvlnet.network:CVLNet",
    "cvlnet_official": "ros2_loc.models.cvlnet.official:OfficialCVLNet",
    "safa": "ros2_loc.models.safa:Safa",
}


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One line of the table.

    Attributes:
        file: name in this package's data folder, or "" for a file that the user brings.
        source: where it is from: a recipe of this project, or the page of those who published it.
        sha256: hexadecimal, of the whole file.
        licence: of the weights.
        preprocessing: what the network expects of an image.
    """

    file: str
    source: str
    sha256: str
    licence: str
    preprocessing: str


TABLE: dict[str, WeightFile] = {
    "small": WeightFile(
        file="cvlnet_small.safetensors",
        source="ros2-loc train cvlnet --data town --recipe small",
        sha256="2e5441962e5b0f1faeb320afd95d912cc9116a7cb1f659e7ba45552732da665c",
        licence="Apache-2.0",
        preprocessing="RGB in 0..1; frames as the level view, tiles north up",
    ),
}


def locate(name_or_path: str | Path) -> Path:
    """The file of a name in the table, or of a path.

    Raises:
        ConfigError: neither a name nor a file.
        DataError: the installed file is missing, or not the one of the table.
    """
    row = TABLE.get(str(name_or_path))
    if row is None:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise ConfigError(f"{name_or_path}: neither a file nor the name of weights; names are: {', '.join(TABLE) or 'none yet'}")
        return path
    path = DATA / row.file
    if not path.is_file():
        raise DataError(f"{path}: the weights {name_or_path!r} are not in this installation: install ros2_loc again")
    if (found := sha256(path)) != row.sha256:
        raise DataError(f"{path}: sha256 is {found[:12]}..., {name_or_path!r} has {row.sha256[:12]}...: install ros2_loc again")
    return path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a weight file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_model(path: str | Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a network of NETWORKS with its config as safetensors, to a temporary name first.

    Args:
        path: of the file; an older one is replaced.
        network: on any device.
        metadata: goes into the header as JSON; `recipe`, `seed` and `licence` must be among it.

    Raises:
        ConfigError: metadata is lacking.
        DataError: the file can't be written.
    """
    if missing := {"recipe", "seed", "licence"} - set(metadata):
        raise ConfigError(f"{path}: weights are written with their {', '.join(sorted(missing))}")
    config = to_dict(network.config)  # type: ignore[arg-type]
    header = {"format": FORMAT, "network": _name_of(network), "config": config, **metadata}
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            save_file(state, Path(folder, path.name), {key: json.dumps(value) for key, value in header.items()})
            Path(folder, path.name).replace(path)
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error.strerror}; choose another place") from error


def read_metadata(name_or_path: str | Path) -> dict[str, Any]:
    """The header of a safetensors file of this project: format, network, config, recipe, seed, licence and what else was given.

    Raises:
        ConfigError, DataError: as `locate`; not a safetensors file, or one of someone else.
    """
    path = locate(name_or_path)
    try:
        with safe_open(path, "pt") as file:
            header = {key: _json(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: is no safetensors file, or was cut short: {_one_line(error)}; copy it again") from error
    if header.get("format") != FORMAT or header.get("network") not in NETWORKS:
        raise DataError(f"{path}: its header is not of {FORMAT!r}: give a file that `ros2-loc train` wrote")
    return header


def load_model(name_or_path: str | Path, device: str = "cpu") -> nn.Module:
    """The network of a file, in evaluation mode.

    A file that ends in .pth or .pt is a checkpoint of CVLNet's authors.

    Raises:
        ConfigError, DataError: as `read_metadata`; keys or shapes that are not those of the network.
    """
    path = locate(name_or_path)
    network = _of_the_authors(path) if path.suffix in (".pth", ".pt") else _of_this_project(path)
    return network.eval().to(device)


def load_cvlnet(name_or_path: str | Path) -> tuple[CVLNet | OfficialCVLNet, str]:
    """A network for cross-view matching and the sha256 of its file; raises as `load_model`, and ConfigError for another network."""
    network = load_model(name_or_path)
    if not isinstance(network, (CVLNet, OfficialCVLNet)):
        raise ConfigError(f"{name_or_path}: is of {_name_of(network)}, here only CVLNet fits")
    return network, sha256(locate(name_or_path))


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Lay all of `state` into `module`.

    Raises:
        DataError: in one line, which keys are missing, unknown, or of another shape; the module is then as it was.
    """
    own = module.state_dict()
    missing, unknown = [key for key in own if key not in state], [key for key in state if key not in own]
    pairs = [(key, tuple(state[key].shape), tuple(own[key].shape)) for key in own if key in state]
    other = [f"{key} {found} for {wanted}" for key, found, wanted in pairs if found != wanted]
    kinds = ((missing, "missing"), (unknown, "unknown"), (other, "of another shape"))
    complaints = [f"{_some(keys)} {what}" for keys, what in kinds if keys]
    if complaints:
        raise DataError(f"{where}: {'; '.join(complaints)}: these are weights of another network or other settings")
    module.load_state_dict(state, strict=True)


def load_trunk(backbone: nn.Module, path: str | Path) -> None:
    """Lay published ImageNet weights (torchvision's vgg16, timm's resnet50, swin_tiny_patch4_window7_224, vit_small_patch16_224) into a
    backbone's trunk. What lies behind stride 16 in the file is left out by name; all else must fit.

    Args:
        backbone: of `backbones.make_backbone`.
        path: a .safetensors, .pth or .pt file that the user has downloaded.

    Raises:
        ConfigError: a backbone without published weights, or no such file.
        DataError: weights of another network.
    """
    if not isinstance(backbone, Published):
        raise ConfigError(f"{path}: this backbone has no published weights: leave its path out")
    path = locate(path)
    trunk = backbone.trunk
    state = _tensors(path)
    kept = {key: value for key, value in state.items() if not key.startswith(trunk.dropped)}
    load_strictly(trunk if isinstance(trunk, Vgg16) else trunk.network, kept, str(path))  # type: ignore[arg-type]


def _of_this_project(path: Path) -> nn.Module:
    header = read_metadata(path)
    network = _make(header["network"], header.get("config", {}), str(path))
    load_strictly(network, _tensors(path), str(path))
    return network


def _of_the_authors(path: Path) -> OfficialCVLNet:
    state = _tensors(path)
    fuse_method = fuse_method_of(state)
    if fuse_method is None:
        raise DataError(f"{path}: is no checkpoint of CVLNet's authors; give their Model_best.pth or a .safetensors of this project")
    network = OfficialCVLNet(OfficialCVLNet.Config(fuse_method))
    load_strictly(network, renamed(state), str(path))
    return network


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: can't be read as weights: {_one_line(error)}; copy the file again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: holds more than a flat state_dict: give a file of weights alone")
    return state


def _make(name: str, values: Mapping[str, Any], where: str) -> nn.Module:
    module, _, attribute = NETWORKS[name].partition(":")
    network: Any = getattr(import_module(module), attribute)
    return network(build(network.Config, values, where))


def _name_of(network: nn.Module) -> str:
    target = f"{type(network).__module__}:{type(network).__qualname__}"
    return next(name for name, own in NETWORKS.items() if own == target)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # someone else's header
        return text


def _some(keys: list[str]) -> str:
    return f"{', '.join(keys[:2])}{f' and {len(keys) - 2} more' if len(keys) > 2 else ''}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
