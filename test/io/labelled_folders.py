"""Small folders of labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ros2_loc.io.images import write_image


def picture(path: Path, width: int = 60, height: int = 40) -> Path:
    """A gray image."""
    write_image(path, np.full((height, width, 3), 128, np.uint8))
    return path


def instances(**changed: Any) -> dict[str, Any]:
    """Two objects in one image of 60 x 40 px, none in the other."""
    content: dict[str, Any] = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 60, "height": 40} for k in (7, 9)],
        "annotations": [
            {"id": 11, "image_id": 7, "category_id": 3, "bbox": [5, 6, 20, 10], "area": 90.0, "iscrowd": 0},
            {"id": 12, "image_id": 7, "category_id": 1, "bbox": [1.5, 2, 3, 4], "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    return {**content, **changed}


def coco_folder(folder: Path, content: Any) -> Path:
    """With both images."""
    for k in (7, 9):
        picture(folder / "images" / f"{k}.png")
    (folder / "annotations.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder
