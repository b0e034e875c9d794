"""Bags there and back, cut short, and of other people's robots."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError
from ros2_loc.io.bag_reader import BagReader, is_bag, storage_files
from ros2_loc.io.bags import BagWriter, typestore
from ros2_loc.io.sequences import open_sequence
from ros2_loc.io.trajectories import Trajectory, write_tum

sys.path.insert(0, str(Path(__file__).parent))
from recordings import CAMERA, HEIGHT, WIDTH, bend, picture

T0, STEP, N = 1_700_000_000_000_000_000, 100_000_000, 12
MOUNTING = Pose(BODY_FROM_OPTICAL, np.array([0.4, 0.1, 1.5]))
COVARIANCE = np.diag([0.01, 0.02, 0.03, 1e-4, 2e-4, 3e-4])
STORAGES = ["sqlite3", "mcap"]


def record(path: Path, **options: Any) -> Path:
    with BagWriter(path, **options) as writer:
        writer.static_transform(T0, MOUNTING)
        writer.static_transform(T0, Pose(np.eye(3), np.array([0, 0, 0.9])), "gps")
        for i, pose in enumerate(bend(N)):
            stamp = T0 + i * STEP
            writer.image(stamp, picture(i))
            writer.camera_info(stamp, CAMERA)
            writer.odometry(stamp, pose, COVARIANCE, np.arange(6.0))
            writer.truth(stamp, Pose(so3_exp([0, 0, 1.0]), np.array([5.0, 6.0, 0])) @ pose)
            writer.fix(GeoFix(stamp, 49.0 + i * 1e-5, 8.4, 110.0, np.diag([1.0, 2.0, 4.0])))
            writer.imu(stamp, None if i else pose, [0, 0, 0.2], [0, 0, 9.8])
    return path


@pytest.fixture(params=STORAGES)
def bag(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return record(tmp_path / "drive", storage=request.param)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("image_format", ["raw", "png", "jpeg"])
def test_what_is_written_is_read(tmp_path: Path, storage: str, image_format: str) -> None:
    sequence = open_sequence(record(tmp_path / "b", storage=storage, image_format=image_format))
    assert sequence.stamps_ns.tolist() == [T0 + i * STEP for i in range(N)] and sequence.camera == CAMERA
    np.testing.assert_allclose(sequence.base_from_camera.matrix, MOUNTING.matrix, atol=1e-12)
    for i, pose in enumerate(bend(N)):
        odometry, truth = sequence.odom_from_base[i], sequence.map_from_base[i]
        assert odometry is not None and truth is not None
        np.testing.assert_allclose(odometry.matrix, pose.matrix, atol=1e-12)
        assert truth.translation[0] == pytest.approx((Pose(so3_exp([0, 0, 1.0]), np.zeros(3)) @ pose).translation[0] + 5)
    for i in (5, 0, N - 1, 5):
        image = sequence.image(i)
        if image_format != "jpeg":
            np.testing.assert_array_equal(image, picture(i))
        else:
            assert np.corrcoef(image.ravel(), picture(i).ravel())[0, 1] > 0.4  # noise is what JPEG is worst at
    fix = sequence.fixes[3]
    assert (fix.stamp_ns, fix.lat_deg, fix.alt_m) == (T0 + 3 * STEP, pytest.approx(49.00003), 110.0)
    np.testing.assert_allclose(fix.covariance_enu, np.diag([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(fix.antenna_in_base_m, [0, 0, 0.9])


def test_messages_are_what_ros_defines(bag: Path) -> None:
    with BagReader(bag) as reader:
        messages = {topic: message for topic, _, message in reader.read(reader.topics)}
    odometry, info, static, imu = (messages[t] for t in ("/odom", "/camera/camera_info", "/tf_static", "/imu/data"))
    assert (odometry.header.frame_id, odometry.child_frame_id) == ("odom", "base_link")
    np.testing.assert_allclose(odometry.pose.covariance.reshape(6, 6), COVARIANCE)
    assert odometry.twist.twist.angular.z == 5.0
    assert (info.k[2], info.k[5]) == (32.0, 24.0) and info.header.frame_id == "camera_optical_frame"
    assert {t.child_frame_id for t in static.transforms} == {"camera_optical_frame", "gps"}  # the last message has them all
    assert imu.orientation_covariance[0] == -1.0 and messages["/tf"].transforms[0].child_frame_id == "base_link"
    truth = messages["/ground_truth/odometry"]
    assert truth.header.frame_id == "map" and truth.twist.covariance[0] == -1.0


def test_late_subscribers_get_static_transforms(bag: Path) -> None:
    with BagReader(bag) as reader:
        qos = {c.topic: c.ext.offered_qos_profiles for c in reader.connections}  # type: ignore[union-attr]
    assert qos["/tf_static"][0].durability.name == "TRANSIENT_LOCAL" and qos["/odom"] == []


def test_gray_images_stay_gray(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "b") as writer:
        writer.static_transform(T0, MOUNTING)
        writer.image(T0, picture(1)[..., 0])
        writer.camera_info(T0, CAMERA)
    with BagReader(tmp_path / "b") as reader:
        _, _, message = next(reader.read(["/camera/image_raw"]))
    assert (message.encoding, message.step, message.data.size) == ("mono8", WIDTH, WIDTH * HEIGHT)
    np.testing.assert_array_equal(open_sequence(tmp_path / "b").image(0)[..., 2], picture(1)[..., 0])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_recording_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), BagWriter(tmp_path / "b") as writer:
        writer.image(T0, picture(0))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_bag_is_not_overwritten_unasked(bag: Path) -> None:
    with pytest.raises(DataError, match="exists already"), BagWriter(bag):
        pass
    with BagWriter(bag, overwrite=True) as writer:
        writer.image(T0, picture(0))
    with BagReader(bag) as reader:
        assert list(reader.topics) == ["/camera/image_raw"]


def test_images_from_several_threads(bag: Path) -> None:
    sequence = open_sequence(bag)
    with ThreadPoolExecutor(4) as pool:
        for i, image in enumerate(pool.map(sequence.image, [k % N for k in range(3 * N)])):
            np.testing.assert_array_equal(image, picture(i % N))


def test_single_files_and_folders_without_metadata(bag: Path) -> None:
    (file,) = storage_files(bag)
    assert is_bag(bag) and is_bag(file)
    assert len(open_sequence(file)) == N
    (bag / "metadata.yaml").unlink()
    assert is_bag(bag) and len(open_sequence(bag)) == N
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information:\n  version: 9\n  stor")
    assert len(open_sequence(bag)) == N


@pytest.mark.parametrize("kept", [0.98, 0.6, 0.3])
def test_a_bag_cut_short_is_read_up_to_the_cut(bag: Path, kept: float, caplog: pytest.LogCaptureFixture) -> None:
    (file,) = storage_files(bag)
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    try:
        sequence = open_sequence(bag)
    except DataError as error:  # in so short a bag, MCAP has one chunk and sqlite one page for all first rows
        assert "\n" not in str(error) and "whole message" in str(error) and (file.suffix == ".mcap" or kept < 0.5)
        return
    assert "cut short" in caplog.text and 0 < len(sequence) < N + 1
    for i in range(len(sequence)):
        np.testing.assert_array_equal(sequence.image(i), picture(i))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_long_bag_keeps_what_was_recorded(tmp_path: Path, storage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Images of half a megabyte: MCAP has several chunks then, of which the whole ones are saved."""
    big = np.random.default_rng(0).integers(0, 255, (400, 500, 3), dtype=np.uint8)
    with BagWriter(tmp_path / "b", storage=storage) as writer:  # type: ignore[arg-type]
        for i in range(10):
            writer.image(T0 + i, big)
    (file,) = storage_files(tmp_path / "b")
    data = file.read_bytes()
    file.write_bytes(data[: int(0.75 * len(data))])
    with BagReader(tmp_path / "b") as reader:
        stamps = [stamp for _, stamp, _ in reader.messages()]
    assert stamps in ([T0 + i for i in range(n)] for n in (6, 7)) and f"reading {len(stamps)} messages" in caplog.text


