"""A map as RViz shows it: its points, its places, the imagery below it, and where it lies on the earth."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoOrigin, earth_from_enu
from ros2_loc.core.pose import Pose
from ros2_loc.ros.conversions import header, pose_to_message

if TYPE_CHECKING:
    from ros2_loc.mapping.mosaic import Mosaic, StoredMosaic
    from ros2_loc.mapping.sparse_map import SparseMap

_FRUSTUM_COLOUR = ColorRGBA(r=0.25, g=0.65, b=1.0, a=0.7)
_PATH_COLOUR = ColorRGBA(r=1.0, g=0.75, b=0.2, a=0.9)


def point_cloud(points_m: NDArray[np.float64], colors: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> PointCloud2:
    """sensor_msgs/PointCloud2 with fields x, y, z, rgb of points (N, 3) m and RGB colours (N, 3)."""
    records = np.zeros(len(points_m), dtype=[("xyz", "<f4", 3), ("bgra", "u1", 4)])  # PCL's packed rgb: 0x00RRGGBB, little-endian
    records["xyz"] = points_m
    records["bgra"][:, :3] = colors[:, ::-1]
    message = PointCloud2(header=header(stamp_ns, frame_id), height=1, width=len(records), point_step=16, row_step=16 * len(records))
    message.fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate(("x", "y", "z", "rgb"))]
    message.is_dense = True
    message.data = array("B", records.tobytes())
    return message


def place_markers(sparse_map: SparseMap, stamp_ns: int, frame_id: str) -> MarkerArray:
    """visualization_msgs/MarkerArray: the cameras' frustums, the way the vehicle took, and an arrow for each of its poses.

    The first marker deletes what an earlier map left.
    """
    depth_m = _frustum_depth_m(sparse_map)
    base = [place.map_from_base for place in sparse_map.places]
    corners = _frustum(sparse_map.camera, depth_m)
    lines = [corner for place in sparse_map.places for corner in place.map_from_camera.apply(corners)]
    way = [pose.translation for pose in base]
    markers = [
        _lines("frustums", Marker.LINE_LIST, lines, 0.02 * depth_m, _FRUSTUM_COLOUR),
        _lines("way", Marker.LINE_STRIP, way, 0.05 * depth_m, _PATH_COLOUR),
        *(_arrow(i, pose, depth_m) for i, pose in enumerate(base)),
    ]
    for marker in markers:
        marker.header = header(stamp_ns, frame_id)
    return MarkerArray(markers=[Marker(header=header(stamp_ns, frame_id), action=Marker.DELETEALL), *markers])


def mosaic_points(
    mosaic: Mosaic | StoredMosaic, metres_per_point: float, max_points: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8], float]:
    """The imagery as coloured points on the ground (z = 0), one for each square of it that is known.

    Args:
        mosaic: the imagery; it is read once, reduced.
        metres_per_point: side of a square, at least a pixel of the imagery.
        max_points: larger squares where there would be more.

    Returns:
        (N, 3) m east, north, up; (N, 3) uint8 RGB; the side of a square, m.
    """
    (width, height), pixel_m = mosaic.size_px, mosaic.metres_per_px
    factor = max(round(metres_per_point / pixel_m), int(np.ceil(np.sqrt(width * height / max_points))), 1)
    factor = min(factor, width, height)
    rgb, known = mosaic.window(0, 0, width // factor * factor, height // factor * factor, factor)
    rows, columns = np.nonzero(known >= 128)
    side_m = factor * pixel_m
    east, north = mosaic.west_m + (columns + 0.5) * side_m, mosaic.north_m - (rows + 0.5) * side_m
    return np.column_stack([east, north, np.zeros(len(rows))]), rgb[rows, columns], side_m


def earth_from_map(origin: GeoOrigin, enu_from_map: Pose) -> Pose:
    """Pose of the map in the earth frame of REP 105 (earth-centred, earth-fixed)."""
    return earth_from_enu(origin) @ enu_from_map


def _frustum_depth_m(sparse_map: SparseMap) -> float:
    """Half the way between neighbouring places, so that frustums do not run into each other; 0.05 m to 2 m."""
    positions = np.array([place.map_from_base.translation for place in sparse_map.places]).reshape(-1, 3)
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    return float(np.clip(0.5 * np.median(steps), 0.05, 2.0)) if len(steps) else 0.5


def _frustum(camera: Camera, depth_m: float) -> NDArray[np.float64]:
    """(16, 3) m: the ends of the 8 edges of the image's pyramid, in the camera."""
    w, h = float(camera.width), float(camera.height)
    pixels = np.array([[0, 0], [w, 0], [w, h], [0, h]])
    corners = np.column_stack([camera.undistorted().unproject(pixels), np.ones(4)]) * depth_m
    edges = [(np.zeros(3), corner) for corner in corners] + [(corners[i], corners[(i + 1) % 4]) for i in range(4)]
    return np.array(edges).reshape(-1, 3)


def _lines(namespace: str, kind: int, points_m: list[NDArray[np.float64]], width_m: float, colour: ColorRGBA) -> Marker:
    marker = Marker(ns=namespace, id=0, type=kind, action=Marker.ADD, color=colour)
    marker.pose.orientation.w = 1.0
    marker.scale.x = width_m
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in np.asarray(points_m, dtype=np.float64).reshape(-1, 3).tolist()]
    return marker


def _arrow(number: int, map_from_base: Pose, length_m: float) -> Marker:
    marker = Marker(ns="places", id=number, type=Marker.ARROW, action=Marker.ADD, color=_PATH_COLOUR)
    marker.pose = pose_to_message(map_from_base)
    marker.scale.x, marker.scale.y, marker.scale.z = length_m, 0.15 * length_m, 0.15 * length_m
    return marker
