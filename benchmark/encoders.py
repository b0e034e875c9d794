"""Time to describe a 1242x375 frame by one vector: CosPlace of several backbones by each backend, and VLAD, side by side.

    python benchmark/encoders.py --images drive/image_2 --threads 2

All of them take turns, so that whatever else the machine does hits them alike; medians and their ratios are what to compare. Weights are
random, as time does not hang on them. VLAD is made of SIFT features, which a map localizer has anyway: it is timed without and with them.
"max error" is the largest difference of the vector from PyTorch's, whose entries are at most 1.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from backends import SIZE, in_turns, photographs

from ros2_loc import registry
from ros2_loc.cli.console import milliseconds, table
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, GlobalDescriptor
from ros2_loc.models.cosplace import CosPlace
from ros2_loc.models.weights import save_model
from ros2_loc.perception.export import ExportJob, export

NETWORKS = {
    "resnet18": CosPlace.Config("resnet18", 512),
    "resnet18 truncate 2": CosPlace.Config("resnet18", 256, truncate=2),
    "mobilenet_v3_small": CosPlace.Config("mobilenet_v3_small", 512),
    "resnet50": CosPlace.Config("resnet50", 512),
}
BACKENDS = ("torch", "onnxruntime", "openvino")
Key = tuple[str, str]  # encoder, what runs it
BASE: Key = ("vlad", "features + VLAD")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=Path, metavar="DIR", help="photographs; without them noise is used")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--max-edge", type=int, default=0, metavar="PX", help="of the networks' images (default: full size)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring")
    parser.add_argument("--cpu-time", action="store_true", help="the processor's time instead of the clock's (all threads together)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = photographs(arguments.images)
    frame = Frame(0, images[0], Camera.pinhole(*SIZE, 720, 720, SIZE[0] / 2, SIZE[1] / 2), Pose.identity())
    with tempfile.TemporaryDirectory(prefix="ros2_loc_encoders_") as folder:
        runs, sizes = vlad(frame), {}
        for name in arguments.networks:
            runs |= networks(name, frame, Path(folder), arguments, sizes)
        described = {key: run() for key, run in runs.items()}
        took = in_turns(runs, arguments.seconds, time.process_time if arguments.cpu_time else time.perf_counter)
    print(f"{SIZE[0]}x{SIZE[1]} px, long edge {arguments.max_edge or SIZE[0]} px for networks, {arguments.threads} threads")
    rows = []
    for (name, backend), seconds in took.items():
        first, vector = described.get((name, "torch")), described[name, backend]
        error = f"{np.abs(vector.vector - first.vector).max():.0e}" if first is not None else ""
        ratio = f"{seconds / took[name, 'torch']:.2f}" if (name, "torch") in took else ""
        to_vlad, numbers = f"{seconds / took[BASE]:.2f}", str(len(vector.vector))
        rows.append((name, backend, milliseconds(seconds), ratio, to_vlad, error, numbers, sizes.get(name, "")))
    print(table(rows, ("encoder", "run by", "time", "to torch", "to SIFT + VLAD", "max error", "numbers", "MB")))
    return 0


def vlad(frame: Frame) -> dict[Key, Callable[[], GlobalDescriptor]]:
    """VLAD alone, and with the features it is made of."""
    extractor, encoder = registry.create("extractor", {"name": "sift"}), registry.create("encoder", {"name": "vlad"})
    features = extractor.extract(frame)
    encoder.fit([features])
    return {("vlad", "VLAD"): partial(encoder.encode, None, features), BASE: lambda: encoder.encode(None, extractor.extract(frame))}


def networks(
    name: str, frame: Frame, folder: Path, arguments: argparse.Namespace, sizes: dict[str, str]
) -> dict[Key, Callable[[], GlobalDescriptor]]:
    """One network by all backends; `sizes` gets the megabytes of its weights."""
    weights = folder / f"{name.replace(' ', '_')}.safetensors"
    torch.manual_seed(0)
    save_model(weights, CosPlace(NETWORKS[name]), {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    sizes[name] = f"{weights.stat().st_size / 1e6:.1f}"
    model = weights.with_suffix(".onnx")  # which OpenVINO reads as well
    if set(arguments.backends) - {"torch"}:
        export(ExportJob("cosplace", str(weights), model))
    runs = {}
    for backend in arguments.backends:
        section = {"name": "cosplace", "weights": str(weights), "max_edge_px": arguments.max_edge, "backend": backend}
        section |= {} if backend == "torch" else {"model": str(model), "threads": arguments.threads}
        runs[name, backend] = partial(registry.create("encoder", section).encode, frame, None)
    return runs


if __name__ == "__main__":
    raise SystemExit(main())
