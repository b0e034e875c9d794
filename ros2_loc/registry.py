"""Names in YAML -> classes, imported only when asked for.

A plugin of another package announces itself by an entry point in the group `ros2_loc.<kind>` (kind: extractor, matcher, encoder,
reranker, detector, cross_view) whose value is `module:Class`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ros2_loc.config import build
from ros2_loc.errors import ConfigError, MissingDependencyError

KINDS = ("extractor", "matcher", "encoder", "reranker", "detector", "cross_view")
_FOR_NETWORKS = ("torch", "torchvision", "timm", "kornia", "safetensors", "tensorboard")


@dataclass(frozen=True, slots=True)
class Component:
    """One line of the table: where the class is, what it is for, what must be installed or downloaded first."""

    target: str
    summary: str
    requires: str = ""
    weights: str = ""


TABLE: dict[str, dict[str, Component]] = {
    "extractor": {
        "sift": Component("ros2_loc.perception.extractors.sift:Sift", "RootSIFT by OpenCV, sub-pixel, no weights"),
        "orb": Component("ros2_loc.perception.extractors.orb:Orb", "ORB by OpenCV as float bits: fastest, least accurate"),
        "r2d2": Component(
            "ros2_loc.perception.extractors.r2d2:R2d2", "R2D2: dense, reliable, non-commercial weights", "torch", "r2d2_wasf_n16"
        ),
        "context_r2d2": Component(
            "ros2_loc.perception.extractors.context_r2d2:ContextR2d2", "R2D2 that knows its surroundings, with weights of your own", "torch"
        ),
        "aliked": Component(
            "ros2_loc.perception.extractors.aliked:Aliked", "ALIKED: sub-pixel, accurate, free to use", "torch", "aliked_n16"
        ),
        "xfeat": Component("ros2_loc.perception.extractors.xfeat:XFeat", "XFeat by ONNX Runtime: fast on a CPU", "onnxruntime", "xfeat"),
        "superpoint": Component(
            "ros2_loc.perception.extractors.superpoint:Superpoint", "SuperPoint, for SuperGlue; for research only", "torch", "superpoint_v1"
        ),
        "d2net": Component("ros2_loc.perception.extractors.d2net:D2net", "D2-Net: hard scenes, coarse positions, slow", "torch", "d2_tf"),
        "delg": Component(
            "ros2_loc.perception.extractors.delg:DelgLocal", "DELG's local features: landmarks, for re-ranking", "torch", "delg_r50"
        ),
    },
    "matcher": {
        "mutual_nearest": Component(
            "ros2_loc.perception.matchers.mutual_nearest:MutualNearest", "mutual nearest neighbours with ratio test"
        ),
        "lightglue": Component(
            "ros2_loc.perception.matchers.lightglue:LightGlue", "LightGlue for ALIKED, SuperPoint, DISK", "torch", "aliked_lightglue"
        ),
        "lighterglue": Component(
            "ros2_loc.perception.matchers.lighterglue:LighterGlue", "LighterGlue by ONNX Runtime, for XFeat", "onnxruntime", "lighterglue"
        ),
        "superglue": Component(
            "ros2_loc.perception.matchers.superglue:Superglue", "SuperGlue for SuperPoint; for research only", "torch", "superglue_outdoor"
        ),
    },
    "encoder": {
        "vlad": Component("ros2_loc.perception.encoders.vlad:Vlad", "VLAD of local features, codebook trained on the map itself"),
        "cosplace": Component(
            "ros2_loc.perception.encoders.cosplace:Cosplace", "CosPlace: one network for a whole image", "torch", "cosplace_resnet18_512"
        ),
        "eigenplaces": Component(
            "ros2_loc.perception.encoders.cosplace:Eigenplaces",
            "EigenPlaces: CosPlace's network, trained for other viewpoints",
            "torch",
            "eigenplaces_resnet18_512",
        ),
        "netvlad": Component(
            "ros2_loc.perception.encoders.netvlad:Netvlad",
            "NetVLAD by the weights of Patch-NetVLAD, whitened",
            "torch",
            "patchnetvlad_pittsburgh_4096",
        ),
        "delg": Component(
            "ros2_loc.perception.encoders.delg:DelgGlobal", "DELG's global descriptor: landmarks, three scales", "torch", "delg_r50"
        ),
        "transvpr": Component(
            "ros2_loc.perception.encoders.transvpr:TransvprGlobal", "TransVPR's global descriptor, small", "torch", "transvpr_msls"
        ),
        "cvnet": Component(
            "ros2_loc.perception.encoders.cvnet:CvnetGlobal", "CVNet's global descriptor, three scales", "torch", "cvnet_r50"
        ),
    },
    "reranker": {
        "local_features": Component(
            "ros2_loc.retrieval.rerankers.local_features:LocalFeatureReranker",
            "any local features and matcher, scored by RANSAC of all candidates at once",
        ),
        "cvnet": Component(
            "ros2_loc.retrieval.rerankers.cvnet:Cvnet", "CVNet: all correlations of two images, judged by a network", "torch", "cvnet_r50"
        ),
        "rrt": Component(
            "ros2_loc.retrieval.rerankers.rrt:RerankingTransformer",
            "RRT: a transformer reads the descriptors of both images",
            "torch",
            "rrt_gld",
        ),
        "patch_netvlad": Component(
            "ros2_loc.retrieval.rerankers.patch_netvlad:PatchNetvlad",
            "Patch-NetVLAD: squares of the image, each by NetVLAD",
            "torch",
            "patchnetvlad_pittsburgh_4096",
        ),
        "transvpr": Component(
            "ros2_loc.retrieval.rerankers.transvpr:Transvpr", "TransVPR: patches that a transformer attends to", "torch", "transvpr_msls"
        ),
        "loftr": Component(
            "ros2_loc.retrieval.rerankers.loftr:Loftr", "LoFTR: cells of two images that choose each other, slow", "torch", "loftr_outdoor"
        ),
    },
    "detector": {
        "centernet": Component(
            "ros2_loc.perception.detectors.centernet:Centernet", "CenterNet: corners and centres of objects", "torch", "centernet_town"
        ),
        "d2det": Component(
            "ros2_loc.perception.detectors.d2det:D2det", "D2Det: two stages, precise boxes, masks of objects", "torch", "d2det_town"
        ),
    },
    "cross_view": {
        "cvlnet": Component(
            "ros2_loc.perception.cross_view.cvlnet:CvlNet", "CVLNet: short videos against satellite tiles", "torch", "small"
        ),
    },
}


def install_command(package: str) -> str:
    """What to type where `package` is missing; the packages of networks come together."""
    return f"pip install {' '.join(_FOR_NETWORKS if package in _FOR_NETWORKS else (package,))}"


def components() -> dict[str, dict[str, Component]]:
    """The table with the plugins of other installed packages: kind -> name -> component."""
    table = {kind: dict(rows) for kind, rows in TABLE.items()}
    for kind in KINDS:
        for entry in _entry_points(kind):
            table[kind][entry.name] = Component(entry.value, f"from {entry.dist.name if entry.dist else 'another package'}")
    return table


@cache
def _entry_points(kind: str) -> tuple[EntryPoint, ...]:
    """Reading what all installed packages announce takes 0.1 s and more."""
    return tuple(entry_points(group=f"ros2_loc.{kind}"))


def resolve(kind: str, name: str) -> type:
    """The class of a plugin.

    Raises:
        ConfigError: no plugin of that name.
        MissingDependencyError: a package that the plugin needs is not installed.
    """
    rows = components()[kind]
    if name not in rows:
        raise ConfigError(f"there is no {kind} {name!r}; there are: {', '.join(sorted(rows)) or 'none yet'}")
    module, _, attribute = rows[name].target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{kind} {name!r} needs the package {error.name!r}: {install_command(error.name or '')}") from error


def create(kind: str, section: Mapping[str, Any], device: str = "cpu") -> Any:
    """The plugin that a section such as `{name: sift, max_keypoints: 1000}` asks for.

    Raises:
        ConfigError: no `name`, an unknown name, or a key that the plugin's Config does not have.
    """
    values = dict(section)
    name = values.pop("name", None)
    if not name:
        raise ConfigError(f"{kind}: a section needs a name, for instance {{name: {next(iter(TABLE[kind]), '...')}}}")
    plugin = resolve(kind, str(name))
    return plugin(build(plugin.Config, values, f"{kind} {name}"), device)  # type: ignore[attr-defined]
