"""Networks without trained weights, for promises that don't depend on training.

Their kernels are symmetric about their centre, so that an image turned by 180 degrees has its keypoints turned, and where positions are
off, that shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ros2_loc.models.centernet import CenterNet
from ros2_loc.models.cosplace import CosPlace
from ros2_loc.models.cvnet import CvNet
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.d2net import D2Net
from ros2_loc.models.delg import Delg
from ros2_loc.models.loftr import LoFTR
from ros2_loc.models.patch_netvlad import NetVlad
from ros2_loc.models.rrt import Rrt
from ros2_loc.models.superglue import SuperGlue
from ros2_loc.models.superpoint import SuperPoint
from ros2_loc.models.transvpr import LEVELS, TransVpr
from ros2_loc.models.weights import save_model
from ros2_loc.perception.detectors.d2det_parts import inputs_of

Network = TypeVar("Network", bound=nn.Module)


def superpoint() -> SuperPoint:
    """A pixel of a cell and the one opposite look at channels whose kernels are turned."""
    network = SuperPoint(SuperPoint.Config())
    _make_symmetric(network)
    first, second = network.convPa, network.convPb
    nn.init.normal_(first.weight, std=0.1)
    nn.init.normal_(second.weight, std=0.3)
    first.weight[128:] = first.weight[:128].flip(0, 2, 3)
    second.weight[32:64] = second.weight[:32].flip(0, 1)
    second.weight[64] = (second.weight[64] + second.weight[64].flip(0)) / 2.0
    for bias, half in ((first.bias, 128), (second.bias, 32)):
        bias[half : 2 * half] = bias[:half].flip(0)
    return network


def superglue() -> SuperGlue:
    """Four layers of attention, which add little, so that equal descriptors match."""
    network = SuperGlue(SuperGlue.Config(num_layers=4))
    for last in (network.keypoint_encoder[-1], *(layer.mlp[-1] for layer in network.layers)):
        last.weight.mul_(0.05)
        last.bias.mul_(0.05)
    network.final_projection.weight.copy_(16.0 * torch.eye(network.config.dimension))
    return network


def d2net() -> D2Net:
    """With 128 channels; without a mean, kernels leave more peaks."""
    network = D2Net(D2Net.Config(width=16))
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.copy_(_symmetric(layer.weight - layer.weight.mean(dim=(1, 2, 3), keepdim=True)))
    return network


def delg() -> Delg:
    """With the paper's autoencoder."""
    network = _make_symmetric(Delg(Delg.Config(local="autoencoder", local_dimension=128))).eval()
    tell_apart(network.resnet.fc, network.resnet.pool(network.resnet.s4(network.s3(pictures()))))
    return network.train()


def cosplace() -> CosPlace:
    """Of the first two stages of ResNet-18, so that it is quick."""
    network = CosPlace(CosPlace.Config("resnet18", 64, truncate=2)).eval()
    tell_apart(network.fc, network.pooled(network.features(pictures())))
    return network.train()


def loftr() -> LoFTR:
    """Small, with attention that adds little, so that cells which look alike match."""
    network = LoFTR(LoFTR.Config(widths=(16, 24, 32), coarse_rounds=1, heads=4)).eval()
    for layer in network.coarse_layers:
        nn.init.constant_(layer.norm2.weight, 0.05)
    trunk = network.backbone
    gray = 0.5 + 0.2 * pictures().mean(dim=1, keepdim=True)
    inputs = trunk.layer3(trunk.layer2(trunk.layer1(trunk.relu(trunk.bn1(trunk.conv1(gray))))))
    inputs = inputs.permute(0, 2, 3, 1).reshape(-1, inputs.shape[1])
    _, sigmas, directions = torch.linalg.svd(inputs, full_matrices=False)
    spread = directions[1:25] / sigmas[1:25, None] * len(inputs) ** 0.5  # the first is what all have in common
    trunk.layer3_outconv.weight.copy_(2.0 * (torch.linalg.qr(torch.randn(32, 24))[0] @ spread)[..., None, None])
    return network.train()


