"""Training in several processes, as torchrun starts them; or in one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ros2_loc.errors import ConfigError

_PATIENCE = timedelta(hours=2)  # the others wait while the first validates


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together: its number, how many there are, its device ("cpu", "cuda:1")."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, or one around it that averages gradients over the processes."""
        if self.size == 1:
            return module
        on_gpu = self.device.startswith("cuda")
        return DistributedDataParallel(
            module,
            device_ids=[torch.device(self.device)] if on_gpu else None,
            find_unused_parameters=bool(getattr(module, "leaves_out", False)),  # costs a walk through the graph
        )

    def any(self, here: bool) -> bool:
        """Whether it is so in any of the processes."""
        if self.size == 1:
            return here
        flag = torch.tensor([float(here)], device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """The group that torchrun made (variables RANK, LOCAL_RANK, WORLD_SIZE), or this process alone.

    Args:
        device: "cpu", "cuda", "cuda:1", or "auto": a GPU where there is one.

    Raises:
        ConfigError: a GPU is asked for where there is none.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    device = device_of(device, local if size > 1 else None)
    if size == 1:
        yield Processes(device=device)
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def device_of(name: str, local_rank: int | None = None) -> str:
    """The device that a name stands for; raises ConfigError for a GPU that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {name}: torch sees no GPU here; use cpu, or install the torch build for this machine's driver")
    return f"cuda:{local_rank}" if name == "cuda" and local_rank is not None else name
