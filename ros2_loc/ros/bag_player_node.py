"""Plays a rosbag2 onto its topics, with /clock: recorded bytes as they are, at their recorded times."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from ros2_loc.errors import ConfigError
from ros2_loc.io.bag_reader import BagReader
from ros2_loc.ros.conversions import stamp_from_ns
from ros2_loc.ros.diagnostics import Level, Report
from ros2_loc.ros.log_bridge import forward_warnings
from ros2_loc.ros.node_base import BaseParameters, NodeBase, run
from ros2_loc.ros.params import parameter
from ros2_loc.ros.playback import PlaybackClock
from ros2_loc.ros.qos import CLOCK
from ros2_loc.ros.replay_topics import ReplayTopics, Selection

# what a running system says itself, and must not hear a second time
_EXCLUDED = ("/clock", "/rosout", "/parameter_events", "/diagnostics", "/initialpose", "/localization/*", "/map/*")
_DETECTIONS = ("*/detections", "*/detections/*")
_SETTLE_S = 0.5  # between the last localizer's subscription and the first message: other nodes come at about the same time


@dataclass(frozen=True)
class BagPlayerParameters(BaseParameters):
    """What the bag player takes."""

    bag: str = parameter("", "a rosbag2: its folder, or a .db3 or .mcap file")
    rate: float = parameter(1.0, "recorded seconds per second", minimum=0.01, maximum=100.0, live=True)
    loop: bool = parameter(False, "start over at the end; time jumps back then", live=True)
    start_s: float = parameter(0.0, "where to start, s after the first message; latched messages before it are sent too", minimum=0.0)
    duration_s: float = parameter(0.0, "how much to play, s; 0: up to the end", minimum=0.0)
    clock_hz: float = parameter(100.0, "/clock messages per recorded second; 0: no /clock", minimum=0.0, maximum=1000.0)
    topics: tuple[str, ...] = parameter(("",), "only these topics, patterns with * allowed; empty: all")
    exclude: tuple[str, ...] = parameter(_EXCLUDED, "never these topics, patterns with * allowed")
    live_detections: bool = parameter(False, "object_detector runs: what a detector said when the bag was recorded is not played")
    exclude_transforms: tuple[str, ...] = parameter(("map->odom",), "transforms (parent->child) that are not played")
    start_paused: bool = parameter(False, "wait for the service ~/resume before the first message")
    wait_for_subscribers_s: float = parameter(0.0, "wait up to so long for subscribers of the images", minimum=0.0)
    localizers: int = parameter(1, "how many subscribers of the images that are", minimum=1)
    exit_at_end: bool = parameter(True, "end the process when the bag is over")


class BagPlayer(NodeBase):
    """Opens the bag on configure and plays it, in a thread of its own, while active."""

    Parameters = BagPlayerParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("bag_player", **options)
        self._phase, self._published, self._rounds = "idle", 0, 0

    def configure(self) -> None:
        """Open the bag and advertise its topics. Raises Ros2LocError when there is none, or nothing in it can be played."""
        if not self.params.bag:
            raise ConfigError("bag_player: parameter 'bag' is empty: give the folder of a rosbag2, or a .db3 or .mcap file")
        self.own(forward_warnings(self.get_logger()))
        self._bag = BagReader(Path(self.params.bag).expanduser())
        self.own(self._bag.close)
        include = tuple(topic for topic in self.params.topics if topic)
        exclude = (*self.params.exclude, *(_DETECTIONS if self.params.live_detections else ()))
        self._topics = ReplayTopics(self, self._bag.connections, Selection(include, exclude), self.params.exclude_transforms)
        self.own(self._topics.close)
        self._ticker = self.publish(Clock, "/clock", CLOCK) if self.params.clock_hz else None
        self._tell_what_is_played()
        self.diagnostics.add("playback", self._diagnose)

    def activate(self) -> None:
        """Start to play."""
        self._playback = PlaybackClock(self.params.rate, self.params.start_paused)
        self._stopping = threading.Event()
        self._published, self._rounds = 0, 0
        thread = threading.Thread(target=self._work, name="bag_player", daemon=True)
        self.own(thread.join)
        self.own(self._playback.close)
        self.own(self._stopping.set)
        self.serve(Trigger, "~/pause", lambda request, response: self._pause(True, response))
        self.serve(Trigger, "~/resume", lambda request, response: self._pause(False, response))
        thread.start()

    def parameters_changed(self, parameters: Any) -> None:
        """Take a new rate at once."""
        if hasattr(self, "_playback"):
            self._playback.set_rate(parameters.rate)

    def _tell_what_is_played(self) -> None:
        for topic, msgtype in self._topics.unknown.items():
            self.get_logger().warning(f"{topic} is left out: {msgtype} is not installed")
        if not self._topics.names:
            there = ", ".join(self._bag.topics)
            raise ConfigError(f"{self.params.bag}: none of its topics can be played; it has {there}")
        start_ns, stop_ns = self._span_ns()
        self.get_logger().info(f"{self.params.bag}: {(stop_ns - start_ns) * 1e-9:.1f} s of {', '.join(sorted(self._topics.names))}")

    def _span_ns(self) -> tuple[int, int]:
        """The recorded time to play, from and to. Raises ConfigError when `start_s` lies behind the end."""
        start_ns = self._bag.start_ns + round(self.params.start_s * 1e9)
        if start_ns >= self._bag.end_ns:
            length_s = (self._bag.end_ns - self._bag.start_ns) * 1e-9
            raise ConfigError(f"start_s is {self.params.start_s:g} but {self.params.bag} is {length_s:.1f} s long")
        if not self.params.duration_s:
            return start_ns, self._bag.end_ns
        return start_ns, min(self._bag.end_ns, start_ns + round(self.params.duration_s * 1e9))

    def _work(self) -> None:
        try:
            self._wait_for_subscribers()
            while self._play_once() and self.params.loop:
                self.get_logger().info(f"round {self._rounds} is over: from the start again")
            if not self._stopping.is_set():
                self._topics.flush(timeout_s=2.0)
                late_ms = 1e3 * self._playback.max_late_s
                self.get_logger().info(f"the bag is over: {self._published} messages, at most {late_ms:.0f} ms late")
                self._phase = "over"
                if self.params.exit_at_end:
                    self.finish()
        except Exception as error:  # the edge of the thread: a damaged bag, a full disk, our own mistakes
            self._phase = "failed"
            self.failed(error)
            self.finish(1)

    def _wait_for_subscribers(self) -> None:
        self._phase = "waiting for subscribers"
        for _ in range(round(self.params.wait_for_subscribers_s / 0.1)):
            if not self._topics.images_without_subscribers(self.params.localizers) or self._stopping.wait(0.1):
                break
        if silent := self._topics.images_without_subscribers(self.params.localizers):
            if self.params.wait_for_subscribers_s:
                who = "nobody listens" if self.params.localizers == 1 else f"fewer than {self.params.localizers} nodes listen"
                self.get_logger().warning(f"{who} to {' or '.join(silent)}: playing all the same")
        elif self.params.wait_for_subscribers_s:
            self._stopping.wait(_SETTLE_S)

    def _play_once(self) -> bool:
        """Play from start to end; False when told to stop."""
        start_ns, stop_ns = self._span_ns()
        for connection, _, raw in self._bag.messages(self._topics.latched, stop_ns=start_ns):
            self._send(connection.topic, raw)
        self._phase = "playing"
        self._playback.start(start_ns)
        self._next_tick_ns = start_ns
        for connection, stamp_ns, raw in self._bag.messages(self._topics.names, start_ns, stop_ns):
            if not self._wait_until(stamp_ns):
                return False
            self._send(connection.topic, raw)
        self._rounds += 1
        return self._wait_until(stop_ns)

    def _wait_until(self, stamp_ns: int) -> bool:
        """Wait, with the ticks of /clock that fall before; False when told to stop."""
        while self._ticker and self._next_tick_ns <= stamp_ns:
            if not self._playback.wait_until(self._next_tick_ns):
                return False
            self._ticker.publish(Clock(clock=stamp_from_ns(self._next_tick_ns)))
            self._next_tick_ns += round(1e9 / self.params.clock_hz)
        return self._playback.wait_until(stamp_ns)

    def _send(self, topic: str, raw: bytes) -> None:
        self._topics.publish(topic, raw)
        self._published += 1

    def _pause(self, paused: bool, response: Trigger.Response) -> Trigger.Response:
        self._playback.pause(paused)
        at_s = (self._playback.now_ns - self._bag.start_ns) * 1e-9
        response.success, response.message = True, f"{'paused' if paused else 'resumed'} at {max(at_s, 0.0):.2f} s"
        return response

    def _diagnose(self) -> Report:
        clock: PlaybackClock | None = getattr(self, "_playback", None)
        paused = self._phase == "playing" and clock is not None and clock.paused
        at_s = (clock.now_ns - self._bag.start_ns) * 1e-9 if clock and self._phase == "playing" else 0.0
        values = {
            "bag": self.params.bag,
            "position_s": at_s,
            "length_s": (self._bag.end_ns - self._bag.start_ns) * 1e-9,
            "rate": self.params.rate,
            "messages": self._published,
            "rounds": self._rounds,
            "max_late_ms": 1e3 * clock.max_late_s if clock else 0.0,
        }
        return Report(Level.ERROR if self._phase == "failed" else Level.OK, "paused" if paused else self._phase, values)


def main() -> None:
    """Entry point of `ros2 run ros2_loc bag_player`."""
    sys.exit(run([BagPlayer]))


if __name__ == "__main__":
    main()
