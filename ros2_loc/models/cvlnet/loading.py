"""CVLNet from files: of this project, of its authors, and trunks with published ImageNet weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cvlnet.backbones import Published, Vgg16
from ros2_loc.models.cvlnet.network import CVLNet
from ros2_loc.models.cvlnet.official import OfficialCVLNet, fuse_method_of, renamed
from ros2_loc.models.weight_files import locate, sha256
from ros2_loc.models.weights import load_model, load_strictly, name_of, tensors_of


def load_cvlnet(name_or_path: str | Path) -> tuple[CVLNet | OfficialCVLNet, str]:
    """A network for cross-view matching in evaluation mode, and the sha256 of its file.

    A file that ends in .pth or .pt is a checkpoint of CVLNet's authors.

    Raises:
        ConfigError: no such file, or one of another network.
        DataError: as `models.weights.load_model`.
    """
    path = locate(name_or_path)
    network = load_published(path) if path.suffix in (".pth", ".pt") else load_model(path)
    if not isinstance(network, (CVLNet, OfficialCVLNet)):
        raise ConfigError(f"{name_or_path}: is of {name_of(network)}, here only CVLNet fits")
    return network.eval(), sha256(path)


def load_published(path: str | Path) -> OfficialCVLNet:
    """The network of a checkpoint of CVLNet's authors.

    Raises:
        ConfigError: no such file.
        DataError: a checkpoint of another network.
    """
    state = tensors_of(path)
    fuse_method = fuse_method_of(state)
    if fuse_method is None:
        raise DataError(f"{path}: is no checkpoint of CVLNet's authors; give their Model_best.pth or a .safetensors of this project")
    network = OfficialCVLNet(OfficialCVLNet.Config(fuse_method))
    load_strictly(network, renamed(state), str(path))
    return network


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
    trunk = backbone.trunk
    state = tensors_of(path)
    kept = {key: value for key, value in state.items() if not key.startswith(trunk.dropped)}
    load_strictly(trunk if isinstance(trunk, Vgg16) else trunk.network, kept, str(path))  # type: ignore[arg-type]
