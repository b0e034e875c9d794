"""rviz/localize.rviz shows topics that our nodes publish, as the types and with the QoS that they have."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

# display or tool of rviz_default_plugins -> the message that it takes
TYPES = {
    "PointCloud2": "PointCloud2",
    "MarkerArray": "MarkerArray",
    "PoseArray": "PoseArray",
    "Path": "Path",
    "PoseWithCovariance": "PoseWithCovarianceStamped",
    "Odometry": "Odometry",
    "Image": "Image",
    "Camera": "Image",
    "Map": "OccupancyGrid",
    "SetInitialPose": "PoseWithCovarianceStamped",
}
LATCHED_DURABILITY = "Transient Local"


def calls(checkout: Path, method: str) -> dict[str, tuple[str, str]]:
    """Topic -> (message type, QoS) of every `self.<method>(Type, "topic", ...)` in our nodes."""
    found = {}
    for path in sorted((checkout / "ros2_loc" / "ros").glob("*_node.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method and len(node.args) >= 3:
                kind, topic, qos = node.args[0], node.args[1], node.args[-1]
                if isinstance(topic, ast.Constant):
                    found["/" + str(topic.value).lstrip("/")] = (ast.unparse(kind).rpartition(".")[2], ast.unparse(qos))
    return found


@pytest.fixture(scope="module")
def config(checkout: Path) -> Any:
    return yaml.safe_load((checkout / "rviz" / "localize.rviz").read_text())["Visualization Manager"]


def test_displays_show_what_the_nodes_publish(config: Any, checkout: Path) -> None:
    published = calls(checkout, "publish")
    shown = {}
    for display in config["Displays"]:
        package, _, kind = display["Class"].partition("/")
        assert package == "rviz_default_plugins"
        if "Topic" not in display:
            assert kind in ("Grid", "TF")
            continue
        topic = display["Topic"]["Value"]
        shown[topic] = kind
        if topic == "/camera/image_raw":  # the camera's driver publishes it
            continue
        message, qos = published[topic]
        assert message == TYPES[kind], topic
        durability = display["Topic"]["Durability Policy"]
        assert (durability == LATCHED_DURABILITY) is ("LATCHED" in qos), topic
        assert display["Topic"]["Reliability Policy"] == "Reliable"
    ours = {"matches_image", "path", "pose", "map_pose", "place_poses"}
    of_tiles = {"cross_view_pose", "belief", "belief_modes", "overhead_image"}
    wanted = {"/map/points", "/map/places", "/map/mosaic", "/detections/overlay", *(f"/localization/{name}" for name in ours | of_tiles)}
    assert wanted <= set(shown)


def test_the_initial_pose_goes_where_the_fusion_listens(config: Any, checkout: Path) -> None:
    (tool,) = [t for t in config["Tools"] if t["Class"] == "rviz_default_plugins/SetInitialPose"]
    message, _ = calls(checkout, "subscribe")[tool["Topic"]["Value"]]
    assert message == TYPES["SetInitialPose"]


def test_the_view_is_of_the_map_and_covariances_are_drawn(config: Any) -> None:
    assert config["Global Options"]["Fixed Frame"] == "map"
    (pose,) = [d for d in config["Displays"] if d.get("Topic", {}).get("Value") == "/localization/pose"]
    assert pose["Enabled"] and pose["Covariance"]["Position"]["Value"] and pose["Covariance"]["Orientation"]["Value"]
    names = [display["Name"] for display in config["Displays"]]
    assert len(names) == len(set(names)) and any(d["Class"].endswith("/TF") and d["Enabled"] for d in config["Displays"])
