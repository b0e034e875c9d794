"""Between ROS messages and the package's records: each conversion once, each refusal one line.

What comes in is checked as navigation2 checks it (finite numbers, unit quaternion to 1e-4, a frame name, a covariance that is one), so that
no bad message becomes a pose. Messages carry their stamp through as integer nanoseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseStamped, PoseWithCovarianceStamped, Quaternion, Transform, TransformStamped, Vector3
from geometry_msgs.msg import Pose as PoseMessage
from nav_msgs.msg import Odometry, Path
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, NavSatFix, NavSatStatus
from std_msgs.msg import Header

from ros2_loc.core.geodesy import GeoOrigin, enu_from_ecef_rotation, geodetic_from_ecef, geodetic_from_enu
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate, Rejection
from ros2_loc.errors import DataError, GeometryError, MissingDependencyError
from ros2_loc.io import image_encodings
from ros2_loc.io.ros_messages import OdometrySample as OdometrySample
from ros2_loc.io.ros_messages import camera_from_message as camera_from_message
from ros2_loc.io.ros_messages import checked_stamp, covariance_of
from ros2_loc.io.ros_messages import fix_from_message as fix_from_message
from ros2_loc.io.ros_messages import ns_from_stamp as ns_from_stamp
from ros2_loc.io.ros_messages import odometry_from_message as odometry_from_message
from ros2_loc.io.ros_messages import pose_from_message as pose_from_message
from ros2_loc.io.ros_messages import pose_from_transform as pose_from_transform
from ros2_loc.ros import images

if TYPE_CHECKING:
    from ros2_loc.localization.map_localizer import Localization
    from ros2_loc.mapping.sparse_map import Place


class InitialPose(NamedTuple):
    """stamp_ns (0: now); pose in the message's frame; covariance (6, 6) in ROS order, in which variances may be 0 (not stated)."""

    stamp_ns: int
    pose: Pose
    covariance: NDArray[np.float64]


# --- time and headers


def stamp_from_ns(stamp_ns: int) -> Time:
    """builtin_interfaces/Time of integer nanoseconds."""
    return Time(sec=int(stamp_ns // 1_000_000_000), nanosec=int(stamp_ns % 1_000_000_000))


def header(stamp_ns: int, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id)


def require_frame(what: str, frame: str, wanted: str) -> None:
    """Refuse what is given in another frame.

    Raises:
        DataError: which it is and which it should be.
    """
    if frame.lstrip("/") != wanted:
        raise DataError(f"{what} refused: its frame is {frame!r}, not {wanted!r}; send it in {wanted!r} or set the node's parameter")


# --- images and cameras


def rgb_from_image(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a raw or compressed image, the same as offline: gray is repeated, alpha dropped, 16 bit become 8.

    Raises:
        DataError: an unknown encoding, one without colour (depth), sizes that contradict each other, over 100 megapixels, or data that
            cannot be decoded.
    """
    try:
        return image_encodings.rgb_from_image(message)
    except (DataError, ValueError, RuntimeError) as error:
        raise DataError(f"image refused: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error


def image_from_rgb(rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """sensor_msgs/Image (rgb8) of (H, W, 3) uint8 RGB."""
    return images.CvBridge().cv2_to_imgmsg(rgb, "rgb8", header(stamp_ns, frame_id))


# --- poses


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
    stamp_ns = checked_stamp(message)
    return InitialPose(stamp_ns, pose_from_message(message.pose.pose), covariance_of(message.pose.covariance))


def odometry_to_message(estimate: PoseEstimate, map_frame: str, base_frame: str) -> Odometry:
    """nav_msgs/Odometry of a fused pose; the twist is not estimated, which its first variance of -1 says."""
    message = Odometry(header=header(estimate.stamp_ns, map_frame), child_frame_id=base_frame)
    message.pose.pose = pose_to_message(estimate.map_from_base)
    message.pose.covariance = estimate.covariance.ravel()
    message.twist.covariance[0] = -1.0
    return message


# --- satellites


def fix_from_estimate(estimate: PoseEstimate, origin: GeoOrigin, enu_from_map: Pose, base_frame: str) -> NavSatFix:
    """sensor_msgs/NavSatFix of where base_link is; `enu_from_map` puts the map into the east-north-up frame at `origin`."""
    lat_deg, lon_deg, alt_m = geodetic_from_enu(origin, enu_from_map.apply(estimate.map_from_base.translation))
    message = NavSatFix(header=header(estimate.stamp_ns, base_frame))
    message.latitude, message.longitude, message.altitude = float(lat_deg), float(lon_deg), float(alt_m)
    message.status.status = NavSatStatus.STATUS_FIX
    rotation = enu_from_map.rotation
    message.position_covariance = (rotation @ estimate.covariance[:3, :3] @ rotation.T).ravel()
    message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_KNOWN
    return message


def origin_from_earth(earth_from_map: Pose) -> tuple[GeoOrigin, Pose]:
    """Where the map's frame lies on the earth and how it is turned against east, north, up there (`enu_from_map`, a pure rotation).

    Args:
        earth_from_map: REP 105's transform, earth-centred and earth-fixed.

    Raises:
        GeometryError: that is no place on the earth.
    """
    lat_deg, lon_deg, alt_m = (float(v) for v in geodetic_from_ecef(earth_from_map.translation))
    origin = GeoOrigin(lat_deg, lon_deg, alt_m)
    return origin, Pose(enu_from_ecef_rotation(lat_deg, lon_deg) @ earth_from_map.rotation, np.zeros(3))


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


def retrieved_places(
    localization: Localization, places: Sequence[Place], frame_id: str, thumbnail: Callable[[int], bytes] | None = None
) -> Any:
    """ros2_loc/RetrievedPlaces: the candidates of one frame, best first.

    Args:
        places: of the map.
        thumbnail: gives the JPEG of a place by its number; None: the messages have none.
    """
    msg = own_messages()
    found, when = localization.places, header(localization.result.stamp_ns, frame_id)
    retrieved = []
    for candidate, similarity, verified in zip(found.candidates, found.similarity.tolist(), found.verified.tolist(), strict=True):
        place = places[candidate.source]
        message = msg.RetrievedPlace(place_id=place.name, pose=pose_to_message(place.map_from_base), score=float(candidate.score))
        message.similarity, message.verified_matches = similarity, verified
        message.num_inliers = len(localization.pairs_px) if candidate.source == localization.best_place else 0
        if thumbnail is not None:
            message.thumbnail = CompressedImage(header=when, format="jpeg", data=array("B", thumbnail(candidate.source)))
        retrieved.append(message)
    return msg.RetrievedPlaces(header=when, confidence=found.confidence, reranking=found.reranking, places=retrieved)
