"""Localize a camera in a map, on satellite tiles, or both: `ros2 launch ros2_loc localize.launch.py map:=/maps/town tiles:=/tiles/town`
(arguments: `--show-args`).

The arguments and nodes are those of ros2_loc/graph.py, which `ros2-loc run` starts as well where there is no `launch`.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable, Shutdown
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from ros2_loc import graph
from ros2_loc.config import share_folder

GRAPH = graph.LOCALIZE


def generate_launch_description():
    """Arguments, environment, then one action for each node: its own process, or the container's."""
    profile, path = graph.profile_variable()
    return LaunchDescription(
        [
            *[declared(argument) for argument in GRAPH.arguments],
            SetEnvironmentVariable(profile, EnvironmentVariable(profile, default_value=str(path))),
            *[action(node, condition(node)) for node in GRAPH.nodes],
            action(GRAPH.container(), IfCondition(LaunchConfiguration(GRAPH.flag_of_container))),
        ]
    )


def declared(argument):
    """A launch argument with its default, which may depend on an earlier argument, and its choices."""
    if isinstance(argument.default, graph.IsSet):
        return DeclareLaunchArgument(argument.name, default_value=is_set(argument.default), description=argument.description)
    default = str(graph.node_config_folder({})) if argument.name == "node_config" else argument.default
    return DeclareLaunchArgument(argument.name, default_value=default, description=argument.description, choices=argument.choices or None)


def action(node, only_if):
    """The launch action of a node of the graph."""
    kind = LifecycleNode if node.package == "ros2_loc" and node.executable != "container" else Node
    named = {} if node.executable == "container" else {"name": node.name, "namespace": ""}
    settings = [PathJoinSubstitution([LaunchConfiguration("node_config"), name]) for name in GRAPH.config_names(node)]
    return kind(
        package=node.package,
        executable=node.executable,
        parameters=[*settings, {key: value(given) for key, given in node.parameters.items()}],
        remappings=[(topic, LaunchConfiguration(target.name)) for topic, target in node.remappings.items()],
        arguments=[own_argument(a) for a in node.arguments],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")] if node.package == "ros2_loc" else [],
        output="screen",
        condition=only_if,
        on_exit=[Shutdown(reason=f"{node.name} has ended")] if node.required else None,
        **named,
    )


def condition(node):
    """When the node is part of the graph as a process of its own."""
    if isinstance(node.when, graph.IsSet):
        if node.contained:
            return IfCondition(is_set(node.when, unless=GRAPH.flag_of_container))
        return IfCondition(is_set(node.when))
    if node.when is not None:
        return IfCondition(LaunchConfiguration(node.when.name))
    return UnlessCondition(LaunchConfiguration(GRAPH.flag_of_container)) if node.contained else None


def own_argument(argument):
    """What the executable is told: a file of this package with its path; a node of the container, or nothing where it is not wanted."""
    if argument.startswith("rviz/"):
        return str(share_folder() / argument)
    when = next((node.when for node in GRAPH.nodes if node.name == argument), None)
    return argument if when is None else PythonExpression(["'' if '''", LaunchConfiguration(when.name), f"''' == '' else '{argument}'"])


def value(given):
    """A parameter's value: a plain one as it is, an argument's as a substitution of the right type."""
    if isinstance(given, graph.CountOf):
        terms = [part for name in given.names for part in (" + ('''", LaunchConfiguration(name), "''' != '')")]
        return ParameterValue(PythonExpression(["0", *terms]), value_type=given.kind)
    if isinstance(given, graph.IsSet):
        return ParameterValue(is_set(given), value_type=bool)
    if not isinstance(given, graph.Ref):
        return given
    return ParameterValue(LaunchConfiguration(given.name), value_type=given.kind)


def is_set(what, unless=None):
    """'true' (`then`) when the argument is not empty, else 'false' (`otherwise`); with `unless`, only where that flag is false."""
    also = ["'''", LaunchConfiguration(unless), "''' == 'true' or "] if unless else []
    return PythonExpression([f"'{what.otherwise}' if ", *also, "'''", LaunchConfiguration(what.name), f"''' == '' else '{what.then}'"])
