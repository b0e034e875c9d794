"""The graph of nodes that localizes a camera, described once: `launch/localize.launch.py` and `ros2-loc run` both read it.

Nothing of ROS is imported. A node's parameters hold plain values or an `Argument`'s name (`Ref`); `processes` puts the values in.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ros2_loc.config import share_folder
from ros2_loc.errors import ConfigError
from ros2_loc.supervisor import Process

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class IsSet:
    """True when the argument of this name is not empty; as an argument's default `then` or `otherwise`."""

    name: str
    then: str = "true"
    otherwise: str = "false"


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of the argument of this name, as this type."""

    name: str
    kind: type = str


@dataclass(frozen=True, slots=True)
class CountOf:
    """How many of the arguments of these names are not empty."""

    names: tuple[str, ...]
    kind: type = int


@dataclass(frozen=True, slots=True)
class Argument:
    """What a user may say with `name:=value`. `default` None: must be said. `choices`: all that is allowed, anything when empty."""

    name: str
    description: str
    default: str | IsSet | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node: what starts it, its parameters and topics, and when it is part of the graph.

    Attributes:
        name: of the node; its settings are in `<node_config>/<name>.yaml` where `has_config`.
        executable, package: as `ros2 run` takes them.
        parameters: name -> value, Ref, IsSet or CountOf; they win over the file.
        remappings: topic as the node calls it -> argument that names it.
        arguments: of the executable itself.
        when: part of the graph if that argument is true or set; None: always.
        contained: with `container:=true` it runs in the common process.
        required: the run is over when it dies.
        ends_run: when it ends well, the run is over too.
    """

    name: str
    executable: str
    package: str = "ros2_loc"
    parameters: Mapping[str, object] = field(default_factory=dict)
    remappings: Mapping[str, Ref] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    when: Ref | IsSet | None = None
    has_config: bool = True
    contained: bool = True
    required: bool = True
    ends_run: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Arguments and nodes; `flag_of_container` names the argument that puts the contained nodes into one process; of the arguments
    `any_of` at least one must be said."""

    arguments: tuple[Argument, ...]
    nodes: tuple[NodeSpec, ...]
    flag_of_container: str = "container"
    any_of: tuple[str, ...] = ()

    def container(self, wanted: Callable[[NodeSpec], bool] = lambda node: True) -> NodeSpec:
        """The process that holds the contained nodes: their names are its arguments, its parameters and remappings those of all.

        Args:
            wanted: which of them are started; the others' parameters do no harm.
        """
        inside = [node for node in self.nodes if node.contained]
        parameters = {key: value for node in inside for key, value in node.parameters.items()}
        remappings = {key: value for node in inside for key, value in node.remappings.items()}
        names = tuple(node.name for node in inside if wanted(node))
        return NodeSpec("localization_container", "container", parameters=parameters, remappings=remappings, arguments=names)

    def config_names(self, node: NodeSpec) -> tuple[str, ...]:
        """The names of the files in `node_config` that this process reads."""
        inside = [n for n in self.nodes if n.contained] if node.executable == "container" else [node]
        return tuple(f"{n.name}.yaml" for n in inside if n.has_config)


_SIM_TIME = MappingProxyType({"use_sim_time": Ref("use_sim_time", bool)})

LOCALIZE = Graph(
    arguments=(
        Argument("map", "folder of a map made by `ros2-loc map build`; starts map_localizer", ""),
        Argument("tiles", "folder of satellite tiles made by `ros2-loc tiles build`; starts cross_view_localizer", ""),
        Argument("pipeline", "of map_localizer: fast, default, or a YAML file like those in config/pipelines", "fast"),
        Argument("cross_view_pipeline", "of cross_view_localizer: cross_view, or a YAML file like it", "cross_view"),
        Argument("detector", "centernet, d2det or that of another package; starts object_detector, which finds what moves", ""),
        Argument("detector_weights", "weights of the detector, a name or a file; none: those it has by default", ""),
        Argument(
            "context",
            "what keeps map_localizer off what moves: its pipeline's detector, masks or boxes of a topic, nothing",
            IsSet("detector", then="mask", otherwise="pipeline"),
            ("pipeline", "mask", "detections", "none"),
        ),
        Argument("bag", "a rosbag2 to play; none: the camera of a running robot", ""),
        Argument("rate", "how fast the bag is played: 1.0 as it was recorded", "1.0"),
        Argument("start_s", "where in the bag to start, s after its first message", "0.0"),
        Argument("duration_s", "how much of the bag to play, s; 0.0: up to its end", "0.0"),
        Argument("loop", "start the bag again at its end", "false", ("true", "false")),
        Argument("exit_with_bag", "stop everything when the bag is over", "true", ("true", "false")),
        Argument("rviz", "open RViz with rviz/localize.rviz (needs rviz2 and a display)", "false", ("true", "false")),
        Argument("use_sim_time", "time from /clock; as it comes: true with a bag, false without", IsSet("bag"), ("true", "false")),
        Argument("container", "true: all nodes in one process with one executor; the bag player stays outside", "false", ("true", "false")),
        Argument("image_transport", "compressed: CompressedImage on <image_topic>/compressed; raw: Image", "raw", ("raw", "compressed")),
        Argument("image_topic", "topic of the camera's images", "camera/image_raw"),
        Argument("camera_info_topic", "topic of the camera's calibration", "camera/camera_info"),
        Argument("odometry_topic", "topic of the odometry (nav_msgs/Odometry); with a map alone it may be silent", "odom"),
        Argument("heading", "where cross_view_localizer knows north from: imu, or an odometry that does", "imu", ("imu", "odometry")),
        Argument("imu_topic", "topic of the Imu with orientation (REP-145: east-north-up)", "imu/data"),
        Argument("fix_topic", "topic of satellite positions (NavSatFix) that help cross_view_localizer when they come", ""),
        Argument("record", "folder to write the poses to when the run ends: JSON with covariances and rejections, TUM trajectories", ""),
        Argument("record_overlays", "keep the pictures of matches and objects there as well", "false", ("true", "false")),
        Argument("node_config", "folder with the nodes' YAML files; to change frames, rates or QoS, copy config/nodes and say where", ""),
        Argument("log_level", "what the nodes log", "info", ("debug", "info", "warn", "error")),
    ),
    nodes=(
        NodeSpec("map_server", "map_server", parameters={"map": Ref("map"), "tiles": Ref("tiles"), **_SIM_TIME}),
        NodeSpec(
            "object_detector",
            "object_detector",
            parameters={
                "detector": Ref("detector"),
                "weights": Ref("detector_weights"),
                "image_transport": Ref("image_transport"),
                **_SIM_TIME,
            },
            remappings={"image": Ref("image_topic")},
            when=IsSet("detector"),
        ),
        NodeSpec(
            "map_localizer",
            "map_localizer",
            parameters={
                "map": Ref("map"),
                "pipeline": Ref("pipeline"),
                "image_transport": Ref("image_transport"),
                "context": Ref("context"),
                **_SIM_TIME,
            },
            remappings={
                "camera/image_raw": Ref("image_topic"),
                "camera/camera_info": Ref("camera_info_topic"),
                "odom": Ref("odometry_topic"),
            },
            when=IsSet("map"),
        ),
        NodeSpec(
            "cross_view_localizer",
            "cross_view_localizer",
            parameters={
                "map": Ref("map"),
                "tiles": Ref("tiles"),
                "cross_view_pipeline": Ref("cross_view_pipeline"),
                "image_transport": Ref("image_transport"),
                "heading": Ref("heading"),
                "fix_topic": Ref("fix_topic"),
                **_SIM_TIME,
            },
            remappings={
                "camera/image_raw": Ref("image_topic"),
                "camera/camera_info": Ref("camera_info_topic"),
                "odom": Ref("odometry_topic"),
                "imu/data": Ref("imu_topic"),
            },
            when=IsSet("tiles"),
        ),
        NodeSpec(
            "pose_fusion",
            "pose_fusion",
            parameters={"pipeline": Ref("pipeline"), **_SIM_TIME},
            remappings={"odom": Ref("odometry_topic")},
        ),
        NodeSpec(
            "recorder",
            "recorder",
            parameters={"out": Ref("record"), "overlays": Ref("record_overlays", bool), **_SIM_TIME},
            remappings={"camera/camera_info": Ref("camera_info_topic")},
            when=IsSet("record"),
            contained=False,
        ),
        NodeSpec(
            "bag_player",
            "bag_player",
            parameters={
                "bag": Ref("bag"),
                "rate": Ref("rate", float),
                "start_s": Ref("start_s", float),
                "duration_s": Ref("duration_s", float),
                "loop": Ref("loop", bool),
                "exit_at_end": Ref("exit_with_bag", bool),
                "localizers": CountOf(("map", "tiles", "detector")),
                "live_detections": IsSet("detector"),
            },
            when=IsSet("bag"),
            contained=False,
            ends_run=True,
        ),
        NodeSpec(
            "rviz2",
            "rviz2",
            package="rviz2",
            parameters=dict(_SIM_TIME),
            arguments=("-d", "rviz/localize.rviz"),
            when=Ref("rviz", bool),
            has_config=False,
            contained=False,
            required=False,
        ),
    ),
    any_of=("map", "tiles"),
)


def fill(graph: Graph, given: Mapping[str, str]) -> dict[str, str]:
    """Every argument of the graph with its value: what is given, else the default.

    Raises:
        ConfigError: an unknown argument, one that is missing (or all of which one is needed), or a value that is none of the choices.
    """
    known = {argument.name: argument for argument in graph.arguments}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"there is no argument {name!r}; {hint}")
    values: dict[str, str] = {}
    for argument in graph.arguments:
        default = argument.default
        if isinstance(default, IsSet):
            default = default.then if values.get(default.name) else default.otherwise
        value = given.get(argument.name, default)
        if value is None or (argument.default is None and not value):
            raise ConfigError(f"{argument.name}:=... is missing: {argument.description}")
        if argument.choices and value not in argument.choices:
            raise ConfigError(f"{argument.name}:={value} is none of {', '.join(argument.choices)}: {argument.description}")
        values[argument.name] = value
    if graph.any_of and not any(values[name] for name in graph.any_of):
        choices = "; ".join(f"{name}:=... ({known[name].description})" for name in graph.any_of)
        raise ConfigError(f"none of these is given, and one is needed: {choices}")
    return values


def processes(graph: Graph, given: Mapping[str, str]) -> tuple[Process, ...]:
    """The processes of the graph for these arguments, ready to be started; topics named as given.

    Args:
        graph: for instance LOCALIZE.
        given: argument -> value, without those left at their defaults.

    Raises:
        ConfigError: an argument that can't be used, or a folder or file that is not there.
    """
    values = fill(graph, given)
    _check_paths(values)
    contained = _flag(values[graph.flag_of_container])
    nodes = [node for node in graph.nodes if _wanted(node, values) and not (contained and node.contained)]
    if contained:
        nodes.insert(0, graph.container(lambda node: _wanted(node, values)))
    return tuple(_process(graph, node, values) for node in nodes)


def value_of(value: object, values: Mapping[str, str]) -> object:
    """A parameter's value with an argument's value put in.

    Raises:
        ConfigError: the argument is not of the type that the parameter takes.
    """
    if isinstance(value, IsSet):
        return bool(values[value.name])
    if isinstance(value, CountOf):
        return sum(bool(values[name]) for name in value.names)
    if not isinstance(value, Ref):
        return value
    text = values[value.name]
    try:
        return _flag(text) if value.kind is bool else value.kind(text)
    except ValueError as error:
        raise ConfigError(f"{value.name}:={text} is no {value.kind.__name__}") from error


def profile_variable() -> tuple[str, Path]:
    """The environment variable, and the file it must name, without which Fast DDS loses large images; a user's own setting wins."""
    return "FASTDDS_DEFAULT_PROFILES_FILE", share_folder() / "config" / "fastdds_large_images.xml"


