"""The camera image with what the localizer made of it: quick enough to be drawn for every frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import PoseEstimate, Rejection
from ros2_loc.visualization.colors import RED, STATE_COLORS, Color, good_to_bad

Image = NDArray[np.uint8]

_WHITE: Color = (255, 255, 255)
_SOFT: Color = (190, 200, 212)
_BAR: Color = (24, 30, 42)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class OverlayStatus:
    """What the bar says.

    Attributes:
        result: of this frame.
        state: value of a `FusionState`, empty when there is no fusion.
        num_matches: 2D-3D matches given to the solver.
        place: name of the best place, empty when none.
        stage_s: seconds per stage.
    """

    result: PoseEstimate | Rejection
    state: str = ""
    num_matches: int = 0
    place: str = ""
    stage_s: dict[str, float] = field(default_factory=dict)


def draw_overlay(
    image: Image,
    status: OverlayStatus,
    inlier_pixels_px: NDArray[np.floating] | None = None,
    keypoints_px: NDArray[np.floating] | None = None,
    errors_px: NDArray[np.floating] | None = None,
    max_points: int = 250,
) -> Image:
    """A copy of the image with keypoints (gray), inliers (green to red by reprojection error) and a status bar below the image.

    Args:
        image: (H, W, 3) uint8 RGB.
        inlier_pixels_px, keypoints_px: (M, 2), (K, 2), centre of the first pixel at (0.5, 0.5); points outside the image are left out.
        errors_px: (M,) reprojection errors of the inliers; None: all green.

    Returns:
        (H + bar, W, 3) uint8 RGB.
    """
    h, w = image.shape[:2]
    scale = min(max(w / 900, 0.42), 1.2)
    line_px = round(26 * scale)
    picture = np.empty((h + 2 * line_px + round(10 * scale), w, 3), dtype=np.uint8)
    picture[:h], picture[h:] = image, _BAR
    view = picture[:h]
    _draw_keypoints(view, keypoints_px, max_points)
    _draw_inliers(view, inlier_pixels_px, errors_px, max_points)
    _draw_bar(picture, h, line_px, scale, status)
    return picture


def _draw_keypoints(view: Image, points_px: NDArray[np.floating] | None, most: int) -> None:
    """Squares of 2 x 2 px."""
    points = np.array(_chosen(points_px, most), dtype=int).reshape(-1, 2)
    h, w = view.shape[:2]
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = points[:, 0] + dx, points[:, 1] + dy
        inside = (x >= 0) & (y >= 0) & (x < w) & (y < h)
        view[y[inside], x[inside]] = _SOFT


def _draw_inliers(view: Image, points_px: NDArray[np.floating] | None, errors_px: NDArray[np.floating] | None, most: int) -> None:
    points = _chosen(points_px, most)
    errors = np.zeros(len(points)) if errors_px is None else _thinned(np.asarray(errors_px), most)
    radius = 3 if view.shape[1] >= 900 else 2
    for point in points:
        cv2.circle(view, point, radius + 1, (0, 0, 0), -1)
    for point, error in zip(points, errors, strict=True):
        cv2.circle(view, point, radius, good_to_bad(float(error) / 3.0), -1)


def _draw_bar(picture: Image, top: int, line_px: int, scale: float, status: OverlayStatus) -> None:
    w, margin = picture.shape[1], round(10 * scale)
    accent = RED if isinstance(status.result, Rejection) else STATE_COLORS["tracking"]
    accent = STATE_COLORS.get(status.state, accent)
    cv2.rectangle(picture, (0, top), (w - 1, top + max(round(3 * scale), 2) - 1), accent, -1)
    x, first, second = margin, top + line_px, top + 2 * line_px
    if status.state:
        x = draw_words(picture, status.state.upper(), x, first, scale, accent, bold=True) + 2 * margin
    draw_words(picture, _fitting(_result_text(status), w - x - margin, scale), x, first, scale, _WHITE)
    times = "  ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in status.stage_s.items())
    total = f"{1000 * sum(status.stage_s.values()):.0f} ms" if status.stage_s else ""
    small = 0.8 * scale
    right = w - margin - _width(total, small) if total else w
    draw_words(picture, total, right, second, small, _WHITE)
    left = "   ".join(filter(None, [f"place {status.place}" if status.place else "", times]))
    draw_words(picture, _fitting(left, right - 2 * margin, small), margin, second, small, _SOFT)


def _result_text(status: OverlayStatus) -> str:
    result = status.result
    if isinstance(result, Rejection):
        reason = result.reason.value.replace("_", " ")
        return f"no pose: {reason}" + (f" ({result.detail})" if result.detail else "")
    matches = f"/{status.num_matches}" if status.num_matches else ""
    sigma = f"{100 * result.sigma_m:.1f} cm" if result.sigma_m < 1 else f"{result.sigma_m:.1f} m"
    return f"{result.num_inliers}{matches} inliers   sigma {sigma}, {np.degrees(result.sigma_rad):.2f} deg"


def draw_words(picture: Image, text: str, x: int, y: int, scale: float, color: Color, bold: bool = False) -> int:
    """Draws ASCII (all that OpenCV's fonts have) and returns where it ends."""
    text = text.encode("ascii", "replace").decode()
    cv2.putText(picture, text, (x, y), _FONT, 0.6 * scale, color, 2 if bold else 1, cv2.LINE_AA)
    return x + _width(text, scale)


def _width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, _FONT, 0.6 * scale, 1)[0][0])


def _fitting(text: str, width_px: int, scale: float) -> str:
    """The text, cut to the width."""
    if _width(text, scale) <= width_px:
        return text
    while text and _width(text + "...", scale) > width_px:
        text = text[:-1]
    return text + "..." if text else ""


def _thinned(values: NDArray, most: int) -> NDArray:
    """At most `most` of the values, evenly chosen."""
    return values if len(values) <= most else values[np.linspace(0, len(values) - 1, most).astype(int)]


def _chosen(points_px: NDArray[np.floating] | None, most: int) -> list[tuple[int, int]]:
    if points_px is None or len(points_px) == 0:
        return []
    return [(x, y) for x, y in np.floor(_thinned(np.asarray(points_px), most)).astype(int).tolist()]
