"""What a cross-view localizer makes of an image: the ground from above beside the best tile, its scores, and the belief."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.overhead import OverheadGrid, project_overhead, subcell_peak
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Frame, PoseEstimate, Rejection, Tile
from ros2_loc.visualization.colors import GREEN, RED, Color
from ros2_loc.visualization.overlay import draw_words

Image = NDArray[np.uint8]

_BACKGROUND: Color = (24, 30, 42)
_UNSEEN: Color = (52, 60, 76)
_WHITE: Color = (255, 255, 255)
_SOFT: Color = (190, 200, 212)
_GAP_PX = 6
_WIDEST = 2.0  # the camera's picture, in heights of the row


@dataclass(frozen=True, slots=True, eq=False)
class OverheadView:
    """What is drawn.

    Attributes:
        frame: the newest image of the video.
        yaw_rad: of base_link, as the query took it.
        features: (C, S, S) of the video from above, zero where it sees nothing.
        grid: of the encoder.
        tile: the best one, or None.
        scores: (K, K) of that tile, or (0, 0).
        probability: (rows, columns) of the belief, row 0 north.
        result: the pose or the reason why there is none.
        words: below the pictures.
        stage_s: seconds per stage.
    """

    frame: Frame
    yaw_rad: float
    features: NDArray[np.float32]
    grid: OverheadGrid
    tile: Tile | None
    scores: NDArray[np.float32]
    probability: NDArray[np.float32]
    result: PoseEstimate | Rejection
    words: str = ""
    stage_s: dict[str, float] = field(default_factory=dict)


def draw_overhead(view: OverheadView, side_px: int = 256) -> Image:
    """Camera, ground from above, the video's features, best tile, its scores and the belief in a row over words; north is up.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = view.frame.image.shape[:2]
    scale = min(side_px / height, _WIDEST * side_px / width)
    small = cv2.resize(view.frame.image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    camera = np.full((side_px, small.shape[1], 3), _BACKGROUND, dtype=np.uint8)
    camera[-small.shape[0] :] = small
    seen = ground_from_above(view.frame, view.yaw_rad, view.grid.coverage_m, side_px)
    _arrow(seen, (side_px / 2, side_px / 2), view.yaw_rad)
    panels = [
        ("camera", camera),
        (f"this image, {view.grid.coverage_m:.0f} m", seen),
        ("features of the video", heat(np.linalg.norm(view.features, axis=0), side_px)),
        ("best tile" if view.tile is None else f"best tile {view.tile.id}", _tile(view, side_px)),
        ("scores of its shifts", _scores(view.scores, side_px)),
        ("belief", heat(view.probability, side_px)),
    ]
    for title, panel in panels:
        draw_words(panel, title, 6, 16, 0.65, (0, 0, 0), bold=True)
        draw_words(panel, title, 6, 16, 0.65, _WHITE)
    gap = np.full((side_px, _GAP_PX, 3), _BACKGROUND, dtype=np.uint8)
    row = np.hstack([part for _, panel in panels for part in (panel, gap)][:-1])
    bar = np.full((46, row.shape[1], 3), _BACKGROUND, dtype=np.uint8)
    cv2.rectangle(bar, (0, 0), (row.shape[1] - 1, 2), RED if isinstance(view.result, Rejection) else GREEN, -1)
    draw_words(bar, _result_text(view.result), 8, 20, 0.75, _WHITE)
    times = "  ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in view.stage_s.items())
    draw_words(bar, "   ".join(filter(None, (view.words, f"{times} ms" if times else ""))), 8, 39, 0.65, _SOFT)
    return np.vstack([row, bar])


def ground_from_above(frame: Frame, yaw_rad: float, coverage_m: float, side_px: int) -> Image:
    """(side, side, 3) RGB: what the camera sees of the ground around base_link, taken as flat; north up."""
    grid = OverheadGrid(cells=side_px, metres_per_cell=coverage_m / side_px, shift_cells=0)
    level = Pose(so3_exp([0.0, 0.0, yaw_rad]), np.zeros(3))
    pixels, visible = project_overhead(grid, frame.camera, frame.base_from_camera, level)
    x, y = (np.ascontiguousarray(pixels[..., k] - np.float32(0.5)) for k in (0, 1))
    picture = cv2.remap(frame.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    picture[~visible] = _UNSEEN
    return np.asarray(picture, dtype=np.uint8)


def heat(values: NDArray[np.float32], side_px: int) -> Image:
    """(side, side, 3) RGB of values (rows, columns) from 0 to their greatest, fitted into the square; the root, so that small ones show."""
    picture = np.full((side_px, side_px, 3), _BACKGROUND, dtype=np.uint8)
    rows, columns = values.shape
    if not rows or not columns:
        return picture
    share = np.sqrt(np.maximum(values, 0.0) / max(float(values.max()), 1e-30))
    colours = cv2.applyColorMap(np.rint(255.0 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    scale = side_px / max(rows, columns)
    size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    small = cv2.resize(np.ascontiguousarray(colours), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    top, left = (side_px - size[1]) // 2, (side_px - size[0]) // 2
    picture[top : top + size[1], left : left + size[0]] = small
    return picture


def _tile(view: OverheadView, side_px: int) -> Image:
    if view.tile is None:
        return np.full((side_px, side_px, 3), _BACKGROUND, dtype=np.uint8)
    picture = np.ascontiguousarray(cv2.resize(view.tile.image, (side_px, side_px), interpolation=cv2.INTER_AREA))
    if view.scores.size:
        east, north = view.grid.shift_offset_m(*subcell_peak(view.scores))
        px_per_m = side_px / view.grid.coverage_m
        _arrow(picture, (side_px / 2 + east * px_per_m, side_px / 2 - north * px_per_m), view.yaw_rad)
    return picture


def _scores(scores: NDArray[np.float32], side_px: int) -> Image:
    return heat(scores - scores.min(), side_px) if scores.size else heat(scores, side_px)


def _arrow(picture: Image, place: tuple[float, float], yaw_rad: float) -> None:
    x, y = place
    length = 0.1 * picture.shape[1]
    tip = (round(x + length * np.cos(yaw_rad)), round(y - length * np.sin(yaw_rad)))
    for colour, thickness in (((0, 0, 0), 5), (GREEN, 2)):
        cv2.arrowedLine(picture, (round(x), round(y)), tip, colour, thickness, cv2.LINE_AA, tipLength=0.35)


def _result_text(result: PoseEstimate | Rejection) -> str:
    if isinstance(result, Rejection):
        return f"no pose: {result.reason.value.replace('_', ' ')} ({result.detail})"
    east, north = result.map_from_base.translation[:2]
    return f"{east:.1f} m east, {north:.1f} m north   sigma {result.sigma_m:.1f} m, {np.degrees(result.sigma_rad):.1f} deg"