def pictures(count: int = 16, height: int = 64, width: int = 96) -> Tensor:
    """(count, 3, height, width), normalized as if of ImageNet: every second one of blobs of several sizes, the others of noise."""
    sizes = [(-(-height // cell), -(-width // cell)) for cell in (2, 4, 8, 20)]
    coarse = [nn.functional.interpolate(torch.rand(count, 3, *size), (height, width)) for size in sizes]
    blobs = (3.0 + 3.0 * torch.rand(count, 1, 1, 1)) * (torch.stack(coarse).mean(dim=0) - 0.5)
    noise = (0.1 + 0.9 * torch.rand(count, 1, 1, 1)) * torch.randn(count, 3, height, width)
    is_noise = torch.arange(count)[:, None, None, None] % 2 == 1
    return torch.where(is_noise, noise, blobs) + 0.1 * torch.randn(count, 3, 1, 1)


def tell_apart(layer: nn.Linear, inputs: Tensor, kept: int = 4) -> None:
    """Make a random last layer tell images apart, as trained ones do: their common part goes, what differs most is spread.

    Args:
        layer: of the network's descriptor.
        inputs: (N, C) what it gets of N images.
        kept: directions of C.
    """
    mean = inputs.mean(dim=0)
    _, sigmas, directions = torch.linalg.svd(inputs - mean, full_matrices=False)
    turn = torch.linalg.qr(torch.randn(layer.out_features, kept))[0]
    layer.weight.copy_(turn @ (directions[:kept] / sigmas[:kept, None]))
    layer.bias.copy_(-layer.weight @ mean)


def netvlad() -> NetVlad:
    """Four clusters, 32 numbers, 8 channels at first; clusters and whitening spread what there is."""
    network = NetVlad(NetVlad.Config(num_clusters=4, num_pcs=32, width=8))
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    nn.init.normal_(network.pool.centroids, std=0.1)
    nn.init.normal_(network.pool.assignment.weight, std=3.0)
    return network


def netvlad_of_images() -> NetVlad:
    """For whole images: whitening leaves what tells them apart."""
    network = netvlad()
    tell_apart(network.whitening, network.pool(network.features(pictures())))
    return network


def transvpr() -> TransVpr:
    """Tokens of 32 numbers."""
    network = TransVpr(TransVpr.Config(width=8)).eval()
    tokens = network.tokens(pictures())
    sums = (network.masks(tokens)[..., None] * tokens[:, list(LEVELS), 1:]).sum(dim=2).flatten(1)
    tell_apart(network.reduction, nn.functional.normalize(sums, dim=1))
    return network.train()


def cvnet() -> CvNet:
    """The trunk is ResNet-50, what follows is small; correlations say little, as global descriptors tell images apart."""
    network = CvNet(CvNet.Config(dimension=32, channels=16, width=4)).eval()
    trunk = network.trunk
    tell_apart(trunk.fc, trunk.pool(trunk.s4(trunk.s3_sums(pictures()).relu())))
    network.verifier.mlp[-1].weight.mul_(0.05)
    return network.train()


def rrt() -> Rrt:
    """Of 32 numbers, made by hand: a descriptor that finds one alike in the other image is doubled, by which its marks, made smaller by the
    normalization, count less, and the first token sums the marks up.
    """
    network = Rrt(Rrt.Config(global_dimension=0, local_dimension=32, dimension=36, num_heads=1, num_layers=2, hidden=8))
    for parameter in network.layers.parameters():
        parameter.zero_()
    for layer in network.layers:
        nn.init.ones_(layer.norm1.weight)
        nn.init.ones_(layer.norm2.weight)
        layer.merge.weight.copy_(torch.eye(36))
    network.local_projection.weight.copy_(torch.eye(36, 32))
    network.local_projection.bias.zero_()
    network.scale_embedding.weight.zero_()
    network.segment_embedding.weight.zero_()
    query, place = 32, 33
    network.segment_embedding.weight[0, query] = network.segment_embedding.weight[1, place] = 1.0
    find, gather = network.layers
    find.query.weight.copy_(60.0 * torch.eye(36))
    key, value = find.key_value.weight[:36], find.key_value.weight[36:]
    key.copy_(torch.eye(36))
    key[query, query] = key[place, place] = -10.0  # not in its own image
    value[:32, :32] = torch.eye(32)
    gather.key_value.weight[36 + 35, [query, place]] = 1.0
    network.classifier.weight.zero_()
    network.classifier.weight[0, 35] = -10.0
    return network


def centernet() -> CenterNet:
    """Of two labels and two levels; corners are found everywhere, and their tags are alike, so that many are paired."""
    config = CenterNet.Config(("car", "person"), dims=(16, 24), modules=(1, 1), stacks=1, stem=8, pool_width=8, head_width=8)
    network = CenterNet(config)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    found = network.eval()(pictures())[-1]
    for name, values in found._asdict().items():
        last = getattr(network.stacks[0], name)[-1]
        spread = (1.0 if name.endswith("heat") else 0.2) / values.std(dim=(0, 2, 3))
        last.weight.mul_(spread[:, None, None, None])
        last.bias.copy_((last.bias - values.mean(dim=(0, 2, 3))) * spread)
    return network.train()


def d2det() -> D2Det:
    """Of two labels, with masks and few channels; what it says of boxes differs from box to box."""
    small = D2Det.Config.small(("car", "person"))
    narrow = {"widths": (8, 8, 16, 16), "channels": 16, "hidden": 32, "width": 16, "groups": 4, "mask_width": 16, "mask_groups": 4}
    network = D2Det(replace(small, **narrow)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    seen = inputs_of(network, pictures(2))
    heads = network.roi_heads
    for outputs, last, spread in (
        (heads.box_predictor(heads.box_head(seen["classes"][0])), heads.box_predictor, 1.5),
        (heads.regression(seen["regression"][0]).overlap, heads.regression.overlap, 1.0),
        (heads.masks.logits(seen["masks"][0]), heads.masks.masks, 1.0),
    ):
        deviation, mean = (value(outputs.transpose(0, 1).flatten(1), dim=1) for value in (torch.std, torch.mean))
        last.weight.mul_((spread / deviation).reshape(-1, *[1] * (last.weight.dim() - 1)))
        last.bias.copy_((last.bias - mean) * spread / deviation)
    return network.train()


# names of plugins
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "centernet": centernet,
    "d2det": d2det,
    "superpoint": superpoint,
    "superglue": superglue,
    "d2net": d2net,
    "delg": delg,
    "cosplace": cosplace,
    "eigenplaces": cosplace,
    "loftr": loftr,
    "patch_netvlad": netvlad,
    "netvlad": netvlad_of_images,
    "transvpr": transvpr,
    "cvnet": cvnet,
    "rrt": rrt,
}


def write(name: str, folder: Path) -> Path:
    """The random weights of a plugin as a file, the same each time."""
    path = folder / f"{name}.safetensors"
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        save_model(path, NETWORKS[name](), {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    return path


def _make_symmetric(network: Network) -> Network:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_(_symmetric(module.weight))
    return network


def _symmetric(kernel: Tensor) -> Tensor:
    return (kernel + kernel.flip(2, 3)) / 2.0
