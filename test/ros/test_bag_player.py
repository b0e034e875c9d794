"""Bags onto topics: order, times, latched topics, loops, damage, and what is left out."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tf2_msgs", reason="needs rclpy and the compiled messages: pip install .")

from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection
from ros2_loc.io.bags import BagWriter, typestore
from ros2_loc.ros.bag_player_node import BagPlayer
from ros2_loc.ros.conversions import ns_from_stamp
from ros2_loc.ros.qos import LATCHED, TF_STATIC

T0 = 1_700_000_000_000_000_000
S = 1_000_000_000
CAMERA = Camera.pinhole(32, 16, 30.0, 30.0, 16.0, 8.0)


def write_bag(path: Path, storage: Any = "sqlite3", frames: int = 10, hz: float = 20.0, size: tuple[int, int] = (16, 32)) -> Path:
    """A second or so of a drive: image number i is gray level i."""
    with BagWriter(path, storage=storage) as bag:
        bag.static_transform(T0, Pose.exp([1, 0, 1, 0, 0, 0]))
        for i in range(frames):
            stamp = T0 + round(i / hz * S)
            bag.odometry(stamp, Pose.exp([i, 0, 0, 0, 0, 0]))
            bag.truth(stamp, Pose.exp([i, 1, 0, 0, 0, 0]))
            bag.camera_info(stamp, CAMERA)
            bag.image(stamp, np.full((*size, 3), i, np.uint8))
    return path


class Listener:
    """What was heard, in order."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.heard: list[tuple[str, Any, float]] = []
        reliable = QoSProfile(depth=500)
        for kind, topic, qos in (
            (Image, "/camera/image_raw", reliable),
            (Odometry, "/odom", reliable),
            (Odometry, "/ground_truth/odometry", reliable),
            (Clock, "/clock", reliable),
            (Detection2DArray, "/detections", reliable),
            (Image, "/detections/mask", reliable),
            (TFMessage, "/tf", reliable),
            (TFMessage, "/tf_static", TF_STATIC),
        ):
            node.create_subscription(kind, topic, lambda message, topic=topic: self.heard.append((topic, message, time.monotonic())), qos)

    def of(self, topic: str) -> list[Any]:
        return [message for name, message, _ in self.heard if name == topic]

    def stamps_s(self, topic: str) -> list[float]:
        return [(ns_from_stamp(m.header.stamp) - T0) * 1e-9 for m in self.of(topic)]

    def clock_s(self) -> list[float]:
        return [(ns_from_stamp(m.clock) - T0) * 1e-9 for m in self.of("/clock")]


@pytest.fixture
def play(make_node: Callable[..., Any]) -> Iterator[Callable[..., Listener]]:
    """`play(bag, until=condition, **parameters)` plays until the player is done, or the condition holds."""
    players: list[BagPlayer] = []

    def run(bag: Path, until: Callable[[Listener], bool] = lambda listener: False, timeout_s: float = 15.0, **parameters: Any) -> Listener:
        listener = Listener(make_node("listener"))
        values = {"bag": str(bag), "wait_for_subscribers_s": 5.0, **parameters}
        player = BagPlayer(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
        players.append(player)
        executor = SingleThreadedExecutor()
        executor.add_node(listener.node)
        executor.add_node(player)
        assert player.start()
        end = time.monotonic() + timeout_s
        while player.exit_code is None and not until(listener) and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.02)
        for _ in range(300):  # more than the messages of a bag: on a busy machine many still wait
            executor.spin_once(timeout_sec=0.0)
        executor.shutdown()
        listener.player = player  # type: ignore[attr-defined]
        return listener

    yield run
    for player in players:
        player.stop()
        player.destroy_node()


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_every_message_comes_in_order_at_its_time(play: Callable[..., Listener], tmp_path: Path, storage: str) -> None:
    listener = play(write_bag(tmp_path / "bag", storage))
    assert listener.player.exit_code == 0  # type: ignore[attr-defined]
    assert [int(m.data[0]) for m in listener.of("/camera/image_raw")] == list(range(10))
    assert listener.stamps_s("/odom") == pytest.approx([i / 20 for i in range(10)])
    assert len(listener.of("/tf")) == len(listener.of("/ground_truth/odometry")) == 10 and len(listener.of("/tf_static")) == 1
    arrivals = [at for name, _, at in listener.heard if name == "/odom"]
    assert arrivals[-1] - arrivals[0] == pytest.approx(0.45, abs=0.1)
    clock = listener.clock_s()
    assert clock == sorted(clock) and clock[0] == 0.0 and clock[-1] == pytest.approx(0.45) and len(clock) == 46


