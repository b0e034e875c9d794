"""As much of `launch` and `launch_ros` as our launch files use: enough to work out what they would start. Not on PyPI, hence this."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Substitution:
    """Something that becomes text when the launch runs."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        self.parts, self.options = parts, options


class LaunchConfiguration(Substitution):
    pass


class EnvironmentVariable(Substitution):
    pass


class PathJoinSubstitution(Substitution):
    pass


class PythonExpression(Substitution):
    pass


class IfCondition(Substitution):
    pass


class UnlessCondition(Substitution):
    pass


class ParameterValue:
    def __init__(self, value: Any, *, value_type: type) -> None:
        self.value, self.value_type = value, value_type


class Action:
    """Keeps what it was made of."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        self.parts, self.options = parts, options


class DeclareLaunchArgument(Action):
    def __init__(self, name: str, *, default_value: Any = None, description: str, choices: Any = None) -> None:
        assert choices is None or default_value is None or default_value in choices, "launch refuses such an argument"
        super().__init__(name, default_value=default_value, description=description, choices=choices)


class IncludeLaunchDescription(Action):
    pass


class SetEnvironmentVariable(Action):
    pass


class Shutdown(Action):
    pass


class Node(Action):
    pass


class LifecycleNode(Node):
    def __init__(self, *, name: Any, namespace: Any, **options: Any) -> None:
        super().__init__(name=name, namespace=namespace, **options)


class LaunchDescription:
    def __init__(self, actions: list[Action]) -> None:
        self.actions = actions


class PythonLaunchDescriptionSource:
    def __init__(self, path: str) -> None:
        self.path = path


_MODULES: dict[str, list[type]] = {
    "launch": [LaunchDescription],
    "launch.actions": [DeclareLaunchArgument, IncludeLaunchDescription, SetEnvironmentVariable, Shutdown],
    "launch.conditions": [IfCondition, UnlessCondition],
    "launch.substitutions": [EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, PythonExpression],
    "launch.launch_description_sources": [PythonLaunchDescriptionSource],
    "launch_ros": [],
    "launch_ros.actions": [LifecycleNode, Node],
    "launch_ros.parameter_descriptions": [ParameterValue],
}


def modules() -> dict[str, types.ModuleType]:
    """What to put into sys.modules for the time of a test."""
    made = {}
    for name, classes in _MODULES.items():
        made[name] = types.ModuleType(name)
        vars(made[name]).update({c.__name__: c for c in classes})
    return made


def load(path: Path) -> list[Action]:
    """The actions of a launch file; `modules()` must be in sys.modules."""
    assert "launch" in sys.modules
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return list(namespace["generate_launch_description"]().actions)


def text(value: Any, arguments: Mapping[str, str]) -> str:
    """What a value becomes."""
    if isinstance(value, LaunchConfiguration):
        return arguments[value.parts[0]]
    if isinstance(value, EnvironmentVariable):
        return str(value.options["default_value"])
    if isinstance(value, PathJoinSubstitution):
        return str(Path(*(text(part, arguments) for part in value.parts[0])))
    if isinstance(value, PythonExpression):
        return str(eval("".join(text(part, arguments) for part in value.parts[0])))
    assert isinstance(value, str), value
    return value


def holds(condition: Any, arguments: Mapping[str, str]) -> bool:
    """Whether an action with this condition takes place."""
    if condition is None:
        return True
    word = text(condition.parts[0], arguments).lower()
    assert word in ("true", "false", "1", "0"), word
    return (word in ("true", "1")) is isinstance(condition, IfCondition)


def typed(value: Any, arguments: Mapping[str, str]) -> Any:
    """The value that a parameter gets."""
    if not isinstance(value, ParameterValue):
        return value
    word = text(value.value, arguments)
    return word.lower() in ("true", "1") if value.value_type is bool else value.value_type(word)


def with_defaults(actions: list[Action], given: Mapping[str, str]) -> dict[str, str]:
    """Every declared argument with its value."""
    values: dict[str, str] = {}
    for action in actions:
        if isinstance(action, DeclareLaunchArgument):
            name, default = action.parts[0], action.options["default_value"]
            assert name in given or default is not None, f"{name} must be given"
            values[name] = given[name] if name in given else text(default, values)
    return values
