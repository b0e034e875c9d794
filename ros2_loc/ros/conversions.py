"""Between ROS messages and the package's records: each conversion once, each refusal one line.

What comes in is checked as navigation2 checks it (finite numbers, unit quaternion to 1e-4, a frame name, a covariance that is one), so that
no bad message becomes a pose. Messages carry their stamp through as integer nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseStamped, PoseWithCovarianceStamped, Quaternion, Transform, TransformStamped, Vector3
from geometry_msgs.msg import Pose as PoseMessage
from nav_msgs.msg import Odometry, Path
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, NavSatFix, NavSatStatus
from std_msgs.msg import Header

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix, GeoOrigin, geodetic_from_enu
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate, Rejection
from ros2_loc.errors import DataError, GeometryError, MissingDependencyError
from ros2_loc.ros import images

if TYPE_CHECKING:
    from ros2_loc.localization.map_localizer import Localization
    from ros2_loc.mapping.sparse_map import Place

_UNIT_TOLERANCE = 1e-4  # navigation2's, on the squared norm


class InitialPose(NamedTuple):
    """stamp_ns (0: now); pose in the message's frame; covariance (6, 6) in ROS order, in which variances may be 0 (not stated)."""

    stamp_ns: int
    pose: Pose
    covariance: NDArray[np.float64]


class OdometrySample(NamedTuple):
    """stamp_ns; odom_from_base; covariance (6, 6) of the pose in ROS order, or None where the message states none."""

    stamp_ns: int
    odom_from_base: Pose
    covariance: NDArray[np.float64] | None


# --- time and headers


