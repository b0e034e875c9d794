"""What plugins with a network share: the device, and the network of a weight file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ros2_loc.errors import ConfigError
from ros2_loc.models.weight_files import locate
from ros2_loc.models.weights import load_model, name_of

Network = TypeVar("Network", bound=nn.Module)


def device_of(plugin: str, device: str, half: bool) -> torch.device:
    """The device of a plugin.

    Raises:
        ConfigError: no GPU where one is asked for; 16-bit floats without one.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{plugin}: no GPU for device {device!r} here; use device cpu")
    if half and not device.startswith("cuda"):
        raise ConfigError(f"{plugin}: half: true needs a GPU, and the device is {device!r}; leave it out")
    return torch.device(device)


def open_network(weights: str | Path, kind: type[Network], load_published: Callable[[Path], Network]) -> Network:
    """The network of a name or path, in evaluation mode: of a safetensors file of this project, or of the authors' checkpoint.

    Raises:
        ConfigError, DataError: no such file, or one of another network.
    """
    path = locate(weights)
    if path.suffix != ".safetensors":
        return load_published(path)
    network = load_model(path)
    if not isinstance(network, kind):
        raise ConfigError(f"{weights}: is of {name_of(network)}, here only {kind.__name__} fits")
    return network
