"""Shows a map: latched points and places, and where the map lies on the earth."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from ros2_loc.errors import ConfigError, Ros2LocError
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.ros.conversions import transform_stamped
from ros2_loc.ros.diagnostics import Level, Report
from ros2_loc.ros.map_messages import earth_from_map, place_markers, point_cloud
from ros2_loc.ros.node_base import BaseParameters, NodeBase, one_line, run
from ros2_loc.ros.params import parameter
from ros2_loc.ros.qos import LATCHED
from ros2_loc.ros.tf import StaticTransformBroadcaster


@dataclass(frozen=True)
class MapServerParameters(BaseParameters):
    """What the map server takes."""

    map: str = parameter("", "folder that `ros2-loc map build` wrote")
    map_frame: str = parameter("map", "frame of the points and places")
    earth_frame: str = parameter("earth", "parent of the map where it is georeferenced (earth-centred, REP 105); empty: no such transform")
    verify: bool = parameter(True, "compare the map's files with their checksums when loading")


class MapServer(NodeBase):
    """Publishes the map on activation and whenever `~/reload` is called; a map that can't be loaded leaves the last one standing."""

    Parameters = MapServerParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("map_server", **options)
        self._map: SparseMap | None = None
        self._problem = ""

    def configure(self) -> None:
        """Load the map. Raises Ros2LocError when that fails."""
        if not self.params.map:
            raise ConfigError("map_server: parameter 'map' is empty: give the folder that `ros2-loc map build` wrote")
        self._map = self._load()
        self.own(self._forget)
        self._points = self.publish(PointCloud2, "map/points", LATCHED)
        self._places = self.publish(MarkerArray, "map/places", LATCHED)
        self._earth = StaticTransformBroadcaster(self)
        self.own(lambda: self.destroy_publisher(self._earth.pub_tf))
        self.diagnostics.add("map", self._diagnose)
        self.serve(Trigger, "~/reload", self._reload)

    def activate(self) -> None:
        """Publish the map."""
        self._show()

    def _load(self) -> SparseMap:
        begin = time.monotonic()
        loaded = SparseMap.load(Path(self.params.map).expanduser(), verify=self.params.verify)
        self.get_logger().info(
            f"map {self.params.map}: {len(loaded.places)} places, {len(loaded.points_m)} points, "
            f"{'georeferenced' if loaded.origin else 'without a place on the earth'}, loaded in {time.monotonic() - begin:.1f} s"
        )
        return loaded

    def _forget(self) -> None:
        self._map = None

    def _show(self) -> None:
        shown = self._map
        if shown is None:
            return
        stamp_ns, frame = self.get_clock().now().nanoseconds, self.params.map_frame
        self._points.publish(point_cloud(shown.points_m, shown.point_colors, stamp_ns, frame))
        self._places.publish(place_markers(shown, stamp_ns, frame))
        if shown.origin is not None and self.params.earth_frame:
            pose = earth_from_map(shown.origin, shown.enu_from_map)
            self._earth.sendTransform(transform_stamped(pose, stamp_ns, self.params.earth_frame, frame))

    def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._map, self._problem = self._load(), ""
            self._show()
            response.success, response.message = True, f"{len(self._map.places)} places, {len(self._map.points_m)} points"
        except (Ros2LocError, OSError) as error:
            self._problem = one_line(error)
            self.get_logger().error(self._problem)
            response.success, response.message = False, self._problem
        return response

    def _diagnose(self) -> Report:
        if self._map is None:
            return Report(Level.ERROR, "no map")
        origin = self._map.origin
        values = {
            "folder": self.params.map,
            "places": len(self._map.places),
            "points": len(self._map.points_m),
            "metric": self._map.metric,
            "origin": f"{origin.lat_deg:.7f} {origin.lon_deg:.7f} {origin.alt_m:.2f}" if origin else "none",
        }
        if self._problem:
            return Report(Level.WARN, f"reloading failed, the earlier map is still shown: {self._problem}", values)
        return Report(Level.OK, "the map is shown", values)


def main() -> None:
    """Entry point of `ros2 run ros2_loc map_server`."""
    sys.exit(run([MapServer]))


if __name__ == "__main__":
    main()
