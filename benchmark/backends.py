"""Time of a 1242x375 frame by PyTorch, ONNX Runtime and OpenVINO, in 32-bit floats and in 8 bits, side by side.

    ROS2_LOC_WEIGHTS=weights python benchmark/backends.py --images drive/image_2 --threads 2

Each network's backends take turns, so that whatever else the machine does hits all of them alike; medians and their ratios are what to
compare. "dense" is the network alone, "extract" the whole extractor with the settings of its section. Errors are by the largest value of
an output; "same" is the share of PyTorch's keypoints that the backend finds within half a pixel, and "cosine" how alike their descriptors
are. 8 bits are calibrated on the images and need --images. With --keep the exported files are kept and used again.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.cli.console import milliseconds, table
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.io.image_folders import image_files
from ros2_loc.io.images import read_image, resize_image
from ros2_loc.perception.backends import BackendConfig, open_runner, run_at
from ros2_loc.perception.export import ExportJob, Flat, export
from ros2_loc.perception.exportable import TABLE

SIZE = (1242, 375)
WEIGHTS = {"r2d2": "r2d2_wasf_n16", "aliked": "aliked_n16", "xfeat": "xfeat"}
# the whole image at one scale, which is what the others see
SETTINGS: dict[str, dict[str, object]] = {"r2d2": {"min_scale": 1.0, "max_edge_px": 0}, "aliked": {}, "xfeat": {}}
CALIBRATION = 12
Clock = Callable[[], float]
Variant = tuple[str, str]  # backend, precision
TORCH = ("torch", "fp32")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--networks", nargs="+", default=list(WEIGHTS), choices=list(WEIGHTS))
    for name, weights in WEIGHTS.items():
        parser.add_argument(f"--{name}", default=weights, metavar="WEIGHTS", help=f"name or path (default: {weights})")
    parser.add_argument("--images", type=Path, metavar="DIR", help="photographs; without them noise is used and 8 bits are left out")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the exported files are kept")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each backend (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each network")
    parser.add_argument("--cpu-time", action="store_true", help="the processor's time instead of the clock's (all threads together)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    images = photographs(arguments.images)
    print(f"{SIZE[0]}x{SIZE[1]} px, {arguments.threads} threads", flush=True)
    with kept_folder(arguments.keep) as folder:
        for name in arguments.networks:
            print(f"\n{name}\n{compare(name, getattr(arguments, name), images, folder, arguments, clock)}", flush=True)
    return 0


def photographs(folder: Path | None) -> list[NDArray[np.uint8]]:
    """The first is timed, all calibrate; one of noise without a folder."""
    if folder is None:
        coarse = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 5, SIZE[0] // 6, 3), dtype=np.uint8)
        return [resize_image(coarse, *SIZE)]
    files = image_files(folder)
    chosen = files[:: max(1, len(files) // CALIBRATION)][:CALIBRATION]
    return [resize_image(read_image(file), *SIZE) for file in chosen]


def compare(
    name: str, weights: str, images: list[NDArray[np.uint8]], folder: Path, arguments: argparse.Namespace, clock: Clock
) -> str:
    """One network's table."""
    precisions = ("fp32", "int8") if len(images) > 1 else ("fp32",)
    files = {
        (backend, precision): file
        for precision in precisions
        for file in [exported(name, weights, precision, images, folder)]
        for backend in ("onnxruntime", "openvino")
    }
    dense = dense_runs(name, weights, images[0], files, arguments.threads)
    errors = error_of({variant: run() for variant, run in dense.items()})
    took = {("dense", variant): seconds for variant, seconds in in_turns(dense, arguments.seconds / 2, clock).items()}
    del dense  # runtimes keep the memory of their largest image, gigabytes for these networks
    gc.collect()
    section = {"name": name, "weights": weights, **SETTINGS[name]}
    extractors = {TORCH: registry.create("extractor", section | {"backend": "torch"})}
    for (backend, precision), file in files.items():
        swapped = section | {"backend": backend, "model": str(file), "threads": arguments.threads}
        extractors[backend, precision] = registry.create("extractor", swapped)
    frame = Frame(0, images[0], Camera.pinhole(*SIZE, 720, 720, SIZE[0] / 2, SIZE[1] / 2), Pose.identity())
    features = {variant: one.extract(frame) for variant, one in extractors.items()}
    runs = {variant: partial(one.extract, frame) for variant, one in extractors.items()}
    took |= {("extract", variant): seconds for variant, seconds in in_turns(runs, arguments.seconds / 2, clock).items()}
    rows = []
    for variant in extractors:
        times = [cell for what in ("dense", "extract") for cell in timed(took, what, variant)]
        rows.append((*variant, *times, errors[variant], *likeness(features, variant)))
    return table(rows, ("backend", "precision", "dense", "ratio", "extract", "ratio", "max error", "keypoints", "same", "cosine"))


