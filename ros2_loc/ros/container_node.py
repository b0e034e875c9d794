"""All nodes of the localization in one process with one executor: `container map_server map_localizer pose_fusion --ros-args ...`.

Saves processes and copies between them on a small computer; in exchange one crash ends them all. Each node keeps its name, its parameters
(`/**/<name>` in a YAML file) and its own worker thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from rclpy.utilities import remove_ros_args

from ros2_loc.errors import ConfigError
from ros2_loc.ros.node_base import NodeBase, run

NODES = {
    "map_server": "ros2_loc.ros.map_server_node:MapServer",
    "object_detector": "ros2_loc.ros.object_detector_node:ObjectDetectorNode",
    "map_localizer": "ros2_loc.ros.map_localizer_node:MapLocalizerNode",
    "cross_view_localizer": "ros2_loc.ros.cross_view_localizer_node:CrossViewLocalizerNode",
    "pose_fusion": "ros2_loc.ros.pose_fusion_node:PoseFusionNode",
}


def main() -> int:
    """Run the nodes that the command line names until told to stop."""
    names = [name for name in remove_ros_args(sys.argv)[1:] if name]  # a launch file says "" where a node is not wanted
    try:
        return run([node_class(name) for name in names or NODES])
    except ConfigError as error:
        print(f"container: {error}", file=sys.stderr)  # noqa: T201 - before there is a ROS log
        return 1


def node_class(name: str) -> Callable[[], NodeBase]:
    """The class of a node by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in NODES:
        raise ConfigError(f"there is no node {name!r}; there are: {', '.join(NODES)}")
    module, _, attribute = NODES[name].partition(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


if __name__ == "__main__":
    raise SystemExit(main())
