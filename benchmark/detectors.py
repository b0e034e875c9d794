"""Time of a 1242x375 frame by the detectors, small ones and those of the papers, on PyTorch, ONNX Runtime and OpenVINO, side by side.

    python benchmark/detectors.py --networks centernet_small d2det_small --images drive/image_2 --threads 2

Backends take turns, so that whatever else the machine does hits all of them alike; medians and their ratios to PyTorch are what to compare.
"detect" is the whole detector, from the image to boxes and masks; "network" CenterNet's hourglass and maps alone. Weights are random where
none are given: time does not depend on what is learned, but for the second stage of D2Det, which here gets as many boxes as its settings
allow: a full street. "same" is the share of PyTorch's boxes that the backend finds within a pixel. 8 bits are calibrated on --images.
Exporting the large networks takes minutes and gigabytes: --keep keeps the files, --backends torch leaves them out.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from backends import SIZE, in_turns, kept_folder, photographs
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.cli.console import milliseconds, table
from ros2_loc.core.camera import Camera
from ros2_loc.core.labels import COCO
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection, Frame
from ros2_loc.io.images import resize_image
from ros2_loc.models.centernet import CenterNet
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.weights import save_model
from ros2_loc.perception.export import ExportJob, export

TOWN = ("car", "truck", "person", "cyclist")
NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "centernet_small": lambda: CenterNet(CenterNet.Config.small(TOWN)),
    "centernet_52": lambda: CenterNet(CenterNet.Config(COCO, stacks=1)),
    "centernet_104": lambda: CenterNet(CenterNet.Config(COCO, stacks=2)),
    "d2det_small": lambda: D2Det(D2Det.Config.small(TOWN)),
    "d2det_r50": lambda: D2Det(D2Det.Config(COCO)),
    "d2det_r50_masks": lambda: D2Det(D2Det.Config(COCO, masks=True)),
}
BACKENDS = ("torch", "onnxruntime", "openvino")
Variant = tuple[str, str]  # backend, precision
TORCH: Variant = ("torch", "fp32")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--networks", nargs="+", default=["centernet_small", "d2det_small"], choices=list(NETWORKS))
    parser.add_argument("--weights", nargs="*", default=[], metavar="NETWORK=FILE", help="instead of random ones")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--images", type=Path, metavar="DIR", help="photographs; without them noise is used")
    parser.add_argument("--int8", action="store_true", help="8 bits as well; needs --images")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where weights and exported files are kept")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each backend (default: all)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each network")
    parser.add_argument("--cpu-time", action="store_true", help="the processor's time instead of the clock's (all threads together)")
    arguments = parser.parse_args()
    if arguments.int8 and not arguments.images:
        parser.error("--int8 is calibrated on --images DIR")
    torch.set_num_threads(arguments.threads)
    given = dict(word.split("=", 1) for word in arguments.weights)
    images = photographs(arguments.images)
    print(f"{SIZE[0]}x{SIZE[1]} px, {arguments.threads} threads", flush=True)
    rows = []
    with kept_folder(arguments.keep) as folder:
        for network in arguments.networks:
            weights = given.get(network) or random_weights(network, folder)
            rows += compare(network, weights, images, folder, arguments)
            print(f"\n{table(rows, HEADER)}", flush=True)
            gc.collect()  # runtimes keep the memory of their largest image
    return 0


HEADER = ("network", "weights", "backend", "precision", "network", "ratio", "detect", "ratio", "boxes", "same")


def compare(
    network: str, weights: str, images: list[NDArray[np.uint8]], folder: Path, arguments: argparse.Namespace
) -> list[tuple[str, ...]]:
    """The lines of one network."""
    name = network.partition("_")[0]
    section = {"name": name, "weights": weights, "batch_size": 1}
    detectors = {TORCH: registry.create("detector", section)}
    for precision in ("fp32", "int8") if arguments.int8 else ("fp32",):
        backends = [one for one in arguments.backends if one != "torch"]
        for backend in backends:
            model = exported(name, weights, precision, images, folder / f"{network}_{precision}.onnx")
            settings = {"backend": backend, "model": str(model), "threads": arguments.threads}
            detectors[backend, precision] = registry.create("detector", section | settings)
    frame = Frame(0, images[0], Camera.pinhole(*SIZE, 720, 720, SIZE[0] / 2, SIZE[1] / 2), Pose.identity())
    found = {variant: one.detect(frame) for variant, one in detectors.items()}
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    whole = in_turns({variant: partial(one.detect, frame) for variant, one in detectors.items()}, arguments.seconds, clock)
    alone = network_times(name, detectors, arguments.seconds / 2, clock)
    size = f"{count_weights(weights) / 1e6:.1f} M"
    return [
        (network, size, *variant, *timed(alone, variant), *timed(whole, variant), str(len(boxes)), likeness(boxes, found[TORCH]))
        for variant, boxes in found.items()
    ]


def network_times(
    name: str, detectors: dict[Variant, object], seconds: float, clock: Callable[[], float]
) -> dict[Variant, float]:
    """CenterNet's maps of an image filled up to what it takes; nothing of D2Det, which is no single network."""
    if name != "centernet":
        return {}
    with torch.inference_mode():
        image = torch.rand(1, 3, -(-SIZE[1] // 128) * 128, -(-SIZE[0] // 128) * 128).contiguous(memory_format=torch.channels_last)

        def run(detector: object) -> object:
            return detector._heads(image)  # type: ignore[attr-defined]

        runs = {variant: partial(run, one) for variant, one in detectors.items()}
        return in_turns(runs, seconds, clock)


def random_weights(network: str, folder: Path) -> str:
    """A file of the network as it begins, but that D2Det finds boxes of all kinds everywhere."""
    path = folder / f"{network}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        made = NETWORKS[network]()
        if isinstance(made, D2Det):
            made = with_many_boxes(made)
        save_model(path, made, {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    return str(path)


@torch.no_grad()
def with_many_boxes(network: D2Det) -> D2Det:
    """Classes as different from box to box as they are in a street."""
    last = network.roi_heads.box_predictor
    last.weight.copy_(torch.randn_like(last.weight) * 40.0 / last.in_features**0.5)
    return network


def exported(name: str, weights: str, precision: str, images: list[NDArray[np.uint8]], out: Path) -> Path:
    """The ONNX file of one precision, which OpenVINO reads as well, written unless it is there."""
    if not out.exists():
        small = [resize_image(image, SIZE[0] // 2, SIZE[1] // 2) for image in images]
        pixels = [np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(255.0) for image in small]
        export(ExportJob(name, weights, out, "onnx", None, precision, pixels if precision == "int8" else ()))  # type: ignore[arg-type]
        gc.collect()
    return out


def count_weights(weights: str) -> int:
    from safetensors import safe_open

    from ros2_loc.models.weight_files import locate

    path = locate(weights)
    if path.suffix != ".safetensors":
        return path.stat().st_size // 4
    with safe_open(path, "pt") as file:
        return sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys())  # noqa: SIM118 (it is no dict)


def timed(took: dict[Variant, float], variant: Variant) -> tuple[str, str]:
    return (milliseconds(took[variant]), f"{took[variant] / took[TORCH]:.2f}") if took else ("-", "-")


def likeness(found: list[Detection], expected: list[Detection]) -> str:
    """Share of the expected boxes that are found with their label within a pixel."""
    same = [any(a.label == b.label and np.abs(a.box - b.box).max() < 1.0 for b in found) for a in expected]
    return f"{np.mean(same):.3f}" if same else "-"


if __name__ == "__main__":
    raise SystemExit(main())
