"""Between detections and their messages: vision_msgs/Detection2DArray, and an image that says where something may move.

vision_msgs does not say where the pixels' origin is. As nearly all who publish boxes, this package has it at the image's upper left corner
with the edges of a box between pixels: a box around the first pixel is centred at (0.5, 0.5) and 1 px wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError, MissingDependencyError
from ros2_loc.io.image_encodings import pixels_of
from ros2_loc.ros import images

_MASK_ENCODINGS = ("mono8", "8UC1", "8U")


def vision_messages() -> Any:
    """The module `vision_msgs.msg`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module("vision_msgs.msg")
    except ImportError as error:
        raise MissingDependencyError("vision_msgs is not installed: run `pip install .` or apt install ros-<distro>-vision-msgs") from error


def detections_to_message(detections: Sequence[Detection], header: Header) -> Any:
    """vision_msgs/Detection2DArray, in the same order; labels are class ids, poses and their covariances stay as they come (not known).

    Args:
        detections: of one image.
        header: that of the image.
    """
    msg = vision_messages()
    return msg.Detection2DArray(header=header, detections=[_one_to_message(msg, one, header) for one in detections])


def _one_to_message(msg: Any, detection: Detection, header: Header) -> Any:
    x0, y0, x1, y1 = (float(edge) for edge in detection.box)
    message = msg.Detection2D(header=header)
    message.bbox.center.position.x, message.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
    message.bbox.size_x, message.bbox.size_y = x1 - x0, y1 - y0
    hypothesis = msg.ObjectHypothesis(class_id=detection.label, score=float(detection.score))
    message.results = [msg.ObjectHypothesisWithPose(hypothesis=hypothesis)]
    return message


def detections_from_message(message: Any, size: tuple[int, int] | None = None) -> list[Detection]:
    """The detections of a vision_msgs/Detection2DArray of anybody, each with its most probable class, best first.

    Args:
        message: those without any class are left out; of a turned box the upright one around it is taken.
        size: (H, W) px of the image: boxes are cut at its edges; None: as they are.

    Raises:
        DataError: which detection has a number that is none, or a negative size.
    """
    found = [_one_from_message(one, k, size) for k, one in enumerate(message.detections) if one.results]
    return sorted(found, key=lambda detection: -detection.score)


def _one_from_message(message: Any, k: int, size: tuple[int, int] | None) -> Detection:
    best = max((result.hypothesis for result in message.results), key=lambda hypothesis: hypothesis.score)
    box, centre = message.bbox, message.bbox.center
    numbers = (centre.position.x, centre.position.y, centre.theta, box.size_x, box.size_y, *(r.hypothesis.score for r in message.results))
    if not all(map(math.isfinite, numbers)) or min(box.size_x, box.size_y) < 0:
        raise DataError(f"detection {k} ({best.class_id!r}) refused: its box or score is not finite, or its size negative")
    cos, sin = abs(math.cos(centre.theta)), abs(math.sin(centre.theta))
    half_x, half_y = (box.size_x * cos + box.size_y * sin) / 2, (box.size_x * sin + box.size_y * cos) / 2
    edges = np.array([centre.position.x - half_x, centre.position.y - half_y, centre.position.x + half_x, centre.position.y + half_y])
    if size is not None:
        edges = np.clip(edges, 0, [size[1], size[0], size[1], size[0]])
    return Detection(edges.astype(np.float32), best.class_id, float(best.score))


def mask_to_message(moving: NDArray[np.bool_], header: Header) -> Image:
    """sensor_msgs/Image (mono8): 255 where `moving` (H, W) is True, 0 elsewhere."""
    return images.CvBridge().cv2_to_imgmsg(moving.astype(np.uint8) * np.uint8(255), "mono8", header)


def mask_from_message(message: Image, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) True where the image is not 0.

    Args:
        message: sensor_msgs/Image of mono8 or 8UC1.
        size: (H, W) px that it must have: those of the image that it belongs to.

    Raises:
        DataError: another encoding or size, or data that contradicts them.
    """
    if message.encoding not in _MASK_ENCODINGS:
        raise DataError(f"mask refused: its encoding is {message.encoding!r}; send mono8, 255 where something may move")
    if (message.height, message.width) != size:
        raise DataError(f"mask refused: it is {message.width}x{message.height} but the image is {size[1]}x{size[0]}")
    try:
        return np.asarray(pixels_of(message) != 0)
    except (DataError, ValueError, RuntimeError) as error:
        raise DataError(f"mask refused: {error}") from error