def exported(name: str, weights: str, precision: str, images: list[NDArray[np.uint8]], folder: Path) -> Path:
    """The ONNX file of one precision, which OpenVINO reads as well, written unless it is there."""
    out = folder / f"{name}_{precision}.onnx"
    if not out.exists():
        small = [resize_image(image, SIZE[0] // 2, SIZE[1] // 2) for image in images]  # the ranges are the same, in a quarter of the memory
        pixels = [np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(255.0) for image in small]
        export(ExportJob(name, weights, out, "onnx", None, precision, pixels if precision == "int8" else ()))  # type: ignore[arg-type]
    return out


def dense_runs(
    name: str, weights: str, image: NDArray[np.uint8], files: dict[Variant, Path], threads: int
) -> dict[Variant, Callable[[], list[NDArray[np.float32]]]]:
    """The network alone, PyTorch's as its extractor has it."""
    from ros2_loc.models.folding import folded
    from ros2_loc.models.weight_files import locate

    row = TABLE[name]
    loaded = row.load(locate(weights))
    multiple = row.multiple_of(loaded)
    network = Flat(folded(loaded)).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
    filling = (0, -SIZE[0] % multiple, 0, -SIZE[1] % multiple)
    inputs = row.normalized(torch.nn.functional.pad(pixels, filling, mode="replicate"))
    ordered, array = inputs.contiguous(memory_format=torch.channels_last), inputs.contiguous().numpy()

    def by_torch() -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [one.numpy() for one in network(ordered)]

    runs: dict[Variant, Callable[[], list[NDArray[np.float32]]]] = {TORCH: by_torch}
    for (backend, precision), file in files.items():
        runner = open_runner(BackendConfig(backend=backend, threads=threads), file, "cpu")  # type: ignore[arg-type]
        runs[backend, precision] = lambda runner=runner: run_at(runner, array)  # type: ignore[misc]
    return runs


def in_turns(runs: Mapping[Variant, Callable[[], object]], seconds: float, clock: Clock) -> dict[Variant, float]:
    """Median of each, all of them one after the other again and again, at least three times; they have run once before."""
    took: dict[Variant, list[float]] = {key: [] for key in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, took.values())) < 3:
        for key, run in runs.items():
            start = clock()
            run()
            took[key].append(clock() - start)
    return {key: statistics.median(times) for key, times in took.items()}


def timed(took: dict[tuple[str, Variant], float], what: str, variant: Variant) -> tuple[str, str]:
    return milliseconds(took[what, variant]), f"{took[what, variant] / took[what, TORCH]:.2f}"


def error_of(outputs: Mapping[Variant, list[NDArray[np.float32]]]) -> dict[Variant, str]:
    """The largest error of each variant's outputs, by their largest value."""
    expected = outputs[TORCH]

    def worst(found: list[NDArray[np.float32]]) -> float:
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True))

    return {variant: f"{worst(found):.1e}" for variant, found in outputs.items()}


def likeness(features: dict[Variant, LocalFeatures], variant: Variant) -> tuple[str, str, str]:
    """Number of keypoints, share of PyTorch's that are among them, mean cosine of the descriptors of those."""
    ours, theirs = features[variant], features[TORCH]
    distance = np.linalg.norm(theirs.keypoints[:, None] - ours.keypoints[None], axis=2)
    nearest, same = distance.argmin(axis=1), distance.min(axis=1) < 0.5
    cosine = (theirs.descriptors[same] * ours.descriptors[nearest[same]]).sum(axis=1).mean() if same.any() else float("nan")
    return str(len(ours)), f"{same.mean():.3f}", f"{cosine:.4f}"


@contextmanager
def kept_folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ros2_loc_backends_") as scratch:
        yield Path(scratch)


if __name__ == "__main__":
    raise SystemExit(main())
