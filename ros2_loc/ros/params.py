"""ROS parameters from a frozen dataclass: one field, one declared parameter with type, range, choices, description.

A field is made by `parameter(default, "description", ...)`. What a node needs when it is configured is read-only for the ROS
tools (set it in the launch file or with `-p`); a field with `live=True` may be set while the node runs.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, Generic, TypeVar, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from ros2_loc.errors import ConfigError

T = TypeVar("T")

_ROS_TYPES: dict[Any, Parameter.Type] = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple[str, ...]: Parameter.Type.STRING_ARRAY,
    tuple[float, ...]: Parameter.Type.DOUBLE_ARRAY,
}
_EXAMPLES = {Parameter.Type.DOUBLE: "a number with a point, for instance 15.0", Parameter.Type.STRING: 'text, for instance "15"'}


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A dataclass field that becomes a ROS parameter.

    Args:
        default: bool, int, float, str, or a tuple of str or of float; the field's annotation says which.
        description: what it does, with the unit; shown by `ros2 param describe`.
        minimum, maximum: inclusive range of a number.
        choices: the strings that are allowed, all when empty.
        live: may be set while the node runs (else read-only after the start).
    """
    metadata = {"description": description, "minimum": minimum, "maximum": maximum, "choices": choices, "live": live}
    return dataclasses.field(default=default, metadata=metadata)


class Parameters(Generic[T]):
    """The declared parameters of one node; `value` is the frozen record of their present values."""

    def __init__(self, node: Node, schema: type[T], on_change: Callable[[T], None] | None = None) -> None:
        """Declare every field of `schema` on `node` and read what the user set.

        Raises:
            ConfigError: a value of the wrong type, out of range, or none of the choices.
        """
        self._node, self._schema, self._on_change = node, schema, on_change
        self._types = {name: _ROS_TYPES[hint] for name, hint in get_type_hints(schema).items() if name in _fields(schema)}
        values = {name: self._declare(name, field) for name, field in _fields(schema).items()}
        self.value: T = schema(**values)
        node.add_on_set_parameters_callback(self._check_change)
        node.add_post_set_parameters_callback(self._apply_change)

    def unknown(self) -> list[str]:
        """One line for every parameter that was set for this node from outside but that it does not have: most often a typing mistake."""
        given = getattr(self._node, "_parameter_overrides", {})
        unknown = [name for name in given if not self._node.has_parameter(name) and not name.startswith("qos_overrides.")]
        return [f"there is no parameter {name!r}{_did_you_mean(name, self._types)}: it is ignored" for name in unknown]

    def _declare(self, name: str, field: dataclasses.Field[Any]) -> Any:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        try:
            value = self._node.declare_parameter(name, default, _descriptor(name, field, self._types[name])).value
        except InvalidParameterTypeException as error:
            wanted = _EXAMPLES.get(self._types[name], self._types[name].name.lower())
            raise ConfigError(f"parameter {name!r} of {self._node.get_name()} has the wrong type: it takes {wanted}") from error
        except InvalidParameterValueException as error:
            raise ConfigError(f"parameter {name!r} of {self._node.get_name()}: {_range_text(field)}") from error
        if reason := _refusal(name, field, value):
            raise ConfigError(f"{self._node.get_name()}: {reason}")
        return tuple(value) if isinstance(value, list) else value

    def _check_change(self, changes: list[Parameter]) -> SetParametersResult:
        fields = _fields(self._schema)
        reasons = [_refusal(p.name, fields[p.name], p.value) for p in changes if p.name in fields]
        reason = next((r for r in reasons if r), "")
        return SetParametersResult(successful=not reason, reason=reason)

    def _apply_change(self, changes: list[Parameter]) -> None:
        ours = {p.name: p.value for p in changes if p.name in self._types}
        if ours:
            self.value = dataclasses.replace(self.value, **ours)  # type: ignore[type-var]
            if self._on_change:
                self._on_change(self.value)


def _fields(schema: type) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(schema)}


def _descriptor(name: str, field: dataclasses.Field[Any], ros_type: Parameter.Type) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(name=name, type=ros_type.value, description=meta["description"], read_only=not meta["live"])
    if meta["choices"]:
        descriptor.additional_constraints = f"one of: {', '.join(meta['choices'])}"
    if meta["minimum"] is None and meta["maximum"] is None:
        return descriptor
    if ros_type is Parameter.Type.INTEGER:
        low, high = meta["minimum"] if meta["minimum"] is not None else -(2**62), meta["maximum"] if meta["maximum"] is not None else 2**62
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    else:
        low, high = meta["minimum"] if meta["minimum"] is not None else -1e300, meta["maximum"] if meta["maximum"] is not None else 1e300
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    return descriptor


def _refusal(name: str, field: dataclasses.Field[Any], value: Any) -> str:
    """Why a value that the range of its descriptor lets pass can't be taken, or nothing."""
    choices = field.metadata["choices"]
    if choices and value not in choices:
        return f"parameter {name!r} is {value!r}; it is one of: {', '.join(choices)}"
    if isinstance(value, float) and value != value:
        return f"parameter {name!r} is not a number"
    return ""


def _range_text(field: dataclasses.Field[Any]) -> str:
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if high is None:
        return f"it must be at least {low}"
    return f"it must be at most {high}" if low is None else f"it must lie between {low} and {high}"


def _did_you_mean(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
