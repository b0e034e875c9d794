"""What cross-view localization costs: a new frame against one backbone pass, with 1 to 16 frames, and videos against 10,000 tiles.

    OMP_NUM_THREADS=1 python benchmark/cross_view.py --backbones small vgg16 --threads 1 --cpu-time

The weights are random, which costs the same. Each row's measurements take turns, so that whatever else the machine does hits all of them
alike; medians and their ratios are what to compare. On a busy machine the time that the processor spent says more than the clock.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ros2_loc.cli.console import milliseconds, table
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose
from ros2_loc.core.types import Frame, OverheadDescriptor
from ros2_loc.models.cvlnet import CVLNet, random
from ros2_loc.models.weights import save_model
from ros2_loc.perception.cross_view.cvlnet import CvlNet
from ros2_loc.retrieval.tile_matching import match_tiles

MOUNTING = Pose(BODY_FROM_OPTICAL, np.array([0.5, 0.0, 1.6]))
FRAMES = (1, 4, 8, 16)
SPACING_M = 3.0
Clock = Callable[[], float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--backbones", nargs="+", default=["small"], help="small, vgg16, resnet50, swin, vit")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="of PyTorch (OMP_NUM_THREADS for NumPy); its own choice by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each backbone")
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--cpu-time", action="store_true", help="the processor's time instead of the clock's (all threads together)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    print(f"{arguments.device}, {torch.get_num_threads()} threads\n\na new frame, against one backbone pass")
    rows = [new_frame(backbone, arguments.device, arguments.seconds, clock) for backbone in arguments.backbones]
    described = [f"{n} frames" if n > 1 else "1 frame" for n in FRAMES]
    print(table(rows, ("backbone", "image", "backbone pass", "encode", *described, *(f"total {n} / pass" for n in FRAMES))), flush=True)
    print(f"\nvideos against {arguments.tiles} tiles at 49 shifts\n{matching(arguments.tiles, clock)}")
    return 0


def new_frame(backbone: str, device: str, seconds: float, clock: Clock) -> tuple[str, ...]:
    """Median times of one backbone pass, of encoding a frame, of describing videos, and (encode + describe) / pass."""
    config = CVLNet.Config() if backbone == "small" else CVLNet.Config.full(backbone)
    network = random(config, 0).eval().to(device)
    encoder = _encoder(network, device)
    height, width = config.image_px
    camera = Camera.pinhole(width, height, width / 2, width / 2, width / 2, height / 3)
    frame = Frame(0, np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8), camera, MOUNTING)
    images = torch.rand(1, height, width, 3, device=device).permute(0, 3, 1, 2)  # in memory as an encoder's
    kept = encoder.encode_frame(frame)
    poses = [Pose(np.eye(3), np.array([-SPACING_M * i, 0.0, 0.0])) for i in range(max(FRAMES))]
    runs: dict[str, Callable[[], object]] = {"pass": lambda: _pass(network, images), "encode": lambda: encoder.encode_frame(frame)}
    runs.update({str(n): lambda n=n: encoder.describe([kept] * n, poses[:n]) for n in FRAMES})  # type: ignore[misc]
    took = _in_turns(runs, seconds, clock)
    ratios = [f"{(took['encode'] + took[str(n)]) / took['pass']:.2f}" for n in FRAMES]
    return (backbone, f"{width}x{height}", *map(milliseconds, took.values()), *ratios)


def matching(count: int, clock: Clock) -> str:
    """Times and memory for tiles stored in single and in half precision, for one video and for eight hypotheses."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((count, 4, 32, 32), dtype=np.float32)
    features /= np.sqrt(np.square(features).sum(axis=(1, 2, 3), keepdims=True))
    uncertainty = rng.uniform(0.1, 1.0, (count, 7, 7)).astype(np.float32)
    visible = rng.random((32, 32)) < 0.3
    video = features[0] * visible
    video = OverheadDescriptor(video / np.linalg.norm(video), visible, "benchmark")
    stored = {"float32": features, "float16": features.astype(np.float16)}
    runs: dict[str, Callable[[], object]] = {
        f"{name} {n}": lambda n=n, name=name: match_tiles([video] * n, stored[name], uncertainty)  # type: ignore[misc]
        for name in stored
        for n in (1, 8)
    }
    took = _in_turns(runs, 8.0, clock)
    rows = []
    for name, x in stored.items():
        ratios = [f"{took[f'{name} {n}'] / took[f'float32 {n}']:.2f}" for n in (1, 8)]
        memory = f"{(x.nbytes + uncertainty.nbytes) / count / 1024:.1f} KiB"
        rows.append((name, milliseconds(took[f"{name} 1"]), ratios[0], milliseconds(took[f"{name} 8"]), ratios[1], memory))
    return table(rows, ("stored as", "1 video", "ratio", "8 hypotheses", "ratio", "memory per tile"))


def _encoder(network: CVLNet, device: str) -> CvlNet:
    with tempfile.TemporaryDirectory(prefix="ros2_loc_cross_view_") as scratch:
        path = Path(scratch) / "random.safetensors"
        save_model(path, network, {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
        return CvlNet(CvlNet.Config(str(path)), device)


def _pass(network: CVLNet, images: torch.Tensor) -> None:
    with torch.inference_mode():
        network.ground_features(images).cpu()


def _in_turns(runs: dict[str, Callable[[], object]], seconds: float, clock: Clock) -> dict[str, float]:
    took: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, took.values())) < 3:
        for name, run in runs.items():
            start = clock()
            run()
            took[name].append(clock() - start)
    return {name: statistics.median(times[1:]) for name, times in took.items()}


if __name__ == "__main__":
    raise SystemExit(main())
