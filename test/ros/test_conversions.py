"""Records and messages: round trips, and one line for each thing that is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ros2_loc.msg", reason="needs rclpy and the compiled messages: pip install .")

from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, NavSatFix

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate, PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import DataError
from ros2_loc.localization.place_search import FoundPlaces
from ros2_loc.ros import conversions as c

numbers = st.floats(-50, 50)
poses = st.lists(numbers, min_size=6, max_size=6).map(lambda v: Pose.exp([*v[:3], *(x / 20 for x in v[3:])]))
COVARIANCE = np.diag([0.1, 0.2, 0.3, 0.01, 0.02, 0.03]) + 0.001 * np.ones((6, 6))
ESTIMATE = PoseEstimate(1_700_000_000_123_456_789, Pose.exp([1, -2, 3, 0.3, -0.2, 2.5]), COVARIANCE, 42, "map_localizer")


def over_the_wire(message: Any) -> Any:
    return deserialize_message(serialize_message(message), type(message))


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_keep_every_nanosecond(stamp_ns: int) -> None:
    assert c.ns_from_stamp(c.stamp_from_ns(stamp_ns)) == stamp_ns


@settings(deadline=None)
@given(poses)
def test_poses_round_trip(pose: Pose) -> None:
    for back in (
        c.pose_from_message(c.pose_to_message(pose)),
        c.pose_from_transform(c.transform_stamped(pose, 5, "map", "odom").transform),
        c.pose_from_message(c.path([(5, pose)], 5, "map").poses[0].pose),
    ):
        np.testing.assert_allclose(back.matrix, pose.matrix, atol=1e-9)


def test_a_transform_says_parent_from_child() -> None:
    message = c.transform_stamped(Pose.exp([1, 2, 3, 0, 0, 0]), 7_000_000_001, "odom", "base_link")
    assert (message.header.frame_id, message.child_frame_id, message.transform.translation.y) == ("odom", "base_link", 2.0)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (7, 1)


def test_estimates_round_trip_with_their_covariance() -> None:
    message = over_the_wire(c.estimate_to_message(ESTIMATE, "map"))
    assert message.header.frame_id == "map"
    back = c.estimate_from_message(message, "map_localizer", 42)
    assert (back.stamp_ns, back.num_inliers, back.source) == (ESTIMATE.stamp_ns, 42, "map_localizer")
    np.testing.assert_allclose(back.covariance, COVARIANCE)
    np.testing.assert_allclose(back.map_from_base.matrix, ESTIMATE.map_from_base.matrix, atol=1e-12)


def pose_message(**changes: Any) -> PoseWithCovarianceStamped:
    message = c.estimate_to_message(ESTIMATE, "map")
    for path, value in changes.items():
        target = message
        *way, last = path.split("__")
        for name in way:
            target = getattr(target, name)
        setattr(target, last, value)
    return message


def covariance(index: tuple[int, int], value: float) -> np.ndarray:
    changed = COVARIANCE.copy()
    changed[index] = value
    return changed.ravel()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"header__frame_id": ""}, "empty header.frame_id"),
        ({"header__stamp__nanosec": 2_000_000_000}, "is not a time"),
        ({"pose__pose__position__x": float("nan")}, "not all finite"),
        ({"pose__pose__orientation__w": float("inf")}, "not all finite"),
        ({"pose__pose__orientation__w": 2.0}, "not of unit length"),
        ({"pose__pose__orientation__w": 0.0}, "not of unit length"),
        ({"pose__covariance": covariance((2, 2), -1.0)}, "negative variances"),
        ({"pose__covariance": covariance((0, 1), float("nan"))}, "not finite"),
    ],
)
def test_a_pose_that_navigation2_would_refuse_is_refused(changes: dict[str, Any], words: str) -> None:
    for convert in (c.initial_pose_from_message, lambda m: c.estimate_from_message(m, "someone")):
        with pytest.raises(DataError, match=words) as refused:
            convert(pose_message(**changes))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("values", [covariance((0, 1), 5.0), covariance((2, 2), 0.0), np.ones(36)])
def test_an_estimate_needs_a_covariance_that_is_one(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="pose from someone refused"):
        c.estimate_from_message(pose_message(pose__covariance=values), "someone")


def test_a_pose_clicked_in_rviz_is_taken_as_it_is() -> None:
    variances = np.diag([0.25, 0.25, 0, 0, 0, 0.0685])
    sample = c.initial_pose_from_message(pose_message(pose__covariance=variances.ravel()))
    np.testing.assert_array_equal(sample.covariance, variances)


@pytest.mark.parametrize(
    ("values", "stated"), [(np.zeros(36), False), (np.diag([0.1, 0.1, 0, 0, 0, 0.1]).ravel(), False), (np.diag([0.1] * 6).ravel(), True)]
)
def test_odometry_states_a_covariance_or_none(values: np.ndarray, stated: bool) -> None:
    message = Odometry(header=c.header(5, "odom"), child_frame_id="base_link")
    message.pose.covariance = values
    message.pose.pose.position.x = 2.0
    sample = c.odometry_from_message(over_the_wire(message))
    assert sample.stamp_ns == 5 and sample.odom_from_base.translation[0] == 2.0 and (sample.covariance is not None) == stated


def test_fused_odometry_says_that_it_has_no_twist() -> None:
    message = over_the_wire(c.odometry_to_message(ESTIMATE, "map", "base_link"))
    assert (message.header.frame_id, message.child_frame_id, message.twist.covariance[0]) == ("map", "base_link", -1.0)
    np.testing.assert_allclose(c.odometry_from_message(message).covariance, COVARIANCE)


def info(**changes: Any) -> CameraInfo:
    message = CameraInfo(header=c.header(1, "camera"), width=640, height=480, distortion_model="plumb_bob", d=[0.1, -0.2, 0.0, 0.0, 0.0])
    message.k = [500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]
    message.p = [400.0, 0.0, 300.0, 0.0, 0.0, 400.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_a_camera_info_is_a_camera() -> None:
    assert c.camera_from_message(info()) == Camera("OPENCV", 640, 480, (500, 510, 320, 240, 0.1, -0.2, 0, 0))
    assert c.camera_from_message(info(), rectified=True) == Camera("PINHOLE", 640, 480, (400, 400, 300.5, 200.5))


def test_region_and_binning_make_the_camera_of_the_image() -> None:
    message = info(binning_x=2, binning_y=2)
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 100, 50, 400, 300
    camera = c.camera_from_message(message)
    assert (camera.width, camera.height) == (200, 150)
    assert camera.focal_px == (250, 255) and camera.principal_point_px == (110, 95)


def outside() -> CameraInfo:
    message = info()
    message.roi.x_offset, message.roi.width, message.roi.height = 600, 100, 10
    return message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (info(k=[0.0] * 9), "calibrate the camera"),
        (info(k=[float("nan")] * 9), "not finite"),
        (info(width=0), "camera_info of camera refused"),
        (info(distortion_model="mystery"), "mystery"),
        (info(d=[0.1, 0.2]), "2 coefficients"),
        (outside(), "leaves the 640x480 image"),
    ],
)
def test_a_camera_info_that_is_none_is_refused_in_one_line(message: CameraInfo, words: str) -> None:
    with pytest.raises(DataError, match=words) as refused:
        c.camera_from_message(message)
    assert "\n" not in str(refused.value)


def test_images_round_trip() -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    message = over_the_wire(c.image_from_rgb(rgb, 9, "camera"))
    assert message.encoding == "rgb8" and message.header.frame_id == "camera"
    np.testing.assert_array_equal(c.rgb_from_image(message), rgb)


def test_gray_without_a_colour_name_is_gray_and_depth_is_no_picture() -> None:
    gray = Image(height=1, width=2, step=2, encoding="8UC1", data=bytes([3, 200]))
    np.testing.assert_array_equal(c.rgb_from_image(gray), [[[3] * 3, [200] * 3]])
    depth = Image(height=1, width=1, step=4, encoding="32FC1", data=bytes(4))
    for message in (depth, CompressedImage(format="jpeg", data=b"no"), Image(encoding="rgb8", height=2, width=2, step=6, data=b"")):
        with pytest.raises(DataError) as refused:
            c.rgb_from_image(message)
        assert "\n" not in str(refused.value)


def test_what_cameras_send_becomes_rgb_as_it_does_from_files() -> None:
    rgb = np.random.default_rng(2).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    alpha = np.zeros((4, 6, 1), np.uint8)
    gray = rgb[..., :1].astype(np.uint16)
    sent = {
        "rgba8": np.dstack([rgb, alpha]),
        "bgra8": np.dstack([rgb[..., ::-1], alpha]),
        "rgb16": rgb.astype(np.uint16) * 257,
        "bgr16": rgb[..., ::-1].astype(np.uint16) * 257,
        "mono16": gray * 257,
    }
    for encoding, pixels in sent.items():
        data = np.ascontiguousarray(pixels)
        message = Image(height=4, width=6, step=data.nbytes // 4, encoding=encoding, data=data.tobytes())
        expected = np.repeat(rgb[..., :1], 3, axis=2) if encoding == "mono16" else rgb
        np.testing.assert_array_equal(c.rgb_from_image(message), expected)
    thermal = np.array([[0, 4095]], np.uint16)  # 12 bits
    message = Image(height=1, width=2, step=4, encoding="mono16", data=thermal.tobytes())
    np.testing.assert_array_equal(c.rgb_from_image(message), [[[0] * 3, [255] * 3]])


def test_depth_and_images_over_100_megapixels_are_refused_with_what_to_do() -> None:
    depth = Image(height=1, width=1, step=2, encoding="16UC1", data=bytes(2))
    with pytest.raises(DataError, match="send it as mono16"):
        c.rgb_from_image(depth)
    with pytest.raises(DataError, match="20000x10000 px are 200 megapixels"):
        c.rgb_from_image(Image(height=10000, width=20000, step=20000, encoding="mono8"))


def test_a_fix_of_an_estimate_is_where_the_map_says() -> None:
    origin, enu_from_map = GeoOrigin(49.0, 8.4, 110.0), Pose.exp([10, 20, 0, 0, 0, np.pi / 2])
    message = over_the_wire(c.fix_from_estimate(ESTIMATE, origin, enu_from_map, "base_link"))
    enu = enu_from_geodetic(origin, message.latitude, message.longitude, message.altitude)
    np.testing.assert_allclose(enu, enu_from_map.apply(ESTIMATE.map_from_base.translation), atol=1e-6)
    fix = c.fix_from_message(message)
    assert fix.covariance_enu is not None
    np.testing.assert_allclose(np.diag(fix.covariance_enu), COVARIANCE[[1, 0, 2], [1, 0, 2]], atol=1e-9)


def test_a_receiver_without_a_fix_is_refused() -> None:
    message = NavSatFix(header=c.header(1, "gps"), latitude=49.0, longitude=8.0)
    message.status.status = -1
    with pytest.raises(DataError, match="no fix"):
        c.fix_from_message(message)
    message.status.status = 0
    assert c.fix_from_message(message).covariance_enu is None
    message.latitude = 149.0
    with pytest.raises(DataError, match="is not a place"):
        c.fix_from_message(message)


def localization(result: PoseEstimate | Rejection) -> Any:
    return SimpleNamespace(
        result=result,
        places=FoundPlaces((Candidate(1, 0.9), Candidate(0, 0.4)), np.array([0.9, np.nan]), np.zeros(2, dtype=np.int64)),
        num_matches=100,
        best_place=1 if isinstance(result, PoseEstimate) else None,
        pairs_px=np.zeros((30 if isinstance(result, PoseEstimate) else 0, 4)),
        stage_s={"extract": 0.2, "match": 0.05},
    )


def test_a_status_tells_what_an_image_was_worth() -> None:
    message = over_the_wire(c.localization_status(localization(ESTIMATE), state=1, source="map_localizer", frame_id="map"))
    assert message.accepted and message.state == message.TRACKING and message.rejection_reason == ""
    assert (message.num_matches, message.num_inliers) == (100, 42) and message.inlier_ratio == pytest.approx(0.42)
    assert list(message.stage_names) == ["extract", "match"] and list(message.stage_times_s) == pytest.approx([0.2, 0.05])
    assert c.ns_from_stamp(message.header.stamp) == ESTIMATE.stamp_ns


def test_a_status_tells_why_there_is_no_pose() -> None:
    rejected = localization(Rejection(7, RejectionReason.TOO_FEW_INLIERS, "6 of 100, 12 are needed"))
    message = over_the_wire(c.localization_status(rejected, state=2, source="map_localizer", frame_id="map"))
    assert not message.accepted and message.rejection_reason == "too_few_inliers" and message.rejection_detail.startswith("6 of 100")
    assert message.num_inliers == 0 and message.header.stamp.nanosec == 7


def test_retrieved_places_are_named_with_their_poses() -> None:
    places: Any = [SimpleNamespace(name=f"{i:06d}.png", map_from_base=Pose.exp([i, 0, 0, 0, 0, 0])) for i in range(2)]
    message = over_the_wire(c.retrieved_places(localization(ESTIMATE), places, "map"))
    assert [p.place_id for p in message.places] == ["000001.png", "000000.png"]
    assert [p.num_inliers for p in message.places] == [30, 0]
    assert message.places[0].pose.position.x == 1.0 and message.places[0].score == pytest.approx(0.9)
