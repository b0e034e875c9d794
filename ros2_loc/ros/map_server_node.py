"""Shows a map, satellite tiles or both: latched points, places and imagery, and where the map's frame lies on the earth."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.pose import Pose
from ros2_loc.errors import ConfigError, Ros2LocError
from ros2_loc.mapping.shared_frame import map_from_tiles
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.ros.conversions import transform_stamped
from ros2_loc.ros.diagnostics import Level, Report
from ros2_loc.ros.map_messages import earth_from_map, mosaic_points, place_markers, point_cloud
from ros2_loc.ros.node_base import BaseParameters, NodeBase, one_line, run
from ros2_loc.ros.params import parameter
from ros2_loc.ros.qos import LATCHED
from ros2_loc.ros.tf import StaticTransformBroadcaster


@dataclass(frozen=True)
class MapServerParameters(BaseParameters):
    """What the map server takes."""

    map: str = parameter("", "folder that `ros2-loc map build` wrote")
    tiles: str = parameter("", "folder that `ros2-loc tiles build` wrote")
    map_frame: str = parameter("map", "frame of the points, places and imagery")
    earth_frame: str = parameter("earth", "parent of the map where it is georeferenced (earth-centred, REP 105); empty: no such transform")
    verify: bool = parameter(True, "compare the files of map and tiles with their checksums when loading")
    mosaic_m: float = parameter(1.0, "the imagery is shown as points on the ground, one for each square of this side, m", minimum=0.01)
    mosaic_max_points: int = parameter(400_000, "larger squares where there would be more points", minimum=1)
    mosaic_height_m: float = parameter(-0.2, "where the imagery is drawn: below what stands on the ground, m")


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What was loaded, at least one of both, and how the tiles' frame lies in the map's."""

    map: SparseMap | None
    tiles: TileDatabase | None
    map_from_tiles: Pose

    @property
    def origin(self) -> GeoOrigin | None:
        """Of the map's east-north-up frame, without a map of the tiles'; None where the map has no place on the earth."""
        return self.map.origin if self.map is not None else self.tiles.origin if self.tiles is not None else None

    @property
    def enu_from_map(self) -> Pose:
        """The map's frame in that one; without a map they are the same."""
        return self.map.enu_from_map if self.map is not None else Pose.identity()

    @property
    def summary(self) -> str:
        """How much of what."""
        of_map = [] if self.map is None else [f"{len(self.map.places)} places, {len(self.map.points_m)} points"]
        return ", ".join(of_map + ([] if self.tiles is None else [f"{len(self.tiles)} tiles"]))


class MapServer(NodeBase):
    """Publishes map and imagery on activation and whenever `~/reload` is called; what can't be loaded leaves the last one standing."""

    Parameters = MapServerParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("map_server", **options)
        self._shown: Shown | None = None
        self._problem, self._mosaic_side_m = "", 0.0

    def configure(self) -> None:
        """Load map and tiles. Raises Ros2LocError when that fails, or when they are of different places."""
        if not self.params.map and not self.params.tiles:
            raise ConfigError(
                "map_server: parameters 'map' and 'tiles' are empty: give a folder that `ros2-loc map build` or `tiles build` wrote"
            )
        self._shown = self._load()
        self.own(self._forget)
        self._points = self.publish(PointCloud2, "map/points", LATCHED)
        self._places = self.publish(MarkerArray, "map/places", LATCHED)
        self._mosaic = self.publish(PointCloud2, "map/mosaic", LATCHED)
        self._earth = StaticTransformBroadcaster(self)
        self.own(lambda: self.destroy_publisher(self._earth.pub_tf))
        self.diagnostics.add("map", self._diagnose)
        self.serve(Trigger, "~/reload", self._reload)

    def activate(self) -> None:
        """Publish what was loaded."""
        self._show()

    def _load(self) -> Shown:
        p, begin = self.params, time.monotonic()
        found = SparseMap.load(Path(p.map).expanduser(), verify=p.verify) if p.map else None
        tiles = TileDatabase.load(Path(p.tiles).expanduser(), verify=p.verify) if p.tiles else None
        both = tiles is not None and found is not None
        shown = Shown(found, tiles, map_from_tiles(found.frame, tiles) if both else Pose.identity())  # type: ignore[union-attr, arg-type]
        place = "georeferenced" if shown.origin else "without a place on the earth"
        folders = " and ".join(filter(None, (p.map, p.tiles)))
        self.get_logger().info(f"{folders}: {shown.summary}, {place}, loaded in {time.monotonic() - begin:.1f} s")
        return shown

    def _forget(self) -> None:
        self._shown = None

    def _show(self) -> None:
        shown = self._shown
        if shown is None:
            return
        stamp_ns, frame = self.get_clock().now().nanoseconds, self.params.map_frame
        if shown.map is not None:
            self._points.publish(point_cloud(shown.map.points_m, shown.map.point_colors, stamp_ns, frame))
            self._places.publish(place_markers(shown.map, stamp_ns, frame))
        if shown.tiles is not None:
            self._show_mosaic(shown, shown.tiles, stamp_ns)
        if shown.origin is not None and self.params.earth_frame:
            pose = earth_from_map(shown.origin, shown.enu_from_map)
            self._earth.sendTransform(transform_stamped(pose, stamp_ns, self.params.earth_frame, frame))

    def _show_mosaic(self, shown: Shown, tiles: TileDatabase, stamp_ns: int) -> None:
        p: MapServerParameters = self.params
        points, colours, side_m = mosaic_points(tiles.mosaic, p.mosaic_m, p.mosaic_max_points)
        in_map = shown.map_from_tiles.apply(points + np.array([0.0, 0.0, p.mosaic_height_m]))
        self._mosaic.publish(point_cloud(in_map, colours, stamp_ns, p.map_frame))
        self._mosaic_side_m = side_m

    def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._shown, self._problem = self._load(), ""
            self._show()
            response.success, response.message = True, self._shown.summary
        except (Ros2LocError, OSError) as error:
            self._problem = one_line(error)
            self.get_logger().error(self._problem)
            response.success, response.message = False, self._problem
        return response

    def _diagnose(self) -> Report:
        shown = self._shown
        if shown is None:
            return Report(Level.ERROR, "no map")
        origin = shown.origin
        values: dict[str, Any] = {"origin": f"{origin.lat_deg:.7f} {origin.lon_deg:.7f} {origin.alt_m:.2f}" if origin else "none"}
        if shown.map is not None:
            of_map = {"places": len(shown.map.places), "points": len(shown.map.points_m), "metric": shown.map.metric}
            values |= {"folder": self.params.map, **of_map}
        if shown.tiles is not None:
            encoder = shown.tiles.descriptors.encoder if shown.tiles.descriptors is not None else "none"
            values |= {"folder of the tiles": self.params.tiles, "tiles": len(shown.tiles), "encoder of the tiles": encoder}
            values |= {"side of a point of the imagery (m)": self._mosaic_side_m}
        if self._problem:
            return Report(Level.WARN, f"reloading failed, the earlier map is still shown: {self._problem}", values)
        return Report(Level.OK, "the map is shown", values)


def main() -> None:
    """Entry point of `ros2 run ros2_loc map_server`."""
    sys.exit(run([MapServer]))


if __name__ == "__main__":
    main()