def test_the_clock_ticks_evenly_in_recorded_time_and_ends_with_the_bag(play: Callable[..., Listener], tmp_path: Path) -> None:
    listener = play(write_bag(tmp_path / "bag"), rate=5.0)
    assert max(np.diff(listener.clock_s())) == pytest.approx(0.01)
    assert max(ns_from_stamp(m.clock) for m in listener.of("/clock")) == T0 + 450_000_000
    arrivals = [at for name, _, at in listener.heard if name == "/odom"]
    assert arrivals[-1] - arrivals[0] == pytest.approx(0.09, abs=0.06)


def test_start_and_duration_cut_a_piece_with_its_latched_topics(play: Callable[..., Listener], tmp_path: Path) -> None:
    listener = play(write_bag(tmp_path / "bag"), start_s=0.2, duration_s=0.15)
    assert listener.stamps_s("/camera/image_raw") == pytest.approx([0.2, 0.25, 0.3])
    assert len(listener.of("/tf_static")) == 1 and listener.clock_s()[0] == pytest.approx(0.2)


def test_recorded_detections_are_played_unless_a_detector_runs(play: Callable[..., Listener], tmp_path: Path) -> None:
    moving = np.zeros((16, 32), dtype=bool)
    moving[4:12, 8:20] = True
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(4):
            stamp = T0 + i * S // 20
            bag.image(stamp, np.full((16, 32, 3), i, np.uint8))
            bag.detections(stamp, [Detection(np.array([8, 4, 20, 12], dtype=np.float32), "car", 0.75)], moving)
    listener = play(tmp_path / "bag")
    assert listener.stamps_s("/detections") == pytest.approx([0, 0.05, 0.1, 0.15]) and len(listener.of("/detections/mask")) == 4
    (car,) = listener.of("/detections")[0].detections
    assert (car.results[0].hypothesis.class_id, car.results[0].hypothesis.score, car.bbox.center.position.x) == ("car", 0.75, 14.0)
    assert np.frombuffer(listener.of("/detections/mask")[0].data, np.uint8).reshape(16, 32)[5, 9] == 255
    live = play(tmp_path / "bag", live_detections=True)
    assert len(live.of("/camera/image_raw")) == 4 and not live.of("/detections") and not live.of("/detections/mask")


def test_a_loop_starts_time_over(play: Callable[..., Listener], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", frames=4)
    listener = play(bag, until=lambda heard: len(heard.of("/camera/image_raw")) >= 10, loop=True, rate=2.0)
    assert listener.stamps_s("/camera/image_raw")[:9] == pytest.approx([0, 0.05, 0.1, 0.15] * 2 + [0])
    clock = np.array(listener.clock_s())
    assert (np.diff(clock) < -0.1).sum() >= 2
    assert listener.player.exit_code is None  # type: ignore[attr-defined]


def test_topics_are_chosen_by_patterns(play: Callable[..., Listener], tmp_path: Path) -> None:
    listener = play(write_bag(tmp_path / "bag", frames=3), topics=["/camera/*", "/tf_static", "/odom"], exclude=["/odom"], clock_hz=0.0)
    assert {name for name, _, _ in listener.heard} == {"/camera/image_raw", "/tf_static"}


def transform_message(store: Any, *pairs: tuple[str, str]) -> Any:
    t = store.types
    header = t["std_msgs/msg/Header"](t["builtin_interfaces/msg/Time"](1, 0), "")
    zero, one = t["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0), t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    transforms = [
        t["geometry_msgs/msg/TransformStamped"](
            t["std_msgs/msg/Header"](header.stamp, parent), child, t["geometry_msgs/msg/Transform"](zero, one)
        )
        for parent, child in pairs
    ]
    return t["tf2_msgs/msg/TFMessage"](transforms)


def test_what_localization_says_itself_is_left_out(play: Callable[..., Listener], tmp_path: Path) -> None:
    store = typestore()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        tf = writer.add_connection("/tf", "tf2_msgs/msg/TFMessage", typestore=store)
        clock = writer.add_connection("/clock", "rosgraph_msgs/msg/Clock", typestore=store)
        for i, pairs in enumerate([[("odom", "base_link"), ("map", "odom")], [("/map", "odom")], [("odom", "base_link")]]):
            writer.write(tf, T0 + i, store.serialize_cdr(transform_message(store, *pairs), "tf2_msgs/msg/TFMessage"))
        writer.write(
            clock,
            T0,
            store.serialize_cdr(store.types["rosgraph_msgs/msg/Clock"](store.types["builtin_interfaces/msg/Time"](5, 0)), clock.msgtype),
        )
    listener = play(tmp_path / "bag", clock_hz=100.0, until=lambda heard: len(heard.of("/tf")) >= 2)
    assert [[t.child_frame_id for t in m.transforms] for m in listener.of("/tf")] == [["base_link"], ["base_link"]]
    assert 5 not in [m.clock.sec for m in listener.of("/clock")]


def test_a_type_that_is_not_installed_is_left_out(play: Callable[..., Listener], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from rosbags.typesys import get_types_from_msg

    store = typestore()
    store.register(get_types_from_msg("float64 x", "no_such_package/msg/Thing"))
    bag = write_bag(tmp_path / "plain", frames=2)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        thing = writer.add_connection("/thing", "no_such_package/msg/Thing", typestore=store)
        writer.write(thing, T0, store.serialize_cdr(store.types["no_such_package/msg/Thing"](1.0), thing.msgtype))
        image = store.types["sensor_msgs/msg/Image"]
        header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](1, 0), "camera")
        connection = writer.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=store)
        data = store.serialize_cdr(image(header, 1, 1, "mono8", 0, 1, np.zeros(1, np.uint8)), connection.msgtype)
        writer.write(connection, T0, data)
    assert bag.exists()
    listener = play(tmp_path / "bag")
    assert len(listener.of("/camera/image_raw")) == 1
    assert "/thing is left out: no_such_package/msg/Thing is not installed" in capfd.readouterr().err


