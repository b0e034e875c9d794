"""XFeat as an extractor: small and fast on a CPU, descriptors of 64 numbers.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024; sparse features of section 3.3. ONNX Runtime is
enough to run it: PyTorch is imported for `backend: torch` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Frame, LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.models.weight_files import locate, sha256
from ros2_loc.perception.backends import BackendConfig, Maps, open_exported, open_runner, run_at
from ros2_loc.perception.extractors.scaling import Prepared, features_of, groups, no_features, prepare, stacked
from ros2_loc.perception.extractors.xfeat_graph import any_size

DIMENSION = 64
MULTIPLE = 32
CELL_PX = 8
WINDOW_PX = 5
MIN_EDGE_PX = 16


class XFeat:
    """The network of one weight file, run by one backend."""

    @dataclass(frozen=True)
    class Config(BackendConfig):
        """Which weights, and how many keypoints.

        Attributes:
            weights: xfeat (ONNX), xfeat_official (the authors' checkpoint: torch or an exported `model` only), or the path of one of them.
            max_keypoints: at most so many, of the highest scores.
            score_threshold: of the keypoint map, in (0, 1).
            max_edge_px: images are made smaller until their long edge has so many pixels; 0 for full size.
            batch_size: images in one pass.
        """

        backend: Literal["torch", "onnxruntime", "openvino", "tensorrt"] = "onnxruntime"
        weights: str = "xfeat"
        max_keypoints: int = 2500
        score_threshold: float = 0.05
        max_edge_px: int = 0
        batch_size: int = 4

        def __post_init__(self) -> None:
            super().__post_init__()
            if min(self.max_keypoints, self.batch_size) < 1 or not 0 <= self.score_threshold < 1 or self.max_edge_px < 0:
                raise ConfigError(
                    "xfeat: max_keypoints and batch_size are positive, score_threshold in [0, 1), max_edge_px not negative"
                )

    name = "xfeat"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._run = _dense(config, device)
        self.batch_size = config.batch_size

    def extract(self, frame: Frame) -> LocalFeatures:
        """Keypoints of the whole image, or of the unmasked part."""
        return self.extract_many([frame])[0]

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]:
        """`extract` of each, images of one size in one pass."""
        prepared = [prepare(frame, self._config.max_edge_px) for frame in frames]
        results = [no_features(frame, DIMENSION, self.name) for frame in frames]
        for indices in groups(prepared, self.batch_size):
            if min(prepared[indices[0]].size) < MIN_EDGE_PX:
                continue
            maps = self._run(stacked([prepared[index] for index in indices], MULTIPLE))
            for row, index in enumerate(indices):
                results[index] = self._features([one[row] for one in maps], prepared[index], frames[index])
        return results

    def _features(self, maps: Maps, prepared: Prepared, frame: Frame) -> LocalFeatures:
        descriptors, logits, reliability = maps
        heat = _heat(logits)
        columns_rows = _maxima(heat, self._config.score_threshold, prepared)
        column, row = columns_rows.T
        # the authors' reading of the cells, whose first pixel is at 0 and last at the far edge: their weights were trained with it
        cells = columns_rows * (np.array(logits.shape[:0:-1]) / (CELL_PX * np.array(logits.shape[:0:-1]) - 1.0))
        scores = heat[row, column] * sampled(reliability, cells, "linear")[:, 0]
        best = np.argsort(-scores, kind="stable")[: self._config.max_keypoints]
        described = sampled(descriptors, cells[best], "cubic")
        described /= np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-12)
        scales = np.full(len(best), prepared.ratio.mean())
        full = prepared.to_full(columns_rows[best] + 0.5)
        return features_of(full, described, scores[best], scales, frame, self._config.max_keypoints, self.name)


def sampled(maps: NDArray[np.float32], points: NDArray, kind: Literal["linear", "cubic"]) -> NDArray[np.float32]:
    """Maps read between their cells, zero around them, as `torch.nn.functional.grid_sample` does.

    Args:
        maps: (C, h, w).
        points: (N, 2) cells, x and y, centre of the first cell at (0.5, 0.5).
        kind: cubic is the convolution with a = -0.75.

    Returns:
        (N, C).
    """
    reach = 1 if kind == "linear" else 2
    start = np.floor(points - 0.5).astype(np.int64)
    weights = _weights(points - 0.5 - start, kind)
    padded = np.pad(maps, ((0, 0), (reach, reach), (reach, reach))).transpose(1, 2, 0)
    # the padding of zeros begins `reach` cells before the first
    taps = np.arange(1 - reach, reach + 1)
    column, row = ((start[:, axis, None] + taps + reach).clip(0, padded.shape[1 - axis] - 1) for axis in (0, 1))
    total = np.zeros((len(points), maps.shape[0]), dtype=np.float32)
    for k in range(len(taps)):
        line = np.einsum("nt,ntc->nc", weights[:, 0], padded[row[:, k, None], column])
        total += weights[:, 1, k, None] * line
    return total


def _weights(fraction: NDArray, kind: str) -> NDArray[np.float32]:
    """(N, 2) in [0, 1) -> (N, 2, taps)."""
    if kind == "linear":
        return np.stack([1.0 - fraction, fraction], axis=-1).astype(np.float32)
    a = -0.75
    near, far = (fraction, 1.0 - fraction), (1.0 + fraction, 2.0 - fraction)
    inner = [((a + 2.0) * t - (a + 3.0)) * t * t + 1.0 for t in near]
    outer = [((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a for t in far]
    return np.stack([outer[0], inner[0], inner[1], outer[1]], axis=-1).astype(np.float32)


def _heat(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(65, h, w) -> (8 h, 8 w): how likely each pixel is the keypoint of its cell."""
    grown = np.exp(logits - logits.max(axis=0))
    share = grown[:-1] / grown.sum(axis=0)
    height, width = share.shape[1:]
    cells = share.reshape(CELL_PX, CELL_PX, height, width).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(cells.reshape(height * CELL_PX, width * CELL_PX))


def _maxima(heat: NDArray[np.float32], threshold: float, prepared: Prepared) -> NDArray[np.int64]:
    """(N, 2) column and row of the pixels above the threshold that are the best of their window, inside of image and mask."""
    width, height = prepared.size
    heat = np.ascontiguousarray(heat[:height, :width])
    best = cv2.dilate(heat, np.ones((WINDOW_PX, WINDOW_PX), np.uint8))
    chosen = (heat == best) & (heat > threshold)
    if prepared.mask is not None:
        chosen &= prepared.mask
    return np.argwhere(chosen)[:, ::-1]


def _dense(config: XFeat.Config, device: str) -> Callable[[NDArray[np.float32]], Maps]:
    """(B, 3, H, W) -> descriptors, logits, reliability in cells of 8 px."""
    if config.backend == "torch":
        return _by_torch(config, device)
    path = locate(config.weights)
    if config.model:
        runner = open_exported(config, XFeat.name, sha256(path), device)
    elif path.suffix == ".onnx":
        runner = open_runner(config, any_size(path), device)
    else:
        raise ConfigError(f"xfeat: {config.weights} is no ONNX file: backend torch, or a model that `ros2-loc export xfeat` writes from it")
    return lambda images: run_at(runner, images)


def _by_torch(config: XFeat.Config, device: str) -> Callable[[NDArray[np.float32]], Maps]:
    import torch

    from ros2_loc.models.folding import folded
    from ros2_loc.models.xfeat import load_published
    from ros2_loc.perception.networks import device_of

    device_of(XFeat.name, device, half=False)
    network = folded(load_published(config.weights)).to(device)

    def run(images: NDArray[np.float32]) -> Maps:
        with torch.inference_mode():
            return [one.cpu().numpy() for one in network(torch.from_numpy(images).to(device))]

    return run
