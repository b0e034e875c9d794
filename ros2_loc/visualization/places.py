"""The query beside the places that the map answered with: quick enough to be drawn for every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.visualization.colors import AMBER, GRAY, GREEN, Color
from ros2_loc.visualization.overlay import draw_words

Image = NDArray[np.uint8]

_BACK: Color = (24, 30, 42)
_WHITE: Color = (255, 255, 255)
_FRAME_PX, _WORDS_PX = 3, 24


@dataclass(frozen=True, slots=True, eq=False)
class PlaceView:
    """One place: its small picture (H, W, 3) uint8 RGB, what is said below it, and whether the pose came from it."""

    thumbnail: Image
    words: str
    gave_pose: bool = False


def draw_places(query: Image, places: Sequence[PlaceView], title: str, height_px: int = 150, columns: int = 3) -> Image:
    """The query with its title and the places in rows of `columns`, best first.

    Returns:
        (H, W, 3) uint8 RGB; the query alone where there are no places.
    """
    query_tile = _tile(query, title, AMBER, height_px, None)
    tiles = [query_tile]
    for place in places:
        tiles.append(_tile(place.thumbnail, place.words, GREEN if place.gave_pose else GRAY, height_px, query_tile.shape[1]))
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    width = max(sum(tile.shape[1] for tile in row) for row in rows)
    return np.concatenate([_padded(np.concatenate(row, axis=1), width) for row in rows])


def _tile(image: Image, words: str, colour: Color, height_px: int, width_px: int | None) -> Image:
    """The image in a frame, words below; of `width_px` where that is given, the image in its middle."""
    scale = height_px / image.shape[0]
    if width_px is not None:
        scale = min(scale, (width_px - 4 * _FRAME_PX) / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    tile = np.full((height_px + 4 * _FRAME_PX + _WORDS_PX, width_px or size[0] + 4 * _FRAME_PX, 3), _BACK, dtype=np.uint8)
    top, left = 2 * _FRAME_PX, (tile.shape[1] - size[0]) // 2
    cv2.rectangle(tile, (left - _FRAME_PX, top - _FRAME_PX), (left + size[0] + _FRAME_PX - 1, top + size[1] + _FRAME_PX - 1), colour, -1)
    tile[top : top + size[1], left : left + size[0]] = small
    draw_words(tile, words, 2 * _FRAME_PX, tile.shape[0] - 8, 0.75, _WHITE)
    return tile


def _padded(row: Image, width_px: int) -> Image:
    padded = np.full((row.shape[0], width_px, 3), _BACK, dtype=np.uint8)
    padded[:, : row.shape[1]] = row
    return padded