def test_pause_and_resume(make_node: Callable[..., Any], tmp_path: Path, spin_until: Callable[..., bool]) -> None:
    node = make_node("listener")
    listener = Listener(node)
    values = {"bag": str(write_bag(tmp_path / "bag")), "start_paused": True, "wait_for_subscribers_s": 5.0, "rate": 2.0}
    player = BagPlayer(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
    assert player.start()
    resume, pause = node.create_client(Trigger, "/bag_player/resume"), node.create_client(Trigger, "/bag_player/pause")
    assert spin_until(resume.service_is_ready, node, player)
    assert not spin_until(lambda: bool(listener.of("/odom")), node, player, timeout_s=1.0)
    answer = resume.call_async(Trigger.Request())
    assert spin_until(lambda: answer.done() and len(listener.of("/odom")) >= 2, node, player)
    stopped = pause.call_async(Trigger.Request())
    assert spin_until(stopped.done, node, player) and stopped.result().message.startswith("paused at 0.")
    player.stop()
    player.destroy_node()


@pytest.mark.parametrize(
    ("make", "parameters", "words"),
    [
        (lambda folder: "", {}, "parameter 'bag' is empty"),
        (lambda folder: str(folder / "nothing"), {}, "no such bag"),
        (lambda folder: str(write_bag(folder / "bag", frames=2)), {"start_s": 9.0}, "start_s is 9 but"),
        (
            lambda folder: str(write_bag(folder / "bag", frames=2)),
            {"topics": ["/lidar"]},
            "none of its topics can be played; it has /camera/",
        ),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(
    domain: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Any, parameters: Any, words: str
) -> None:
    values = {"bag": make(tmp_path), **parameters}
    player = BagPlayer(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
    capfd.readouterr()
    assert not player.start()
    lines = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert len(lines) == 1 and words in lines[0]
    player.destroy_node()


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_cut_short_plays_up_to_the_cut(
    play: Callable[..., Listener], tmp_path: Path, capfd: pytest.CaptureFixture[str], storage: str
) -> None:
    bag = write_bag(tmp_path / "bag", storage, frames=40, size=(128, 256))
    file = next(p for p in bag.iterdir() if p.suffix in (".mcap", ".db3"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    listener = play(file, rate=5.0)
    images = [int(m.data[0]) for m in listener.of("/camera/image_raw")]
    assert images == list(range(len(images))) and 15 <= len(images) < 40
    assert "cut short" in capfd.readouterr().err


def test_a_late_listener_gets_the_mounting(
    play: Callable[..., Listener], tmp_path: Path, make_node: Callable[..., Any], spin_until: Callable[..., bool]
) -> None:
    listener = play(write_bag(tmp_path / "bag", frames=3), exit_at_end=False, until=lambda heard: len(heard.of("/camera/image_raw")) == 3)
    late, heard = make_node("late"), []
    late.create_subscription(TFMessage, "/tf_static", heard.append, LATCHED)
    assert spin_until(lambda: bool(heard), late, listener.player)  # type: ignore[attr-defined]


def test_the_process_plays_and_ends_well_and_stops_at_a_signal(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    command = [sys.executable, "-m", "ros2_loc.ros.bag_player_node", "--ros-args", "-p", f"bag:={bag}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "the bag is over: 51 messages" in done.stderr and "Traceback" not in done.stderr
    process = subprocess.Popen([*command, "-p", "loop:=true"], stderr=subprocess.PIPE, text=True)
    assert process.stderr and "0.5 s of /camera" in process.stderr.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0 and "Traceback" not in process.stderr.read()
    process.stderr.close()
