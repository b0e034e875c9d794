"""What a filter believes, as RViz shows it: a grid of probabilities and an ellipse for each place where base_link may be."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import Point
from nav_msgs.msg import OccupancyGrid
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from ros2_loc.core.pose import Pose
from ros2_loc.ros.conversions import header, pose_to_message, stamp_from_ns

if TYPE_CHECKING:
    from ros2_loc.localization.belief_view import BeliefView, Mode

_SIGMAS = 3.0
_HEIGHT_M = 0.5  # above the imagery
_COLOUR = (1.0, 0.35, 0.1)


def belief_grid(belief: BeliefView, map_from_enu: Pose, stamp_ns: int, frame_id: str) -> OccupancyGrid:
    """nav_msgs/OccupancyGrid of the belief about the position: 100 where it is most probable, others in proportion.

    Args:
        belief: in the east-north-up frame of the tiles.
        map_from_enu: that frame in the map.
        stamp_ns: of the image that the belief has seen last.
        frame_id: the map.
    """
    rows, columns = belief.probability.shape
    west, south, _, _ = belief.bounds_m
    message = OccupancyGrid(header=header(stamp_ns, frame_id))
    message.info.map_load_time = stamp_from_ns(stamp_ns)
    message.info.resolution, message.info.width, message.info.height = float(belief.metres_per_cell), columns, rows
    message.info.origin = pose_to_message(map_from_enu @ Pose(np.eye(3), np.array([west, south, 0.0])))
    top = max(float(belief.probability.max(initial=0.0)), 1e-30)
    southmost_first = np.rint(100.0 / top * belief.probability[::-1]).astype(np.int8)
    message.data = array("b", southmost_first.tobytes())
    return message


def mode_markers(belief: BeliefView, map_from_enu: Pose, stamp_ns: int, frame_id: str) -> MarkerArray:
    """visualization_msgs/MarkerArray: for each mode the ellipse of three sigma and its probability in words.

    The first marker deletes the modes of before.
    """
    markers = [Marker(action=Marker.DELETEALL)]
    for i, mode in enumerate(belief.modes):
        markers += [_ellipse(i, mode, map_from_enu), _words(i, mode, map_from_enu)]
    for marker in markers:
        marker.header = header(stamp_ns, frame_id)
    return MarkerArray(markers=markers)


def _ellipse(number: int, mode: Mode, map_from_enu: Pose) -> Marker:
    variances, axes = np.linalg.eigh(mode.covariance)
    angles = np.linspace(0.0, 2.0 * np.pi, 49)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    ring = (axes * (_SIGMAS * np.sqrt(np.maximum(variances, 0.0)))) @ circle
    points = np.column_stack([mode.east_m + ring[0], mode.north_m + ring[1], np.full(len(angles), _HEIGHT_M)])
    marker = Marker(ns="modes", id=number, type=Marker.LINE_STRIP, action=Marker.ADD, color=_colour(mode.mass))
    marker.pose.orientation.w = 1.0
    marker.scale.x = 0.3 + 0.7 * float(mode.mass)
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in map_from_enu.apply(points).tolist()]
    return marker


def _words(number: int, mode: Mode, map_from_enu: Pose) -> Marker:
    marker = Marker(ns="mass", id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, color=_colour(1.0), text=f"{mode.mass:.0%}")
    marker.pose = pose_to_message(map_from_enu @ Pose(np.eye(3), np.array([mode.east_m, mode.north_m, 4.0])))
    marker.scale.z = 4.0
    return marker


def _colour(mass: float) -> ColorRGBA:
    red, green, blue = _COLOUR
    return ColorRGBA(r=red, g=green, b=blue, a=float(0.25 + 0.75 * min(mass, 1.0)))