@pytest.mark.parametrize("kept", [0, 1, 100])
def test_a_bag_of_which_nothing_is_left_is_refused(bag: Path, kept: int) -> None:
    (file,) = storage_files(bag)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError) as caught:
        open_sequence(bag)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_messages_in_the_write_ahead_log_are_read(tmp_path: Path) -> None:
    """A recorder that was killed leaves its last messages there."""
    bag = record(tmp_path / "b")
    (file,) = storage_files(bag)
    live = sqlite3.connect(file, isolation_level=None)
    live.execute("PRAGMA journal_mode=WAL")
    rows = live.execute("SELECT topic_id, timestamp, data FROM messages WHERE id > 20").fetchall()
    live.execute("DELETE FROM messages WHERE id > 20")
    live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    live.executemany("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", rows)
    killed = tmp_path / "killed"
    shutil.copytree(bag, killed)  # with the log, before it is checkpointed
    live.close()
    (killed / "metadata.yaml").unlink()
    assert (killed / f"{file.name}-wal").stat().st_size > 0
    assert len(open_sequence(killed)) == N


def test_no_bag_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for path, words in [(tmp_path / "none", "no such bag"), (tmp_path / "a.txt", "no rosbag2")]:
        with pytest.raises(DataError, match=words):
            BagReader(path)
    with BagWriter(tmp_path / "empty"):
        pass
    with pytest.raises(DataError, match="holds no messages"):
        BagReader(tmp_path / "empty")


