"""Real processes over DDS: a town that is driven twice and mapped, the graph as its users start it, and an observer of its topics."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Town:
    """A map, the bag to localize in it, and the recording behind that bag (images and truth at its stamps)."""

    map: Path
    bag: Path
    pipeline: Path
    recording: Any

    @property
    def arguments(self) -> dict[str, object]:
        """For `run_graph`, without a bag."""
        return {"map": self.map, "pipeline": self.pipeline}


def _make_town(folder: Path, *, width: int, keypoints: int, crossings: list[tuple[int, int]], image_format: Any) -> Town:
    from ros2_loc.io.sequences import open_sequence
    from ros2_loc.localization.build_map import build_map
    from ros2_loc.localization.pipeline import load_pipeline
    from ros2_loc.world.drive import Vehicle, make_drive, street_route
    from ros2_loc.world.layout import TownSize
    from ros2_loc.world.light import Light
    from ros2_loc.world.recording import Recording, demo_camera, write_bags
    from ros2_loc.world.town import Town as World

    world, camera = World.generate(3, TownSize.small()), demo_camera(width, round(width * 0.625))
    first = make_drive(street_route(world.plan, crossings, 0.2, 0.7), Vehicle(speed_mps=5.0, accel_mps2=4.0), _START_NS, seed=1)
    route = street_route(world.plan, crossings, 0.27, 0.6)
    second = make_drive(route, Vehicle(speed_mps=5.5, lane_m=-1.4, accel_mps2=4.0), _START_NS + 3600 * 10**9, seed=2)
    mapping = Recording(world, first, Light.afternoon(), camera, image_rate_hz=2.0, seed=1)
    query = Recording(world, second, Light.afternoon(), camera, image_rate_hz=4.0, seed=2)
    write_bags({folder / "first": mapping}, image_format="raw")
    write_bags({folder / "second": query}, image_format=image_format)
    pipeline = folder / "pipeline.yaml"
    extractor, matcher = f"{{name: sift, max_keypoints: {keypoints}}}", "{name: mutual_nearest, max_ratio: 0.85}"
    pipeline.write_text(f"extractor: {extractor}\nencoder: {{name: vlad, num_words: 16}}\nmatcher: {matcher}\n")
    build_map(open_sequence(folder / "first"), load_pipeline(pipeline), folder / "map", show_progress=False)
    return Town(folder / "map", folder / "second", pipeline, query)


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """A few metres of a street, in small pictures, as JPEG: made in seconds."""
    return _make_town(tmp_path_factory.mktemp("street"), width=320, keypoints=800, crossings=[(1, 1), (2, 1)], image_format="jpeg")


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Two streets and the corner between them."""
    return _make_town(tmp_path_factory.mktemp("town"), width=480, keypoints=1500, crossings=[(1, 1), (2, 1), (2, 2)], image_format="raw")


class Observer:
    """Listens to what the nodes say, in a DDS domain of its own."""

    def __init__(self, node: Any, town: Town) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from ros2_loc.msg import LocalizationStatus
        from tf2_msgs.msg import TFMessage

        from ros2_loc.ros import qos
        from ros2_loc.ros.tf import TransformReader

        self.node, self.town = node, town
        self.transforms = TransformReader(node)
        self.estimates: list[Any] = []
        self.poses: list[Any] = []
        self.states: list[Any] = []
        self.statuses: list[Any] = []
        self.diagnostics: dict[str, Any] = {}
        self.tf: list[Any] = []
        node.create_subscription(PoseWithCovarianceStamped, "localization/map_pose", self.estimates.append, qos.RESULT)
        node.create_subscription(PoseWithCovarianceStamped, "localization/pose", self.poses.append, qos.RESULT)
        node.create_subscription(LocalizationStatus, "localization/state", self.states.append, qos.LATCHED)
        node.create_subscription(LocalizationStatus, "localization/status", self.statuses.append, qos.RESULT)
        node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.update({s.name: s for s in m.status}), 10)
        node.create_subscription(TFMessage, "/tf", lambda m: self.tf.extend(m.transforms), qos.TF)

    def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
        """Listen until the condition holds."""
        import rclpy

        end = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end:
            rclpy.spin_once(self.node, timeout_sec=0.05)
        return condition()

    @property
    def state(self) -> int | None:
        """The newest state of pose_fusion."""
        return self.states[-1].state if self.states else None

    def errors_m(self, messages: list[Any]) -> np.ndarray:
        """Distance of each pose message to the true position at its stamp."""
        from ros2_loc.ros import conversions

        errors = []
        for message in messages:
            truth = self.town.recording.drive.at(conversions.ns_from_stamp(message.header.stamp))
            errors.append(np.linalg.norm(conversions.pose_from_message(message.pose.pose).translation - truth.translation))
        return np.array(errors)

    def tf_errors_m(self) -> np.ndarray:
        """map->odom->base_link against the truth, at the stamps of the odometry that the tree covers."""
        from ros2_loc.ros import conversions
        from ros2_loc.ros.tf import TransformException

        errors = []
        for transform in [t for t in self.tf if t.child_frame_id == "base_link"]:
            stamp_ns = conversions.ns_from_stamp(transform.header.stamp)
            with contextlib.suppress(TransformException):
                found = self.transforms.pose("map", "base_link", stamp_ns)
                errors.append(np.linalg.norm(found.translation - self.town.recording.drive.at(stamp_ns).translation))
        return np.array(errors)


@pytest.fixture
def observe() -> Iterator[Callable[[Town], Observer]]:
    """Makes the observer; the test's processes get its domain by the environment."""
    rclpy = pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
    pytest.importorskip("ros2_loc.msg", reason="ros2_loc.msg is not compiled: pip install .")
    before = os.environ.get("ROS_DOMAIN_ID")
    domain = 1 + (os.getpid() + time.monotonic_ns() // 1000) % 100
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    rclpy.init(domain_id=domain)
    node = rclpy.create_node("observer")
    yield lambda town: Observer(node, town)
    node.destroy_node()
    rclpy.try_shutdown()
    os.environ.pop("ROS_DOMAIN_ID")
    if before is not None:
        os.environ["ROS_DOMAIN_ID"] = before


class Run:
    """A graph that runs; its log is in a file."""

    def __init__(self, arguments: dict[str, str], log: Path) -> None:
        self._log = log
        command = [sys.executable, str(Path(__file__).with_name("run_graph.py")), *(f"{k}:={v}" for k, v in arguments.items())]
        environment = {**os.environ, "RCUTILS_LOGGING_BUFFERED_STREAM": "0"}
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)

    @property
    def log(self) -> str:
        """What has been logged so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the supervisor lives."""
        return self.process.poll() is None

    def node_pids(self) -> dict[str, int]:
        """The processes of our nodes: module name -> id."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        pids = {}
        for child in children:
            with contextlib.suppress(OSError):
                found = re.search(rb"ros2_loc\.ros\.(\w+)_node", Path(f"/proc/{child}/cmdline").read_bytes())
                if found:
                    pids[found[1].decode()] = int(child)
        return pids

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, and the exit code."""
        if self.is_running:
            self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def run_graph(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """`run_graph(map=..., bag=...)` starts the graph; what still runs after the test is stopped."""
    runs: list[Run] = []

    def start(**arguments: object) -> Run:
        runs.append(Run({name: str(value) for name, value in arguments.items()}, tmp_path / f"run{len(runs)}.log"))
        return runs[-1]

    yield start
    for run in runs:
        if run.is_running:
            run.process.send_signal(signal.SIGTERM)
            run.process.wait(30)
        sys.stdout.write(run.log)