def environment() -> dict[str, str]:
    """This process's environment with what the nodes need beside it."""
    name, path = profile_variable()
    own = {key for key in os.environ if key.startswith(("FASTDDS_", "FASTRTPS_"))}
    added = {} if own else {name: str(path)}
    return {**added, **os.environ}


def node_config_folder(values: Mapping[str, str]) -> Path:
    """Where the nodes' YAML files are."""
    return Path(values["node_config"]) if values.get("node_config") else share_folder() / "config" / "nodes"


def _process(graph: Graph, node: NodeSpec, values: Mapping[str, str]) -> Process:
    ros: list[str] = []
    for name in graph.config_names(node):
        ros += ["--params-file", str(node_config_folder(values) / name)]
    for key, value in node.parameters.items():
        ros += ["-p", f"{key}:={json.dumps(value_of(value, values))}"]
    for key, topic in node.remappings.items():
        if (target := str(value_of(topic, values))) != key:
            ros += ["-r", f"{key}:={target}"]
    if node.package == "ros2_loc":
        for name in node.arguments if node.executable == "container" else (node.name,):
            ros += ["--log-level", f"{name}:={values['log_level']}"]
    return Process(
        name=node.name,
        command=(*_starter(node), *_own_arguments(node), "--ros-args", *ros),
        required=node.required,
        ends_run=node.ends_run,
    )


def _starter(node: NodeSpec) -> Sequence[str]:
    if node.package == "ros2_loc":
        return (sys.executable, "-m", f"ros2_loc.ros.{node.executable}_node")
    return (node.executable,)


def _own_arguments(node: NodeSpec) -> Sequence[str]:
    """The executable's arguments; those that name a file of this package with its path."""
    return [str(share_folder() / a) if (share_folder() / a).is_file() else a for a in node.arguments]


def _wanted(node: NodeSpec, values: Mapping[str, str]) -> bool:
    if node.when is None:
        return True
    text = values[node.when.name]
    return bool(text) if isinstance(node.when, IsSet) else _flag(text)


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(f"{text!r} is neither true nor false")
    return _FLAGS[text.lower()]


def _check_paths(values: Mapping[str, str]) -> None:
    """Say what is missing before a node has been started, not by four of them dying."""
    remedies = {
        "map": "no such map folder: build one with `ros2-loc map build`",
        "tiles": "no such folder of tiles: make one with `ros2-loc tiles build`",
        "bag": "no such bag",
        "node_config": "no such folder",
    }
    for name, what in remedies.items():
        if values[name] and not Path(values[name]).exists():
            raise ConfigError(f"{name}:={values[name]}: {what}")
