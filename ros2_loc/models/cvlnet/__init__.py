"""CVLNet: Shi, Yu, Wang, Li, "CVLNet: Cross-view Semantic Correspondence Learning for Video-based Camera Localization", ACCV 2022."""

from __future__ import annotations

import torch

from ros2_loc.models.cvlnet.network import CVLNet

__all__ = ["CVLNet", "random"]


def random(config: CVLNet.Config, seed: int) -> CVLNet:
    """A network with random weights, the same for the same seed; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CVLNet(config)
