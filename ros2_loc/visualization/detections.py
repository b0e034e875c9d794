"""What a detector found, on the camera image: boxes, masks and labels that stay legible in traffic jams, quick enough for every frame."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Detection
from ros2_loc.visualization.colors import INK, Color

Image = NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]

_WHITE: Color = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MASK_SHARE = 0.42
_SPECK = 0.5  # boxes of less than this share of their words: their colour must do
_LEAST_PX = 480  # pictures narrower than this are enlarged: words would cover what they name

# what traffic has most of, far apart in hue and in lightness; names that mean the same share a colour
_OF_LABELS: dict[str, Color] = {
    **dict.fromkeys(("car", "van", "small vehicle", "small-vehicle", "Small_Vehicle"), (56, 149, 255)),
    **dict.fromkeys(("truck", "bus", "large vehicle", "Large_Vehicle", "train", "tram"), (255, 146, 43)),
    **dict.fromkeys(("person", "pedestrian", "person sitting", "person_sitting"), (255, 72, 110)),
    **dict.fromkeys(("cyclist", "rider", "bicycle", "motorcycle", "motorbike"), (64, 214, 120)),
}
_OTHERS: tuple[Color, ...] = (
    (178, 120, 255),
    (255, 212, 59),
    (34, 205, 205),
    (240, 120, 200),
    (170, 200, 60),
    (150, 165, 255),
    (230, 170, 120),
    (120, 190, 170),
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """How detections are drawn.

    Attributes:
        masks: fill what masks cover.
        words: write label and score beside each box.
        scale: size of the picture by that of the image; None: 1, or as much as words need in a small image.
    """

    masks: bool = True
    words: bool = True
    scale: float | None = None


def label_color(label: str) -> Color:
    """The same colour for a label in every picture."""
    known = _OF_LABELS.get(label) or _OF_LABELS.get(label.lower())
    return known or _OTHERS[zlib.crc32(label.encode()) % len(_OTHERS)]


def draw_detections(
    image: Image,
    detections: Sequence[Detection],
    drawing: Drawing | None = None,
    colors: Sequence[Color] | None = None,
    texts: Sequence[str] | None = None,
) -> Image:
    """A copy of the image with masks filled, boxes around and words beside what was found.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: best first; the best lie on top and get the best places for their words. Parts outside the image are left out.
        drawing: what is drawn, how large.
        colors: one for each detection; None: those of the labels.
        texts: one for each detection, "" for none; None: label and score in percent.

    Returns:
        (H * scale, W * scale, 3) uint8 RGB.
    """
    drawing = drawing or Drawing()
    colors = [label_color(one.label) for one in detections] if colors is None else colors
    texts = [f"{one.label} {round(100 * one.score)}" for one in detections] if texts is None else texts
    scale = drawing.scale or max(1.0, min(4.0, _LEAST_PX / image.shape[1]))
    picture = _scaled(image, scale)
    worst_first = list(reversed(range(len(detections))))
    if drawing.masks:
        for k in worst_first:
            _fill(picture, detections[k], colors[k], scale)
    rectangles = [_rectangle(one, scale, picture) for one in detections]
    thin = max(1, round(picture.shape[1] / 700))
    for k in worst_first:
        _outline(picture, rectangles[k], colors[k], thin)
    if drawing.words:
        _write(picture, rectangles, texts, colors)
    return picture


def _scaled(image: Image, scale: float) -> Image:
    if scale == 1.0:
        return image.copy()
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), dtype=np.uint8)


def _fill(picture: Image, detection: Detection, color: Color, scale: float) -> None:
    """The mask in its colour, with a brighter rim."""
    if detection.mask is None or not detection.mask.any():
        return
    x, y, w, h = cv2.boundingRect(detection.mask.view(np.uint8))
    inside = detection.mask[y : y + h, x : x + w].view(np.uint8)
    left, top, right, bottom = (round(edge * scale) for edge in (x, y, x + w, y + h))
    right, bottom = min(max(right, left + 1), picture.shape[1]), min(max(bottom, top + 1), picture.shape[0])
    if left >= right or top >= bottom:
        return
    if scale != 1.0:
        inside = np.asarray(cv2.resize(inside * np.uint8(255), (right - left, bottom - top)) > 127, dtype=np.uint8)
    view = picture[top:bottom, left:right]
    chosen = inside.astype(bool)
    view[chosen] = (view[chosen] * (1.0 - _MASK_SHARE) + np.array(color) * _MASK_SHARE).astype(np.uint8)
    rims, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for rim in rims:
        view[rim[:, 0, 1], rim[:, 0, 0]] = color


def _rectangle(detection: Detection, scale: float, picture: Image) -> Rectangle:
    """First and last column and row of a box (x0, y0, x1, y1), of at least two pixels, within the picture."""
    h, w = picture.shape[:2]
    x0, y0, x1, y1 = np.round(np.asarray(detection.box, dtype=np.float64) * scale).clip(-1e6, 1e6).astype(int).tolist()
    left, top = min(max(x0, 0), w - 1), min(max(y0, 0), h - 1)
    return left, top, min(max(x1 - 1, left + 1), w - 1), min(max(y1 - 1, top + 1), h - 1)


def _outline(picture: Image, rectangle: Rectangle, color: Color, thin: int) -> None:
    """The box on a dark one that lets it be seen on anything."""
    left, top, right, bottom = rectangle
    if min(right - left, bottom - top) >= 12:
        dark = tuple(part // 4 for part in color)
        cv2.rectangle(picture, (left, top), (right, bottom), dark, thin + 2)
    cv2.rectangle(picture, (left, top), (right, bottom), color, thin)


def _write(picture: Image, rectangles: Sequence[Rectangle], texts: Sequence[str], colors: Sequence[Color]) -> None:
    """Words on a plate of the box's colour, where they cover no other words; none where no place is left, nor at specks."""
    size = min(max(picture.shape[1] / 1800, 0.38), 0.8)
    taken: list[Rectangle] = []
    for rectangle, text, color in zip(rectangles, texts, colors, strict=True):
        text = text.encode("ascii", "replace").decode()
        if not text:
            continue
        (width, height), below = cv2.getTextSize(text, _FONT, size, 1)
        margin = max(2, round(6 * size))
        sides = width + 2 * margin, height + below // 2 + 2 * margin
        area = (rectangle[2] - rectangle[0] + 1) * (rectangle[3] - rectangle[1] + 1)
        plate = _place(rectangle, sides, taken, picture) if area > _SPECK * sides[0] * sides[1] else None
        if plate is None:
            continue
        taken.append(plate)
        cv2.rectangle(picture, plate[:2], plate[2:], color, -1)
        bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 110
        cv2.putText(picture, text, (plate[0] + margin, plate[1] + margin + height), _FONT, size, INK if bright else _WHITE, 1, cv2.LINE_AA)


def _place(box: Rectangle, size: tuple[int, int], taken: Sequence[Rectangle], picture: Image) -> Rectangle | None:
    """The first free place: above the box, below it, in its corners."""
    (left, top, right, bottom), (width, height), (rows, columns) = box, size, picture.shape[:2]
    corners = ((left, top - height), (right - width, top - height), (left, bottom + 1), (right - width, bottom + 1))
    within = ((left, top), (right - width, top), (left, bottom - height), (right - width, bottom - height))
    for x, y in (*corners, *within):
        x = min(max(x, 0), columns - width)
        plate = (x, y, x + width - 1, y + height - 1)
        if x >= 0 and y >= 0 and y + height <= rows and not any(_meet(plate, other) for other in taken):
            return plate
    return None


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]
