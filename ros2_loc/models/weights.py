"""Reading and writing weight files: all of a file goes into a network, or nothing.

Files of this project are safetensors whose header says which network with which settings they are of, and how they came to be. Files of
others are read as they were published; the file of each network renames their keys. Which files have names: `weight_table`; where they
lie: `weight_files`.
"""

from __future__ import annotations

import json
import pickle
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ros2_loc.config import build, to_dict
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weight_files import locate
from ros2_loc.models.weight_table import TABLE

FORMAT = "ros2_loc weights 1"
# name in the header of a file -> class with a nested Config
NETWORKS = {
    "cvlnet": "ros2_loc.models.cvlnet.network:CVLNet",
    "cvlnet_official": "ros2_loc.models.cvlnet.official:OfficialCVLNet",
    "safa": "ros2_loc.models.safa:Safa",
    "r2d2": "ros2_loc.models.r2d2:R2D2",
    "context_r2d2": "ros2_loc.models.context_r2d2:ContextR2D2",
    "centernet": "ros2_loc.models.centernet.network:CenterNet",
    "cosplace": "ros2_loc.models.cosplace:CosPlace",
    "d2net": "ros2_loc.models.d2net:D2Net",
    "d2det": "ros2_loc.models.d2det.network:D2Det",
    "delg": "ros2_loc.models.delg:Delg",
    "cvnet": "ros2_loc.models.cvnet:CvNet",
    "rrt": "ros2_loc.models.rrt:Rrt",
    "netvlad": "ros2_loc.models.patch_netvlad:NetVlad",
    "loftr": "ros2_loc.models.loftr:LoFTR",
    "superglue": "ros2_loc.models.superglue:SuperGlue",
    "superpoint": "ros2_loc.models.superpoint:SuperPoint",
    "transvpr": "ros2_loc.models.transvpr:TransVpr",
}
# where checkpoints of others keep their state_dict among other things
WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "net", "params", "state")


def new_name(names: Sequence[tuple[str, str]], key: str, refusal: str) -> str:
    """The name of a weight in this project: by the first of (pattern, replacement) that its authors' name begins with.

    Raises:
        DataError: none does; `refusal` says of whom the weight is not, and what to do.
    """
    name = next((re.sub(pattern, new, key) for pattern, new in names if re.match(pattern, key)), None)
    if name is None:
        raise DataError(f"{key}: {refusal}")
    return name


def save_model(path: str | Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a network of NETWORKS with its config as safetensors, to a temporary name first.

    Args:
        path: of the file; an older one is replaced.
        network: on any device.
        metadata: goes into the header as JSON; `recipe`, `seed` and `licence` must be among it.

    Raises:
        ConfigError: metadata is lacking, or the network is not among NETWORKS.
        DataError: the file can't be written.
    """
    if missing := {"recipe", "seed", "licence"} - set(metadata):
        raise ConfigError(f"{path}: weights are written with their {', '.join(sorted(missing))}")
    if not name_of(network):
        raise ConfigError(f"{path}: {type(network).__qualname__} is none of the networks {', '.join(NETWORKS)}")
    config = to_dict(network.config)  # type: ignore[arg-type]
    header = {"format": FORMAT, "network": name_of(network), "config": config, **metadata}
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
    """The network of a file of this project, or of a name in the table, in evaluation mode.

    Raises:
        ConfigError, DataError: as `read_metadata`; keys or shapes that are not those of the network.
    """
    row = TABLE.get(str(name_or_path))
    path = locate(name_or_path)
    network: nn.Module = attribute_of(row.loader)(path) if row and row.loader else _of_this_project(path)
    return network.eval().to(device)


def attribute_of(target: str) -> Any:
    """The class or function of "module:attribute"."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def name_of(network: nn.Module) -> str:
    """The name in NETWORKS of a network's class; "" for one that has none."""
    target = f"{type(network).__module__}:{type(network).__qualname__}"
    return next((name for name, own in NETWORKS.items() if own == target), "")


def tensors_of(name_or_path: str | Path) -> dict[str, Tensor]:
    """The state_dict of a safetensors file or of a checkpoint, as its authors named it; what else a checkpoint holds is left out.

    Nothing in the file is executed: pickled objects other than tensors and plain values are refused.

    Raises:
        ConfigError, DataError: as `locate`; a file that is cut short, holds objects, or no tensors.
    """
    path = locate(name_or_path)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: can't be read as weights: {_one_line(error)}; copy the file again") from error
    held = [content] if isinstance(content, dict) else []
    held += [content[key] for state in held for key in WRAPPERS if key in state]
    state = next((state for state in held if _is_state(state)), None)
    if state is None:
        raise DataError(f"{path}: holds no state_dict, neither by itself nor under {', '.join(WRAPPERS)}: give a file of weights")
    return dict(state)


@contextmanager
def told_of(where: str | Path) -> Iterator[None]:
    """What is wrong with a state_dict, told of the file that it is from: for the functions that rename keys and look at shapes.

    Raises:
        DataError: a DataError or a missing key of the block, with `where` before it.
    """
    try:
        yield
    except DataError as error:
        raise error if str(where) in str(error) else DataError(f"{where}: {error}") from error
    except KeyError as error:
        raise DataError(f"{where}: has no {error.args[0]}: these are weights of another network") from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Lay all of `state` into `module`.

    Raises:
        DataError: in one line, which keys are missing, unknown, of another shape or not finite; the module is then as it was.
    """
    own = module.state_dict()
    missing, unknown = [key for key in own if key not in state], [key for key in state if key not in own]
    pairs = [(key, tuple(state[key].shape), tuple(own[key].shape)) for key in own if key in state]
    other = [f"{key} {found} for {wanted}" for key, found, wanted in pairs if found != wanted]
    kinds = ((missing, "missing"), (unknown, "unknown"), (other, "of another shape"))
    complaints = [f"{_some(keys)} {what}" for keys, what in kinds if keys]
    if complaints:
        raise DataError(f"{where}: {'; '.join(complaints)}: these are weights of another network or other settings")
    damaged = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if damaged:
        raise DataError(f"{where}: {_some(damaged)} not finite: the file is damaged, or its training diverged")
    module.load_state_dict(state, strict=True)


def _of_this_project(path: Path) -> nn.Module:
    header = read_metadata(path)
    network = _make(header["network"], header.get("config", {}), str(path))
    load_strictly(network, tensors_of(path), str(path))
    return network


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(entry, Tensor) for entry in value.values())


def _make(name: str, values: Mapping[str, Any], where: str) -> nn.Module:
    network = attribute_of(NETWORKS[name])
    return network(build(network.Config, values, where))  # type: ignore[no-any-return]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # someone else's header
        return text


def _some(keys: list[str]) -> str:
    return f"{', '.join(keys[:2])}{f' and {len(keys) - 2} more' if len(keys) > 2 else ''}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
