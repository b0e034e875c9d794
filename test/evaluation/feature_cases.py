"""Small images that have something to find in them, in the forms that evaluations of features read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ros2_loc.evaluation import features_synthetic
from ros2_loc.io.hpatches import write_homography
from ros2_loc.io.images import RGB, write_image


def textured(seed: int, width: int = 200, height: int = 150) -> RGB:
    """Rectangles and discs of random colours, blurred a little."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128, np.uint8)
    for _ in range(140):
        x, y, w, h = (int(v) for v in rng.integers(0, (width, height, 30, 30)))
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.6:
            cv2.rectangle(image, (x, y), (x + w, y + h), color, -1)
        else:
            cv2.circle(image, (x, y), w // 2 + 2, color, -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7), dtype=np.uint8)


def image_folder(folder: Path, count: int = 2) -> Path:
    """Plain images."""
    for k in range(count):
        write_image(folder / f"{k}.png", textured(k))
    return folder


def hpatches_folder(folder: Path, seed: int = 0) -> Path:
    """One sequence of each kind, two pairs in each."""
    rng = np.random.default_rng(seed)
    for name in ("v_blocks", "i_blocks"):
        image = textured(seed)
        write_image(folder / name / "1.ppm", image)
        for k in (2, 3):
            h = features_synthetic.random_homography(rng, 200, 150) if name.startswith("v") else np.eye(3)
            write_image(folder / name / f"{k}.ppm", features_synthetic.other_light(features_synthetic.warped(image, h), rng, 0.3))
            write_homography(folder / name / f"H_1_{k}", h)
    return folder
