"""A network of an extractor or encoder: PyTorch's own, or an exported one in its place, called alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ros2_loc.models.weight_files import locate, sha256
from ros2_loc.perception.backends import BackendConfig, Runner, open_exported, run_at


class ExportedNetwork:
    """Called as the module that it was exported from: (B, C, H, W) -> its outputs, on the images' device."""

    def __init__(self, runner: Runner, outputs: Callable[..., Any]) -> None:
        self._runner = runner
        # (width, height) px that it was exported for, None for any
        self.size = runner.size
        self._outputs = outputs

    def __call__(self, images: Tensor) -> Any:
        maps = run_at(self._runner, images.detach().float().cpu().numpy())
        return self._outputs(*(torch.from_numpy(one).to(images.device) for one in maps))


class NetworkConfig(Protocol):
    """A `BackendConfig` that names weights."""

    @property
    def weights(self) -> str: ...


def in_place_of(network: nn.Module, outputs: Callable[..., Any], name: str, config: NetworkConfig, device: str) -> Any:
    """What an extractor or encoder shall call: `network` itself, or its export.

    Args:
        network: on its device, in evaluation mode.
        outputs: makes of tensors what the network's forward returns (its NamedTuple).
        name: of the network, as the export wrote it.
        config: of the plugin; a `BackendConfig`.
        device: cpu or cuda.

    Raises:
        ConfigError, DataError, MissingDependencyError: as `backends.open_exported`.
    """
    if not isinstance(config, BackendConfig) or config.backend == "torch":
        return network
    return ExportedNetwork(open_exported(config, name, sha256(locate(config.weights)), device), outputs)
