"""`ros2-loc export`: networks of extractors, encoders and detectors for ONNX Runtime, OpenVINO, TensorRT."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import Parser
from ros2_loc.errors import ConfigError

EXAMPLE = (
    "ros2-loc export r2d2 --format onnx --weights r2d2_wasf_n16 --out r2d2.onnx\n"
    "  ros2-loc export aliked --format openvino --width 1248 --height 384 --precision int8 --calibrate drive/images --out aliked.xml"
)
NETWORKS = ("r2d2", "context_r2d2", "superpoint", "d2net", "aliked", "xfeat", "cosplace", "centernet", "d2det")
MAX_CALIBRATION = 24
CALIBRATION_EDGE_PX = 640


def add_arguments(parser: Parser) -> None:
    """What, from which weights, for which sizes, how exact."""
    parser.add_argument("network", choices=NETWORKS, metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--format", choices=("onnx", "openvino", "tensorrt"), default="onnx", help="default: onnx")
    parser.add_argument("--weights", metavar="NAME", help="name or path of the network's weights (default: those of its plugin)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".onnx, or .xml for openvino")
    parser.add_argument("--width", type=int, metavar="PX", help="of all images; without --width and --height images of any size fit")
    parser.add_argument("--height", type=int, metavar="PX", help="of all images")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="default: fp32")
    parser.add_argument("--calibrate", type=Path, nargs="+", metavar="IMAGES", help="of int8: folders or images like those to come")


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say how far it is from PyTorch."""
    from ros2_loc.perception.export import ExportJob, export

    if (arguments.width is None) != (arguments.height is None):
        raise ConfigError("give --width and --height, or neither for images of any size")
    if bool(arguments.calibrate) != (arguments.precision == "int8"):
        raise ConfigError("--precision int8 needs --calibrate IMAGES, and no other precision takes them")
    job = ExportJob(
        network=arguments.network,
        weights=arguments.weights or _default_weights(arguments.network),
        out=arguments.out,
        format=arguments.format,
        size=(arguments.width, arguments.height) if arguments.width is not None else None,
        precision=arguments.precision,
        calibration=_calibration(arguments),
    )
    done = export(job)
    size = f"{job.size[0]}x{job.size[1]} px" if job.size else "any size"
    print(f"{done.path}: {job.network}, {size}, {job.precision}, {done.path.stat().st_size / 1e6:.1f} MB; differs from PyTorch by")
    for name, error in done.errors:
        print(f"  {name:<14}{error:.1e} of its largest value")
    backend = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}[job.format]
    print(f"use it by: {_kind(job.network)}: {{name: {job.network}, weights: {job.weights}, backend: {backend}, model: {done.path}}}")
    return 0


def _kind(network: str) -> str:
    from ros2_loc.registry import components

    return next(kind for kind in ("extractor", "encoder", "detector") if network in components()[kind])


def _default_weights(network: str) -> str:
    from ros2_loc.registry import components

    weights = components()[_kind(network)][network].weights
    if not weights:
        raise ConfigError(f"{network} has no weights of a name: give --weights FILE")
    return weights


def _calibration(arguments: argparse.Namespace) -> list[Any]:
    """(3, H, W) in 0..1 of at most MAX_CALIBRATION of the images, spread evenly, none larger than the images to come."""
    if not arguments.calibrate:
        return []
    import numpy as np

    from ros2_loc.io.image_folders import image_files
    from ros2_loc.io.images import read_image, resize_image

    files = [file for path in arguments.calibrate for file in (image_files(path) if path.is_dir() else [path])]
    chosen = np.unique(np.linspace(0, len(files) - 1, min(MAX_CALIBRATION, len(files))).round().astype(int))
    width, height = arguments.width or CALIBRATION_EDGE_PX, arguments.height or CALIBRATION_EDGE_PX
    images = []
    for index in chosen:
        image = read_image(files[index])
        scale = min(1.0, width / image.shape[1], height / image.shape[0])
        image = resize_image(image, max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
        images.append(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(255.0))
    return images
