"""Checkpoints of CenterNet's authors in the network of this project.

They are state_dicts of a module within a module, so that each name begins with `module.`, saved by PyTorch as `.pkl`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ros2_loc.core.labels import COCO
from ros2_loc.errors import DataError
from ros2_loc.models.centernet.network import CenterNet
from ros2_loc.models.weights import load_strictly, new_name, tensors_of, told_of


def load_published(path: str | Path) -> CenterNet:
    """CenterNet-52 or CenterNet-104 as its authors published it, in evaluation mode; it knows COCO's 80 labels.

    Raises:
        ConfigError, DataError: no such file; not weights of this network.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        network = CenterNet(config_of(state))
        load_strictly(network, state, str(path))
    return network.eval()


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `CenterNet`.

    Raises:
        DataError: a name that is not theirs.
    """
    return {_renamed(key): value for key, value in state.items()}


def config_of(state: Mapping[str, Tensor]) -> CenterNet.Config:
    """The sizes of renamed weights: how many stacks, the rest as in the paper.

    Raises:
        DataError: another number of labels than COCO's.
    """
    heat = state["stacks.0.tl_heat.2.weight"]
    if len(heat) != len(COCO):
        raise DataError(f"finds {len(heat)} kinds of objects, the authors' weights {len(COCO)}, COCO's: give a checkpoint of theirs")
    stacks = {key.split(".")[1] for key in state if key.startswith("stacks.")}
    return CenterNet.Config(COCO, stacks=len(stacks))


_NAMES = (
    (r"module\.pre\.", "stem."),
    (r"module\.kps\.(\d+)\.", r"stacks.\1.hourglass."),
    (r"module\.cnvs\.(\d+)\.", r"stacks.\1.neck."),
    (r"module\.(tl|br|ct)_cnvs\.(\d+)\.", r"stacks.\2.\1_pool."),
    (r"module\.(tl|br|ct)_heats\.(\d+)\.", r"stacks.\2.\1_heat."),
    (r"module\.(tl|br)_tags\.(\d+)\.", r"stacks.\2.\1_tag."),
    (r"module\.(tl|br|ct)_regrs\.(\d+)\.", r"stacks.\2.\1_offset."),
    (r"module\.inters_\.(\d+)\.", r"between.\1.before."),
    (r"module\.cnvs_\.(\d+)\.", r"between.\1.after."),
    (r"module\.inters\.(\d+)\.", r"between.\1.residual."),
)
_OF_HOURGLASS = {"up1": "past", "low1": "down", "low2": "inner", "low3": "up"}
_OF_POOLING = {
    "look_conv1": "look1",
    "look_conv2": "look2",
    "p1_conv1": "border1",
    "p2_conv1": "border2",
    "P1_look_conv": "inside1",
    "P2_look_conv": "inside2",
    "p_conv1": "merge.pooled.0",
    "p_bn1": "merge.pooled.1",
    "conv1": "merge.skip.0",
    "bn1": "merge.skip.1",
    "conv2": "merge.out",
}
_OF_CENTRES = _OF_POOLING | {"p1_conv1": "vertical", "p2_conv1": "horizontal"}
_OF_HEADS = {"0.conv": "0", "1": "2"}


def _renamed(key: str) -> str:
    name = new_name(_NAMES, key, "is no weight of CenterNet's authors; give a checkpoint of theirs")
    if found := re.match(r"(stacks\.\d+\.hourglass\.)((?:(?:up1|low1|low2|low3)\.)+)", name):
        path = "".join(f"{_OF_HOURGLASS[part]}." for part in found[2].rstrip(".").split("."))
        return found[1] + path + name[found.end() :]
    if found := re.match(r"(stacks\.\d+\.(tl|br|ct)_pool\.)([^.]+)", name):
        parts = _OF_CENTRES if found[2] == "ct" else _OF_POOLING
        return found[1] + parts.get(found[3], found[3]) + name[found.end() :]
    if found := re.match(r"(stacks\.\d+\.\w\w_(?:heat|tag|offset)\.)(0\.conv|1)(?=\.)", name):
        return found[1] + _OF_HEADS[found[2]] + name[found.end() :]
    return name