# --- other people's robots


def raw_bag(path: Path, messages: list[tuple[str, str, int, dict[str, Any]]]) -> Path:
    """A bag of (topic, type, time of recording, fields); nested messages are (type, fields)."""
    types = typestore()

    def make(kind: str, fields: dict[str, Any]) -> Any:
        values = {k: make(*v) if isinstance(v, tuple) and isinstance(v[1], dict) else v for k, v in fields.items()}
        return types.types[kind](**values)

    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for topic, kind, stamp, fields in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(connections[topic], stamp, types.serialize_cdr(make(kind, fields), kind))
    return path


def header(stamp: int, frame: str) -> tuple[str, dict[str, Any]]:
    time = ("builtin_interfaces/msg/Time", {"sec": stamp // 10**9, "nanosec": stamp % 10**9})
    return ("std_msgs/msg/Header", {"stamp": time, "frame_id": frame})


def image(topic: str, stamp: int, encoding: str, step: int, data: np.ndarray, big: int = 0, frame: str = "cam") -> Any:
    fields = {"header": header(stamp, frame), "height": HEIGHT, "width": WIDTH, "encoding": encoding, "is_bigendian": big, "step": step}
    return (topic, "sensor_msgs/msg/Image", stamp, {**fields, "data": np.ascontiguousarray(data).view(np.uint8).ravel()})


def pose_stamped(topic: str, stamp: int, xyz: tuple[float, float, float], q: tuple[float, ...] = (0, 0, 0, 1)) -> Any:
    pose = (
        "geometry_msgs/msg/Pose",
        {
            "position": ("geometry_msgs/msg/Point", dict(zip("xyz", map(float, xyz), strict=True))),
            "orientation": ("geometry_msgs/msg/Quaternion", dict(zip("xyzw", map(float, q), strict=True))),
        },
    )
    return (topic, "geometry_msgs/msg/PoseStamped", stamp, {"header": header(stamp, "world"), "pose": pose})


def calibration(folder: Path) -> Path:
    (folder / "K.txt").write_text("50 0 32\n0 50 24\n0 0 1\n")
    return folder / "K.txt"


def padded(pixels: np.ndarray, padding: int) -> np.ndarray:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    return np.hstack([rows, np.full((len(rows), padding), 7, np.uint8)])


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", lambda rgb: rgb),
        ("bgr8", lambda rgb: rgb[..., ::-1]),
        ("rgba8", lambda rgb: np.dstack([rgb, rgb[..., :1]])),
        ("bgra8", lambda rgb: np.dstack([rgb[..., ::-1], rgb[..., :1]])),
        ("mono8", lambda rgb: rgb[..., 0]),
        ("8UC1", lambda rgb: rgb[..., 0]),
        ("mono16", lambda rgb: rgb[..., 0].astype("<u2") * 257),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_encodings_with_padded_rows(tmp_path: Path, encoding: str, stored: Any, padding: int) -> None:
    rows = padded(stored(picture(0)), padding)
    bag = raw_bag(tmp_path / "b", [image("/cam/image", T0, encoding, rows.shape[1], rows)])
    out = open_sequence(bag, camera=calibration(tmp_path), base_from_camera=MOUNTING).image(0)
    gray = encoding in ("mono8", "8UC1", "mono16")
    np.testing.assert_array_equal(out, np.repeat(picture(0)[..., :1], 3, axis=2) if gray else picture(0))


def test_big_endian_sixteen_bit(tmp_path: Path) -> None:
    rows = padded(picture(0)[..., 0].astype(">u2") * 257, 0)
    bag = raw_bag(tmp_path / "b", [image("/cam/image", T0, "mono16", rows.shape[1], rows, big=1)])
    out = open_sequence(bag, camera=calibration(tmp_path), base_from_camera=MOUNTING).image(0)
    np.testing.assert_array_equal(out[..., 1], picture(0)[..., 0])


@pytest.mark.parametrize(
    ("encoding", "step", "words"), [("nonsense", 3 * WIDTH, "nonsense"), ("rgb8", WIDTH, "step"), ("32FC1", 4 * WIDTH, "32FC1")]
)
def test_images_that_cannot_be_are_told_in_one_line(tmp_path: Path, encoding: str, step: int, words: str) -> None:
    bag = raw_bag(tmp_path / "b", [image("/cam/image", T0, encoding, step, np.zeros((HEIGHT, step), np.uint8))])
    with pytest.raises(DataError, match=words) as caught:
        open_sequence(bag, camera=calibration(tmp_path), base_from_camera=MOUNTING)
    assert "/cam/image" in str(caught.value) and "\n" not in str(caught.value)


def test_one_of_several_cameras_must_be_named(tmp_path: Path) -> None:
    messages = [image(t, T0, "rgb8", 3 * WIDTH, picture(k)) for k, t in enumerate(["/left/image", "/right/image", "/depth/image"])]
    bag = raw_bag(tmp_path / "b", messages)
    with pytest.raises(DataError, match="has 2 cameras; name the image topic, one of: /left/image, /right/image"):
        open_sequence(bag)
    arguments = {"camera": calibration(tmp_path), "base_from_camera": MOUNTING}
    sequence = open_sequence(bag, image_topic="/right/image", **arguments)  # type: ignore[arg-type]
    np.testing.assert_array_equal(sequence.image(0), picture(1))
    assert sequence.names == (f"right_image-{T0}",)
    with pytest.raises(DataError, match="has no topic /up of images"):
        open_sequence(bag, image_topic="/up", **arguments)  # type: ignore[arg-type]


def test_what_a_bag_lacks_is_said_with_the_remedy(tmp_path: Path) -> None:
    bag = raw_bag(tmp_path / "b", [image("/cam/image", T0, "rgb8", 3 * WIDTH, picture(0))])
    with pytest.raises(DataError, match="has no camera_info; give the camera's calibration file"):
        open_sequence(bag)
    with pytest.raises(DataError, match=r"no transform base_link -> cam; it has: none; record /tf_static"):
        open_sequence(bag, camera=calibration(tmp_path))
    with pytest.raises(DataError, match="has no images"):
        open_sequence(raw_bag(tmp_path / "p", [pose_stamped("/pose", T0, (0, 0, 0))]))


def test_poses_of_a_topic_are_interpolated_and_bad_ones_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    poses = [pose_stamped("/pose", T0 + i * STEP, (i, 0, 0)) for i in range(4)]
    poses += [pose_stamped("/pose", T0 + STEP // 2, (9, 9, np.nan)), pose_stamped("/pose", T0 + STEP // 4, (0, 0, 0), (1, 1, 0, 1))]
    images = [image("/cam/image", T0 + i * STEP + STEP // 4, "rgb8", 3 * WIDTH, picture(i)) for i in range(4)]
    bag = raw_bag(tmp_path / "b", poses + images)
    sequence = open_sequence(bag, camera=calibration(tmp_path), base_from_camera=MOUNTING, poses_topic="/pose")
    assert [None if p is None else round(float(p.translation[0]), 6) for p in sequence.map_from_base] == [0.25, 1.25, 2.25, None]
    assert "2 poses of /pose" in caplog.text
    with pytest.raises(DataError, match=r"has no topic /nose of poses .*it has: /pose"):
        open_sequence(bag, camera=calibration(tmp_path), base_from_camera=MOUNTING, poses_topic="/nose")


def test_poses_of_a_file_go_before_those_of_the_bag(tmp_path: Path, bag: Path) -> None:
    write_tum(tmp_path / "t.txt", Trajectory(np.array([T0, T0 + N * STEP]), (Pose.identity(), Pose(np.eye(3), np.array([12.0, 0, 0])))))
    first, *others = open_sequence(bag, poses=tmp_path / "t.txt").map_from_base
    assert first is not None and not first.translation.any() and others == [None] * (N - 1)  # 1.2 s apart: not interpolated
    write_tum(tmp_path / "t.txt", Trajectory(np.array([0, 10**9]), (Pose.identity(), Pose.identity())))
    with pytest.raises(DataError, match=r"no pose is within 0.5 s of an image; are the clocks the same"):
        open_sequence(bag, poses=tmp_path / "t.txt")


def transform(topic: str, stamp: int, links: list[tuple[str, str, tuple[float, float, float]]]) -> Any:
    types = typestore().types
    made = []
    for parent, child, xyz in links:
        sec, nanosec = divmod(stamp, 10**9)
        head = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](sec, nanosec), parent)
        vector, quaternion = types["geometry_msgs/msg/Vector3"](*map(float, xyz)), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        made.append(types["geometry_msgs/msg/TransformStamped"](head, child, types["geometry_msgs/msg/Transform"](vector, quaternion)))
    return (topic, "tf2_msgs/msg/TFMessage", stamp, {"transforms": made})


def test_poses_and_mounting_by_a_chain_of_tf(tmp_path: Path) -> None:
    messages = [transform("/tf_static", T0, [("base_link", "mast", (0, 0, 1)), ("mast", "cam", (0.5, 0, 0))])]
    for i in range(5):
        links = [("map", "odom", (10.0, 0, 0)), ("odom", "base_link", (i, 0, 0))]
        messages.append(transform("/tf", T0 + i * STEP, links))
    messages += [image("/cam/image", T0 + i * STEP + STEP // 2, "rgb8", 3 * WIDTH, picture(i)) for i in range(4)]
    sequence = open_sequence(raw_bag(tmp_path / "b", messages), camera=calibration(tmp_path))
    np.testing.assert_allclose(sequence.base_from_camera.translation, [0.5, 0, 1])
    assert [float(p.translation[0]) for p in sequence.map_from_base if p] == pytest.approx([10.5, 11.5, 12.5, 13.5])
    assert [float(p.translation[0]) for p in sequence.odom_from_base if p] == pytest.approx([0.5, 1.5, 2.5, 3.5])


def test_stamps_that_repeat_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Sent twice, and in the wrong order: the header's stamp counts, not the time of recording."""
    messages = [image("/cam/image", T0 + k * STEP, "rgb8", 3 * WIDTH, picture(k)) for k in (1, 0, 1, 2)]
    messages = [(topic, kind, T0 + i, fields) for i, (topic, kind, _, fields) in enumerate(messages)]
    sequence = open_sequence(raw_bag(tmp_path / "b", messages), camera=calibration(tmp_path), base_from_camera=MOUNTING)
    assert sequence.stamps_ns.tolist() == [T0, T0 + STEP, T0 + 2 * STEP] and "1 of 4 images" in caplog.text
    for i in range(3):
        np.testing.assert_array_equal(sequence.image(i), picture(i))


def test_a_camera_info_of_another_size_is_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "b") as writer:
        writer.static_transform(T0, MOUNTING)
        writer.image(T0, picture(0))
        writer.camera_info(T0, Camera.pinhole(32, 24, 25, 25, 16, 12))
    with pytest.raises(DataError, match=r"camera_info says 32x24 but /camera/image_raw is 64x48"):
        open_sequence(tmp_path / "b")


@pytest.mark.parametrize("storage", STORAGES)
def test_detections_and_masks_lie_beside_the_images_that_they_are_of(tmp_path: Path, storage: Any) -> None:
    moving = np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.5
    boxes = {"car": [1, 2, 11, 6], "person": [3.5, 0, 4.5, 9]}
    found = [Detection(np.array(box, dtype=np.float32), label, 0.5) for label, box in boxes.items()]
    with BagWriter(tmp_path / "bag", storage=storage) as bag:
        bag.static_transform(T0, MOUNTING)
        bag.camera_info(T0, CAMERA)
        bag.image(T0, picture(0))
        bag.detections(T0, found, moving)
        bag.detections(T0 + STEP, [])
    with BagReader(tmp_path / "bag") as reader:
        assert reader.topics["/detections"].message_type == "vision_msgs/msg/Detection2DArray"
        (_, stamp, first), (_, _, second) = reader.read(["/detections"])
        assert stamp == T0 and (first.header.stamp.sec, first.header.frame_id) == (T0 // 10**9, "camera_optical_frame")
        said = {one.results[0].hypothesis.class_id: one.bbox for one in first.detections}
        assert (said["car"].center.position.x, said["car"].center.position.y, said["car"].size_x, said["car"].size_y) == (6, 4, 10, 4)
        assert said["person"].size_x == 1 and first.detections[0].results[0].hypothesis.score == 0.5 and second.detections == []
        ((_, _, mask),) = reader.read(["/detections/mask"])
        np.testing.assert_array_equal(mask.data.reshape(HEIGHT, WIDTH), np.where(moving, 255, 0))
    assert len(open_sequence(tmp_path / "bag")) == 1, "the mask is no second camera"


def test_the_messages_of_detections_are_those_of_vision_msgs(checkout: Path) -> None:
    from ros2_loc.io.vision_messages import _DEFINITIONS

    folder = checkout / "interfaces" / "vision_msgs" / "msg"
    assert {path.stem: path.read_text().split() for path in folder.glob("*.msg")} == {n: t.split() for n, t in _DEFINITIONS.items()}
