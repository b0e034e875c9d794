"""The lifecycle base: parameters from dataclasses, resources freed, errors that do not kill a node."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")

from lifecycle_msgs.msg import State  # noqa: E402
from rcl_interfaces.msg import ParameterType  # noqa: E402
from rclpy.experimental import EventsExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from ros2_loc.errors import ConfigError, DataError  # noqa: E402
from ros2_loc.ros.node_base import BaseParameters, NodeBase, one_line, run  # noqa: E402
from ros2_loc.ros.params import parameter  # noqa: E402


@dataclasses.dataclass(frozen=True)
class ProbeParameters(BaseParameters):
    rate_hz: float = parameter(10.0, "how often, Hz", minimum=0.1, maximum=100.0, live=True)
    count: int = parameter(3, "how many", minimum=1)
    mode: str = parameter("raw", "what is sent", choices=("raw", "compressed"))
    topics: tuple[str, ...] = parameter(("a", "b"), "which topics")


class ProbeNode(NodeBase):
    """Says what it hears; the words `fail` and `crash` make its callback raise."""

    Parameters = ProbeParameters

    def __init__(self, **options: object) -> None:
        self.heard: list[str] = []
        self.errors: list[str] = []
        self.freed: list[str] = []
        self.refuse = False
        super().__init__("probe", **options)

    def configure(self) -> None:
        self.own(lambda: self.freed.append("configure"))
        self.words = self.publish(String, "words", 10)
        if self.refuse:
            raise DataError("the map is cut short: copy it again")

    def activate(self) -> None:
        self.own(lambda: self.freed.append("activate"))
        self.subscribe(String, "words", self.hear, 10)
        self.every(0.05, lambda: self.heard.append("tick"))

    def hear(self, message: String) -> None:
        if message.data == "crash":
            raise KeyError("no such thing")
        self.heard.append(message.data)

    def failed(self, error: Exception) -> None:
        self.errors.append(one_line(error))


@pytest.fixture
def make() -> Iterator[Callable[..., ProbeNode]]:
    rclpy.init()
    nodes: list[ProbeNode] = []

    def maker(**values: object) -> ProbeNode:
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        nodes.append(ProbeNode(parameter_overrides=overrides))
        return nodes[-1]

    yield maker
    for node in nodes:
        node.stop()
        node.destroy_node()
    rclpy.shutdown()


def spin(node: NodeBase, until: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    executor = EventsExecutor()
    executor.add_node(node)
    end = time.monotonic() + timeout_s
    while not until() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    return until()


def say(node: ProbeNode, *words: str) -> None:
    assert spin(node, lambda: node.words.get_subscription_count() == 1)
    for word in words:
        node.words.publish(String(data=word))


def test_parameters_are_declared_with_type_range_choices_and_description(make: Callable[..., ProbeNode]) -> None:
    node = make(count=5)
    assert node.params == ProbeParameters(count=5)
    rate, mode = node.describe_parameter("rate_hz"), node.describe_parameter("mode")
    assert (rate.type, rate.description, rate.read_only) == (ParameterType.PARAMETER_DOUBLE, "how often, Hz", False)
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.1, 100.0)
    assert mode.read_only and mode.additional_constraints == "one of: raw, compressed"
    assert node.describe_parameter("count").integer_range[0].from_value == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rate_hz": 15}, "'rate_hz' of probe has the wrong type: it takes a number with a point"),
        ({"rate_hz": 1000.0}, "'rate_hz' of probe: it must lie between 0.1 and 100.0"),
        ({"count": 0}, "'count' of probe: it must be at least 1"),
        ({"mode": "h264"}, "'mode' is 'h264'; it is one of: raw, compressed"),
        ({"rate_hz": float("nan")}, "rate_hz"),
    ],
)
def test_a_bad_parameter_is_refused_in_one_line(make: Callable[..., ProbeNode], values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make(**values)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_misspelt_parameter_is_named(make: Callable[..., ProbeNode]) -> None:
    assert make(rate_hx=3.0).unknown_parameters() == ["there is no parameter 'rate_hx' (did you mean 'rate_hz'?): it is ignored"]


def test_only_live_parameters_change_while_the_node_runs(make: Callable[..., ProbeNode]) -> None:
    node = make()
    assert node.set_parameters([Parameter("rate_hz", value=20.0)])[0].successful and node.params.rate_hz == 20.0
    assert not node.set_parameters([Parameter("count", value=9)])[0].successful and node.params.count == 3
    assert not node.set_parameters([Parameter("rate_hz", value=float("nan"))])[0].successful and node.params.rate_hz == 20.0


def test_resources_live_as_long_as_their_phase(make: Callable[..., ProbeNode]) -> None:
    node = make()
    assert node.start()
    say(node, "hello")
    assert spin(node, lambda: "hello" in node.heard and "tick" in node.heard), node.heard
    node.trigger_deactivate()
    assert node.freed == ["activate"] and node.count_subscribers("words") == 0 and node.count_publishers("words") == 1
    node.trigger_cleanup()
    assert node.freed == ["activate", "configure"] and node.count_publishers("words") == 0
    node.heard.clear()
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert spin(node, lambda: "tick" in node.heard)


def test_a_failing_configure_frees_what_it_made_and_may_be_tried_again(make: Callable[..., ProbeNode]) -> None:
    node = make()
    node.refuse = True
    assert not node.start()
    assert node.freed == ["configure"] and node._state_machine.current_state[0] == State.PRIMARY_STATE_UNCONFIGURED
    node.refuse = False
    assert node.start()


def test_a_callback_that_raises_does_not_end_the_node(make: Callable[..., ProbeNode]) -> None:
    node = make()
    node.start()
    say(node, "crash", "still here")
    assert spin(node, lambda: "still here" in node.heard)
    assert node.errors == ["KeyError: 'no such thing'"]


def test_lines_are_logged_once_in_a_while(make: Callable[..., ProbeNode], capfd: pytest.CaptureFixture[str]) -> None:
    node = make()
    for severity, text in (("warn", "one"), ("error", "two"), ("warn", "one"), ("warn", "three")):
        node.log_throttled(severity, text)
    lines = [line for line in capfd.readouterr().err.splitlines() if "[probe]" in line]
    assert [line.rpartition(" ")[2] for line in lines] == ["one", "two", "three"]


def test_autostart_false_waits_for_a_manager(make: Callable[..., ProbeNode]) -> None:
    node = make(autostart=False)
    assert node.start() and node._state_machine.current_state[0] == State.PRIMARY_STATE_UNCONFIGURED


def probe_process(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "RCUTILS_LOGGING_BUFFERED_STREAM": "0"}
    return subprocess.Popen([sys.executable, __file__, *arguments], stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_cleanly(number: signal.Signals) -> None:
    process = probe_process()
    assert process.stderr and "running" in process.stderr.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0 and "Traceback" not in errors and "freed" in errors


def test_a_bad_parameter_ends_the_process_with_one_line() -> None:
    _, errors = probe_process("--ros-args", "-p", "mode:=h264").communicate(timeout=20)
    assert len(errors.splitlines()) == 1 and "one of: raw, compressed" in errors


if __name__ == "__main__":

    class Talkative(ProbeNode):
        def activate(self) -> None:
            super().activate()
            self.own(lambda: self.get_logger().info("freed"))
            self.get_logger().info("running")

    sys.exit(run([Talkative]))