def ns_from_stamp(stamp: Time) -> int:
    """Integer nanoseconds of a builtin_interfaces/Time.

    Raises:
        DataError: a nanosecond part of a second or more, or a time before 1970.
    """
    if stamp.sec < 0 or stamp.nanosec >= 1_000_000_000:
        raise DataError(f"stamp {stamp.sec} s {stamp.nanosec} ns is not a time; fill header.stamp")
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def stamp_from_ns(stamp_ns: int) -> Time:
    """builtin_interfaces/Time of integer nanoseconds."""
    return Time(sec=int(stamp_ns // 1_000_000_000), nanosec=int(stamp_ns % 1_000_000_000))


def header(stamp_ns: int, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id)


def _checked_stamp(message: Any) -> int:
    if not message.header.frame_id:
        raise DataError(f"{type(message).__name__} has an empty header.frame_id; name the frame it is given in")
    return ns_from_stamp(message.header.stamp)


# --- images and cameras


def rgb_from_image(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a raw or compressed image; gray is repeated, 16 bit are scaled to 8.

    Raises:
        DataError: an unknown encoding, one without colour (depth), sizes that contradict each other, or data that cannot be decoded.
    """
    try:
        if isinstance(message, CompressedImage):
            return images.CvBridge().compressed_imgmsg_to_cv2(message, "rgb8")
        images.check_layout(message)
        if message.encoding == "8UC1":  # many drivers' name for mono8
            return images.convert(images.CvBridge().imgmsg_to_cv2(message), "mono8", "rgb8")
        return images.CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (images.CvBridgeError, images.PythonCvBridgeError, ValueError, RuntimeError) as error:
        raise DataError(f"image refused: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error


def image_from_rgb(rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """sensor_msgs/Image (rgb8) of (H, W, 3) uint8 RGB."""
    return images.CvBridge().cv2_to_imgmsg(rgb, "rgb8", header(stamp_ns, frame_id))


def camera_from_message(message: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of the images that come with this CameraInfo: region of interest and binning applied.

    Args:
        message: sensor_msgs/CameraInfo.
        rectified: the images are rectified, so P holds and there is no distortion.

    Raises:
        DataError: not calibrated, no size, an unknown distortion model, or a region outside of the image.
    """
    k = np.asarray(message.p).reshape(3, 4)[:, :3] if rectified else np.asarray(message.k)
    try:
        if not np.isfinite(k).all() or not k.any():
            raise GeometryError(f"{'P' if rectified else 'K'} is {'all zero' if not k.any() else 'not finite'}: calibrate the camera")
        model, d = ("", ()) if rectified else (message.distortion_model, message.d)
        return _windowed(Camera.from_ros(message.width, message.height, k, model, d), message)
    except GeometryError as error:
        raise DataError(f"camera_info of {message.header.frame_id or 'a camera without frame_id'} refused: {error}") from error


def _windowed(camera: Camera, message: CameraInfo) -> Camera:
    """K speaks of the full sensor; the image is its region of interest (0 x 0: all of it), then binned (0: not)."""
    roi = message.roi
    if roi.width and roi.height:
        if roi.x_offset + roi.width > camera.width or roi.y_offset + roi.height > camera.height:
            region = f"{roi.width}x{roi.height}+{roi.x_offset}+{roi.y_offset}"
            raise GeometryError(f"its region {region} leaves the {camera.width}x{camera.height} image")
        camera = camera.cropped(roi.x_offset, roi.y_offset, roi.width, roi.height)
    if message.binning_x > 1 or message.binning_y > 1:
        camera = camera.resized(camera.width // max(message.binning_x, 1), camera.height // max(message.binning_y, 1))
    return camera


# --- poses


def pose_from_message(message: PoseMessage) -> Pose:
    """The pose of a geometry_msgs/Pose.

    Raises:
        DataError: a number that is not finite, or a quaternion whose squared norm differs from 1 by more than 1e-4.
    """
    return _pose(message.position, message.orientation)


def pose_from_transform(message: Transform) -> Pose:
    """`header.frame_id`-from-`child_frame_id` of a geometry_msgs/Transform; raises as `pose_from_message`."""
    return _pose(message.translation, message.rotation)


def _pose(position: Any, orientation: Any) -> Pose:
    translation = np.array([position.x, position.y, position.z])
    quaternion = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if not (np.isfinite(translation).all() and np.isfinite(quaternion).all()):
        raise DataError(f"pose refused: position {translation.tolist()}, quaternion {quaternion.tolist()} are not all finite")
    if abs(quaternion @ quaternion - 1.0) > _UNIT_TOLERANCE:
        raise DataError(f"pose refused: quaternion {quaternion.tolist()} (x, y, z, w) is not of unit length; normalize it")
    return Pose.from_quaternion_xyzw(quaternion, translation)


def pose_to_message(pose: Pose) -> PoseMessage:
    """geometry_msgs/Pose."""
    x, y, z = pose.translation.tolist()
    return PoseMessage(position=Point(x=x, y=y, z=z), orientation=_quaternion(pose))


def pose_stamped(pose: Pose, stamp_ns: int, frame_id: str) -> PoseStamped:
    """geometry_msgs/PoseStamped."""
    return PoseStamped(header=header(stamp_ns, frame_id), pose=pose_to_message(pose))


def transform_stamped(parent_from_child: Pose, stamp_ns: int, parent: str, child: str) -> TransformStamped:
    """geometry_msgs/TransformStamped, ready for a TF broadcaster."""
    x, y, z = parent_from_child.translation.tolist()
    transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=_quaternion(parent_from_child))
    return TransformStamped(header=header(stamp_ns, parent), child_frame_id=child, transform=transform)


def _quaternion(pose: Pose) -> Quaternion:
    x, y, z, w = pose.quaternion_xyzw.tolist()
    return Quaternion(x=x, y=y, z=z, w=w)


def path(poses: Iterable[tuple[int, Pose]], stamp_ns: int, frame_id: str) -> Path:
    """nav_msgs/Path of (stamp_ns, frame_from_base) pairs."""
    return Path(header=header(stamp_ns, frame_id), poses=[pose_stamped(pose, ns, frame_id) for ns, pose in poses])


# --- estimates and odometry


def estimate_to_message(estimate: PoseEstimate, frame_id: str) -> PoseWithCovarianceStamped:
    """geometry_msgs/PoseWithCovarianceStamped of `map_from_base`; the record's covariance is in ROS order already."""
    message = PoseWithCovarianceStamped(header=header(estimate.stamp_ns, frame_id))
    message.pose.pose = pose_to_message(estimate.map_from_base)
    message.pose.covariance = estimate.covariance.ravel()
    return message


def estimate_from_message(message: PoseWithCovarianceStamped, source: str, num_inliers: int = 0) -> PoseEstimate:
    """The estimate that another localizer sent.

    Args:
        message: geometry_msgs/PoseWithCovarianceStamped.
        source: name of the sender.
        num_inliers: correspondences behind it, where known.

    Raises:
        DataError: empty frame, bad stamp, bad pose, or a covariance that is not finite, symmetric and positive definite.
    """
    sample = initial_pose_from_message(message)
    try:
        return PoseEstimate(sample.stamp_ns, sample.pose, sample.covariance, num_inliers, source)
    except GeometryError as error:
        raise DataError(f"pose from {source} refused: {error}") from error


def initial_pose_from_message(message: PoseWithCovarianceStamped) -> InitialPose:
    """The pose that a person or a program sets; variances may be 0 (RViz states none for z, roll and pitch).

    Raises:
        DataError: empty frame, bad stamp, bad pose, or a covariance that is not finite or has a negative variance.
    """
    stamp_ns = _checked_stamp(message)
    return InitialPose(stamp_ns, pose_from_message(message.pose.pose), _covariance(message.pose.covariance))


def odometry_from_message(message: Odometry) -> OdometrySample:
    """Stamp, `odom_from_base` and covariance of a nav_msgs/Odometry; a singular covariance (all zero, planar) counts as not stated.

    Raises:
        DataError: empty frame, bad stamp, bad pose, or a covariance that is not finite or has a negative variance.
    """
    stamp_ns = _checked_stamp(message)
    odom_from_base = pose_from_message(message.pose.pose)
    covariance = _covariance(message.pose.covariance)
    covariance = 0.5 * (covariance + covariance.T)
    return OdometrySample(stamp_ns, odom_from_base, covariance if np.linalg.eigvalsh(covariance)[0] > 0 else None)


def odometry_to_message(estimate: PoseEstimate, map_frame: str, base_frame: str) -> Odometry:
    """nav_msgs/Odometry of a fused pose; the twist is not estimated, which its first variance of -1 says."""
    message = Odometry(header=header(estimate.stamp_ns, map_frame), child_frame_id=base_frame)
    message.pose.pose = pose_to_message(estimate.map_from_base)
    message.pose.covariance = estimate.covariance.ravel()
    message.twist.covariance[0] = -1.0
    return message


def _covariance(values: Any) -> NDArray[np.float64]:
    covariance = np.array(values, dtype=np.float64).reshape(6, 6)
    if not np.isfinite(covariance).all():
        raise DataError("covariance refused: it has numbers that are not finite")
    if (np.diag(covariance) < 0).any():
        raise DataError(f"covariance refused: its diagonal {np.diag(covariance).tolist()} has negative variances")
    return covariance


# --- satellites


def fix_from_message(message: NavSatFix, antenna_in_base_m: ArrayLike = (0.0, 0.0, 0.0)) -> GeoFix:
    """The position in a sensor_msgs/NavSatFix.

    Raises:
        DataError: the receiver has no fix, or its position does not exist.
    """
    stamp_ns = _checked_stamp(message)
    if message.status.status < 0:
        raise DataError(f"NavSatFix refused: its status is {message.status.status}, no fix")
    covariance = np.array(message.position_covariance, dtype=np.float64).reshape(3, 3)
    known = message.position_covariance_type != NavSatFix.COVARIANCE_TYPE_UNKNOWN and np.isfinite(covariance).all()
    position = (message.latitude, message.longitude, message.altitude)
    try:
        return GeoFix(stamp_ns, *position, covariance if known else None, np.asarray(antenna_in_base_m, dtype=np.float64))
    except GeometryError as error:
        raise DataError(f"NavSatFix refused: {error}") from error


def fix_from_estimate(estimate: PoseEstimate, origin: GeoOrigin, enu_from_map: Pose, base_frame: str) -> NavSatFix:
    """sensor_msgs/NavSatFix of where base_link is; `enu_from_map` puts the map into the east-north-up frame at `origin`."""
    lat_deg, lon_deg, alt_m = geodetic_from_enu(origin, enu_from_map.apply(estimate.map_from_base.translation))
    message = NavSatFix(header=header(estimate.stamp_ns, base_frame), latitude=float(lat_deg), longitude=float(lon_deg), altitude=float(alt_m))
    message.status.status = NavSatStatus.STATUS_FIX
    rotation = enu_from_map.rotation
    message.position_covariance = (rotation @ estimate.covariance[:3, :3] @ rotation.T).ravel()
    message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_KNOWN
    return message


# --- what a localizer says


def own_messages() -> Any:
    """The module `ros2_loc.msg`, compiled on installation.

    Raises:
        MissingDependencyError: it was not compiled.
    """
    try:
        return import_module("ros2_loc.msg")
    except ImportError as error:
        raise MissingDependencyError("ros2_loc.msg is not compiled: run `pip install .` or `colcon build` in its folder") from error


def localization_status(localization: Localization, *, state: int, source: str, frame_id: str) -> Any:
    """ros2_loc/LocalizationStatus of one frame; `state` is one of the message's constants."""
    result = localization.result
    return status_message(
        result.stamp_ns,
        state=state,
        source=source,
        frame_id=frame_id,
        rejection=(result.reason.value, result.detail) if isinstance(result, Rejection) else None,
        num_matches=localization.num_matches,
        num_inliers=result.num_inliers if isinstance(result, PoseEstimate) else 0,
        stage_s=localization.stage_s,
    )


def status_message(
    stamp_ns: int,
    *,
    state: int,
    source: str,
    frame_id: str,
    rejection: tuple[str, str] | None,
    num_matches: int = 0,
    num_inliers: int = 0,
    stage_s: Mapping[str, float] | None = None,
) -> Any:
    """ros2_loc/LocalizationStatus; `rejection` is (reason, detail), or None for an accepted pose."""
    message = own_messages().LocalizationStatus(header=header(stamp_ns, frame_id), state=state, source=source, accepted=rejection is None)
    message.rejection_reason, message.rejection_detail = rejection or ("", "")
    message.num_matches, message.num_inliers = num_matches, num_inliers
    message.inlier_ratio = num_inliers / num_matches if num_matches else 0.0
    message.stage_names = list(stage_s or {})
    message.stage_times_s = [float(s) for s in (stage_s or {}).values()]
    return message


def retrieved_places(localization: Localization, places: Sequence[Place], frame_id: str) -> Any:
    """ros2_loc/RetrievedPlaces: the candidates of one frame, best first; `places` are the map's."""
    msg = own_messages()
    retrieved = [
        msg.RetrievedPlace(
            place_id=places[candidate.source].name,
            pose=pose_to_message(places[candidate.source].map_from_base),
            score=float(candidate.score),
            num_inliers=len(localization.pairs_px) if candidate.source == localization.best_place else 0,
        )
        for candidate in localization.candidates
    ]
    return msg.RetrievedPlaces(header=header(localization.result.stamp_ns, frame_id), places=retrieved)
