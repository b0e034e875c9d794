"""The graph of nodes: its arguments, its processes, and that nodes, parameters and files are what they are said to be."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ros2_loc import graph
from ros2_loc.errors import ConfigError
from ros2_loc.graph import LOCALIZE, CountOf, IsSet, NodeSpec, Ref
from ros2_loc.supervisor import Process

OURS = [node for node in LOCALIZE.nodes if node.package == "ros2_loc"]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "a map").mkdir()
    return {"map": str(tmp_path / "a map")}


def named(processes: tuple[Process, ...]) -> dict[str, Process]:
    return {process.name: process for process in processes}


def parameters(process: Process) -> dict[str, object]:
    pairs = [b for a, b in zip(process.command, process.command[1:], strict=False) if a == "-p"]
    return {key: json.loads(value) for key, value in (pair.split(":=", 1) for pair in pairs)}


def test_without_a_bag_the_nodes_of_a_robot(given: dict[str, str]) -> None:
    processes = named(graph.processes(LOCALIZE, given))
    assert list(processes) == ["map_server", "map_localizer", "pose_fusion"]
    assert parameters(processes["map_localizer"]) == {
        "map": given["map"],
        "pipeline": "fast",
        "image_transport": "raw",
        "context": "pipeline",
        "use_sim_time": False,
    }
    assert processes["map_localizer"].command[:3] == (sys.executable, "-m", "ros2_loc.ros.map_localizer_node")
    assert all(process.required and not process.ends_run for process in processes.values())


def test_tiles_bring_the_cross_view_localizer_with_a_map_or_without(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    tiles = {"tiles": str(tmp_path / "tiles")}
    alone = named(graph.processes(LOCALIZE, {**tiles, "heading": "odometry", "imu_topic": "/xsens/imu"}))
    assert list(alone) == ["map_server", "cross_view_localizer", "pose_fusion"]
    assert parameters(alone["cross_view_localizer"]) == {
        "map": "",
        **tiles,
        "cross_view_pipeline": "cross_view",
        "image_transport": "raw",
        "heading": "odometry",
        "fix_topic": "",
        "use_sim_time": False,
    }
    assert parameters(alone["map_server"]) == {"map": "", **tiles, "use_sim_time": False}
    assert "imu/data:=/xsens/imu" in alone["cross_view_localizer"].command
    both = named(graph.processes(LOCALIZE, {**given, **tiles}))
    assert list(both) == ["map_server", "map_localizer", "cross_view_localizer", "pose_fusion"]
    assert parameters(both["cross_view_localizer"])["map"] == given["map"]
    (container,) = graph.processes(LOCALIZE, {**tiles, "container": "true"})
    assert container.command[3:6] == ("map_server", "cross_view_localizer", "pose_fusion")


def test_a_bag_brings_player_and_simulated_time(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    processes = named(graph.processes(LOCALIZE, {**given, "bag": str(tmp_path / "bag"), "rate": "0.5", "rviz": "true"}))
    assert list(processes) == ["map_server", "map_localizer", "pose_fusion", "bag_player", "rviz2"]
    assert parameters(processes["pose_fusion"])["use_sim_time"] is True
    player = parameters(processes["bag_player"])
    settings = {"rate": 0.5, "start_s": 0.0, "duration_s": 0.0, "loop": False, "exit_at_end": True}
    assert player == {"bag": str(tmp_path / "bag"), **settings, "localizers": 1, "live_detections": False}
    both = graph.processes(LOCALIZE, {**given, "tiles": given["map"], "bag": str(tmp_path / "bag")})
    assert parameters(named(both)["bag_player"])["localizers"] == 2
    assert processes["bag_player"].ends_run and not processes["rviz2"].required
    assert Path(processes["rviz2"].command[2]).is_file()
    explicit = graph.processes(LOCALIZE, {**given, "bag": str(tmp_path / "bag"), "use_sim_time": "false"})
    assert parameters(named(explicit)["pose_fusion"])["use_sim_time"] is False


def test_a_detector_brings_its_node_and_its_masks_to_the_localizer(given: dict[str, str], tmp_path: Path) -> None:
    with_detector = {**given, "detector": "centernet", "detector_weights": "w.safetensors", "image_topic": "/front/image"}
    processes = named(graph.processes(LOCALIZE, {**with_detector, "bag": str(tmp_path)}))
    assert list(processes) == ["map_server", "object_detector", "map_localizer", "pose_fusion", "bag_player"]
    assert parameters(processes["object_detector"]) == {
        "detector": "centernet",
        "weights": "w.safetensors",
        "image_transport": "raw",
        "use_sim_time": True,
    }
    assert "image:=/front/image" in processes["object_detector"].command
    assert parameters(processes["map_localizer"])["context"] == "mask"
    player = parameters(processes["bag_player"])
    assert (player["localizers"], player["live_detections"]) == (2, True)
    told = named(graph.processes(LOCALIZE, {**with_detector, "context": "none"}))
    assert parameters(told["map_localizer"])["context"] == "none"
    (container,) = graph.processes(LOCALIZE, {**with_detector, "container": "true"})
    assert container.command[3:7] == ("map_server", "object_detector", "map_localizer", "pose_fusion")


def test_the_container_holds_the_nodes_with_all_their_parameters(given: dict[str, str], tmp_path: Path) -> None:
    settings = {"tiles": str(tmp_path), "bag": str(tmp_path), "odometry_topic": "wheels", "detector": "d2det"}
    arguments = {**given, **settings, "container": "true"}
    apart = named(graph.processes(LOCALIZE, {**arguments, "container": "false"}))
    processes = named(graph.processes(LOCALIZE, arguments))
    assert list(processes) == ["localization_container", "bag_player"]
    container = processes["localization_container"]
    assert container.command[3:8] == ("map_server", "object_detector", "map_localizer", "cross_view_localizer", "pose_fusion")
    together = {k: v for name in container.command[3:8] for k, v in parameters(apart[name]).items()}
    assert parameters(container) == together and "odom:=wheels" in container.command
    files = [Path(b).name for a, b in zip(container.command, container.command[1:], strict=False) if a == "--params-file"]
    nodes = ("map_server", "object_detector", "map_localizer", "cross_view_localizer", "pose_fusion")
    assert files == [f"{name}.yaml" for name in nodes]


def test_nodes_in_the_container_do_not_contradict_each_other() -> None:
    inside = [node for node in LOCALIZE.nodes if node.contained]
    for kind in ("parameters", "remappings"):
        pairs = {(key, str(value)) for node in inside for key, value in getattr(node, kind).items()}
        assert len(pairs) == len({key for key, _ in pairs})


def test_topics_are_remapped(given: dict[str, str]) -> None:
    command = named(graph.processes(LOCALIZE, {**given, "image_topic": "/front/image"}))["map_localizer"].command
    assert "camera/image_raw:=/front/image" in command and not any(word.startswith("odom:=") for word in command)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"map": ""}, "none of these is given, and one is needed: map:=... (folder of a map"),
        ({"tiles": "/no/such/tiles"}, "tiles:=/no/such/tiles: no such folder of tiles: make one with `ros2-loc tiles build`"),
        ({"context": "luck"}, "context:=luck is none of pipeline, mask, detections, none"),
        ({"heading": "stars"}, "heading:=stars is none of imu, odometry"),
        ({"map": "/no/such/map"}, "map:=/no/such/map: no such map folder: build one with `ros2-loc map build`"),
        ({"bag": "/no/such/bag"}, "bag:=/no/such/bag: no such bag"),
        ({"rvis": "true"}, "there is no argument 'rvis'; did you mean 'rviz'?"),
        ({"rviz": "maybe"}, "rviz:=maybe is none of true, false"),
        ({"rate": "fast", "bag": "."}, "rate:=fast is no float"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(given: dict[str, str], wrong: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        graph.processes(LOCALIZE, {**given, **wrong})
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_large_images_get_their_profile_unless_the_user_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith(("FASTDDS_", "FASTRTPS_"))]:
        monkeypatch.delenv(key)
    assert Path(graph.environment()["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in graph.environment()


def test_the_graph_needs_no_ros() -> None:
    code = "import sys, ros2_loc.graph; sys.exit(any(m in sys.modules for m in ('rclpy', 'launch', 'pycolmap', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def node_class(name: str) -> type:
    pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
    from ros2_loc.ros.node_base import NodeBase

    module = __import__(f"ros2_loc.ros.{name}_node", fromlist=["x"])
    found = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, NodeBase) and c.__module__ == module.__name__]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
def test_executables_exist_and_declare_the_parameters_that_they_get(spec: NodeSpec, checkout: Path) -> None:
    assert (checkout / "ros2_loc" / "ros" / f"{spec.executable}_node.py").is_file()
    fields = {field.name: field for field in dataclasses.fields(node_class(spec.name).Parameters)}
    types = {field.name: str(field.type) for field in fields.values()}
    for name, value in spec.parameters.items():
        if name != "use_sim_time":  # every node has it
            kind = bool if isinstance(value, IsSet) else value.kind if isinstance(value, Ref | CountOf) else type(value)
            assert types[name] == kind.__name__, f"{spec.name}.{name}"


# in a graph the player waits for the localizer, which loads a map first; alone it does not
DIFFERENT = {("bag_player", "wait_for_subscribers_s"): 60.0}


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
def test_the_files_hold_every_other_parameter_at_its_default(spec: NodeSpec, checkout: Path) -> None:
    document = yaml.safe_load((checkout / "config" / "nodes" / f"{spec.name}.yaml").read_text())
    assert list(document) == [f"/**/{spec.name}"]
    written = document[f"/**/{spec.name}"]["ros__parameters"]
    fields = [field for field in dataclasses.fields(node_class(spec.name).Parameters) if field.name not in spec.parameters]
    defaults = {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in fields}
    expected = {name: DIFFERENT.get((spec.name, name), default) for name, default in defaults.items()}
    assert written == expected
    assert {name: type(value) for name, value in written.items()} == {name: type(value) for name, value in expected.items()}


def test_what_the_container_can_hold_is_what_the_graph_puts_into_it() -> None:
    pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
    from ros2_loc.ros.container_node import NODES as CONTAINED

    assert set(CONTAINED) == {node.name for node in LOCALIZE.nodes if node.contained}
