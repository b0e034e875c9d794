"""What every node here has: a lifecycle with resources made on configure and freed on cleanup, checked parameters, diagnostics, one `main`.

A node is a `NodeBase` with a frozen `Parameters` dataclass and the hooks `configure` and `activate`, which make what they need through
`publish`, `subscribe`, `every`, `serve` and `own`: what is made in `configure` lives until cleanup, what is made in `activate` until
deactivation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription

from ros2_loc.errors import Ros2LocError
from ros2_loc.ros.diagnostics import Diagnostics, Level, Report
from ros2_loc.ros.params import Parameters, parameter

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # before Kilted
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        EventsExecutor = SingleThreadedExecutor  # type: ignore[misc, assignment]

_POLL_S = 0.2  # how long a stop may go unnoticed
_THROTTLE_S = 5.0
_DIAGNOSTICS_S = 1.0
_FRESH_S = 10.0  # how long an error is shown as present


@dataclasses.dataclass(frozen=True)
class BaseParameters:
    """What every node takes."""

    autostart: bool = parameter(True, "configure and activate at the start; false leaves that to a lifecycle manager")


class NodeBase(LifecycleNode):
    """A managed node whose failures are one line in the log and a FAILURE of the transition, never a crash."""

    Parameters: ClassVar[type] = BaseParameters

    def __init__(self, name: str, **options: Any) -> None:
        """Declare the parameters; nothing else is made before `configure`.

        Raises:
            ConfigError: a parameter that can't be used.
        """
        super().__init__(name, **options)
        self.exit_code: int | None = None
        self._lifetimes: list[contextlib.ExitStack] = []
        self._throttled: dict[str, float] = {}
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._errors, self._last_error, self._error_s = 0, "", -float("inf")
        self._declared = Parameters(self, self.Parameters, self.parameters_changed)

    # --- hooks of the nodes; `configure` adds its tasks to `self.diagnostics`

    def configure(self) -> None:
        """Load and check what the node needs, make publishers. Raises Ros2LocError when that is not possible."""

    def activate(self) -> None:
        """Subscribe and start working."""

    def parameters_changed(self, parameters: Any) -> None:
        """A live parameter was set; `self.params` has it already."""

    def failed(self, error: Exception) -> None:
        """A callback or a worker raised: it goes to the log (throttled, where it was raised) and to the diagnostics. Any thread."""
        self._errors, self._last_error, self._error_s = self._errors + 1, one_line(error), self._now_s()
        where = "" if isinstance(error, Ros2LocError) else f" {_origin(error)}"
        self.log_throttled("error", one_line(error) + where, type(error).__name__ + where)

    # --- what nodes make, each freed with the phase it was made in

    @property
    def params(self) -> Any:
        """The frozen record of the parameters' present values."""
        return self._declared.value

    def publish(self, message_type: type, topic: str, qos: QoSProfile | int) -> Publisher:
        """A publisher."""
        publisher: Publisher = self.create_publisher(message_type, topic, qos)
        self._lifetimes[-1].callback(self.destroy_publisher, publisher)
        return publisher

    def subscribe(self, message_type: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile | int) -> Subscription:
        """A subscription; what its callback raises is logged and the node lives."""
        subscription = self.create_subscription(message_type, topic, self._guarded(callback), qos)
        self._lifetimes[-1].callback(self.destroy_subscription, subscription)
        return subscription

    def serve(self, service_type: type, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """A service."""
        service = self.create_service(service_type, name, callback)
        self._lifetimes[-1].callback(self.destroy_service, service)

    def every(self, period_s: float, callback: Callable[[], None]) -> None:
        """A timer of the steady clock, which runs on when the simulated time stands still."""
        guarded = self._guarded(callback)
        timer = self.create_timer(period_s, lambda: guarded(), clock=self._steady)  # rclpy gives a callback all it can take
        self._lifetimes[-1].callback(self.destroy_timer, timer)

    def own(self, free: Callable[[], Any]) -> None:
        """Call `free` when the present phase ends: before everything that was made earlier in it goes."""
        self._lifetimes[-1].callback(free)

    def log_throttled(self, severity: str, text: str, key: str = "") -> None:
        """Log a line at most every 5 s for each `key` (the text itself when there is none)."""
        now = self._now_s()
        if now - self._throttled.get(key or text, -_THROTTLE_S) < _THROTTLE_S:
            return
        if len(self._throttled) > 1000:  # texts with numbers in them
            self._throttled.clear()
        self._throttled[key or text] = now
        if severity == "warn":  # rclpy raises when one line of code logs with two severities
            self.get_logger().warning(text)
        else:
            self.get_logger().error(text)

    def finish(self, exit_code: int = 0) -> None:
        """End the process that runs this node: its work is done, or can't be done."""
        self.exit_code = exit_code

    def unknown_parameters(self) -> list[str]:
        """One line for each parameter that was set from outside but that the node does not have."""
        return self._declared.unknown()

    # --- the lifecycle

    def start(self) -> bool:
        """Configure and activate when `autostart` says so; False when that failed (the reason is in the log)."""
        if not self.params.autostart:
            return True
        return all(step() == TransitionCallbackReturn.SUCCESS for step in (self.trigger_configure, self.trigger_activate))

    def stop(self) -> None:
        """Free everything, whatever the state."""
        while self._lifetimes:
            self._end_phase()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._begin_phase(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._begin_phase(self.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end_phase()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end_phase()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self.diagnostics = Diagnostics(self)
        self.own(self.diagnostics.close)
        self.diagnostics.add("errors", self._diagnose_errors)
        self.every(_DIAGNOSTICS_S, self.diagnostics.publish)
        self.configure()

    def _diagnose_errors(self) -> Report:
        values = {"count": self._errors, "last": self._last_error or "none"}
        if self._now_s() - self._error_s < _FRESH_S:
            return Report(Level.ERROR, self._last_error, values)
        return Report(Level.OK, "no errors" if not self._errors else f"{self._errors} so far, none lately", values)

    def _now_s(self) -> float:
        return self._steady.now().nanoseconds * 1e-9

    def _begin_phase(self, hook: Callable[[], None]) -> TransitionCallbackReturn:
        self._lifetimes.append(contextlib.ExitStack())
        try:
            hook()
        except Exception as error:  # the edge of the node
            self._end_phase()
            self.get_logger().error(one_line(error))
            if not isinstance(error, Ros2LocError):
                self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _end_phase(self) -> None:
        try:
            self._lifetimes.pop().close()
        except Exception as error:  # the rest must be freed all the same; ExitStack went on
            self.get_logger().error(f"while freeing resources: {one_line(error)}")

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:  # the edge of the node
                self.failed(error)

        return call


def one_line(error: BaseException) -> str:
    """What an error says, in one line; errors that are not ours also say their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, Ros2LocError) else f"{type(error).__name__}: {text}"


def _origin(error: BaseException) -> str:
    """File and line that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def run(makers: Sequence[Callable[[], NodeBase]], args: Sequence[str] | None = None) -> int:
    """Run nodes in this process, with one executor, until SIGINT or SIGTERM; returns the exit code.

    Args:
        makers: the nodes' classes.
        args: the command line with ROS arguments, sys.argv when None.
    """
    stopping: list[int] = []
    previous = {s: signal.signal(s, lambda number, frame: stopping.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    nodes: list[NodeBase] = []
    try:
        executor = EventsExecutor()
        return _run(makers, nodes, executor, stopping)
    except Ros2LocError as error:
        rclpy.logging.get_logger("ros2_loc").fatal(one_line(error))
        return 1
    finally:
        for node in reversed(nodes):
            node.stop()
            node.destroy_node()
        rclpy.try_shutdown()
        _restore(previous)


def _run(makers: Sequence[Callable[[], NodeBase]], nodes: list[NodeBase], executor: Executor, stopping: list[int]) -> int:
    for make in makers:
        nodes.append(make())
        executor.add_node(nodes[-1])
    if len(nodes) == 1:  # several share one command line, and not each has all parameters
        for line in nodes[0].unknown_parameters():
            nodes[0].get_logger().warning(line)
    if not all(node.start() for node in nodes):
        return 1
    while not stopping and rclpy.ok() and all(node.exit_code is None for node in nodes):
        executor.spin_once(timeout_sec=_POLL_S)  # EventsExecutor.spin() of rclpy 9.1 runs no callbacks
    return next((node.exit_code for node in nodes if node.exit_code), 0)


def _restore(handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
