"""The state of a training, in one file that is whole or not there and that holds tensors and plain values only."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path, require_file

_FORMAT = 2


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: steps done.
        best, best_step: the best validation so far, and after which step.
        sums: of each loss over the steps of this epoch.
        history: what was measured at the end of each epoch.
    """

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(
    path: Path, objective: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, done: Progress
) -> None:
    """Write everything that the next step depends on, random numbers too.

    Raises:
        DataError: it can't be written.
    """
    state: dict[str, Any] = {
        "format": _FORMAT,
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "progress": vars(done),
        "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []},
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(
    path: Path, objective: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, device: str
) -> Progress:
    """Bring a training back to where `save_checkpoint` saw it.

    Raises:
        DataError: no such file, not a checkpoint, or one of another network.
    """
    state = _read(path, device)
    try:
        objective.load_state_dict(state["objective"], strict=True)
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: is of another network or another recipe: {said}; resume with the recipe beside it") from error
    if state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    _restore_random(state["random"])
    return Progress(**state["progress"])


def _read(path: Path, device: str) -> dict[str, Any]:
    try:
        state = torch.load(require_file(path, "checkpoint"), map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: is no checkpoint, or damaged; train again without --resume") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise DataError(f"{path}: is no checkpoint of this version; train again without --resume")
    return state


def _restore_random(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    on_gpus: list[Tensor] = states["cuda"]
    if torch.cuda.is_available() and len(on_gpus) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in on_gpus])
