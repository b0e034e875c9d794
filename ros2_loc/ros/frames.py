"""From an image message to the `Frame` that a localizer takes: pixels, calibration and mounting, or a reason why there is none."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, Rejection, RejectionReason
from ros2_loc.errors import Ros2LocError
from ros2_loc.ros.conversions import camera_from_message, ns_from_stamp, rgb_from_image
from ros2_loc.ros.tf import TransformException, TransformReader


class FrameBuilder:
    """Puts together what belongs to an image. `camera_info` is a callback, `build` is called by the worker that will use the frame."""

    def __init__(self, transforms: TransformReader, base_frame: str, *, rectified: bool, patience_s: float) -> None:
        """
        Args:
            transforms: knows where the camera is mounted.
            base_frame: what map poses are poses of, base_link by convention.
            rectified: the images are rectified: the camera is P of camera_info, without distortion.
            patience_s: how long to wait for a transform at the image's stamp.
        """
        self._transforms, self._base_frame = transforms, base_frame
        self._rectified, self._patience_s = rectified, patience_s
        self._lock = threading.Lock()
        self._info: CameraInfo | None = None
        self._camera: Camera | None = None

    def camera_info(self, message: CameraInfo) -> None:
        """Take a calibration; the newest holds for all images that follow."""
        with self._lock:
            if self._info is None or not _same_calibration(self._info, message):
                self._camera = None
            self._info = message

    @property
    def is_calibrated(self) -> bool:
        """Whether a camera_info has come."""
        return self._info is not None

    def build(self, message: Any) -> Frame | Rejection:
        """The frame of an Image or CompressedImage, or why there is none: what the sender has to put right, in one line."""
        stamp_ns = 0
        try:
            stamp_ns = ns_from_stamp(message.header.stamp)
            if stamp_ns == 0:
                return Rejection(0, RejectionReason.BAD_INPUT, "the image has no stamp: its driver must fill header.stamp")
            camera, camera_frame = self._calibration(message.header.frame_id)
            if camera is None:
                return Rejection(stamp_ns, RejectionReason.BAD_INPUT, "no camera_info yet: publish the calibration beside the images")
            if not camera_frame:
                return Rejection(stamp_ns, RejectionReason.BAD_INPUT, "no frame_id in image and camera_info: name the optical frame")
            mounting = self._mounting(camera_frame, stamp_ns)
            return mounting if isinstance(mounting, Rejection) else Frame(stamp_ns, rgb_from_image(message), camera, mounting)
        except Ros2LocError as error:
            return Rejection(stamp_ns, RejectionReason.BAD_INPUT, str(error))

    def _calibration(self, image_frame: str) -> tuple[Camera | None, str]:
        with self._lock:
            if self._info is None:
                return None, image_frame
            if self._camera is None:
                self._camera = camera_from_message(self._info, self._rectified)
            return self._camera, image_frame or self._info.header.frame_id

    def _mounting(self, camera_frame: str, stamp_ns: int) -> Pose | Rejection:
        try:
            return self._transforms.pose(self._base_frame, camera_frame, stamp_ns, self._patience_s)
        except TransformException as error:
            text = f"no transform from {camera_frame} to {self._base_frame}: {' '.join(str(error).split())}"
            return Rejection(stamp_ns, RejectionReason.NO_TRANSFORM, text)


def _same_calibration(a: CameraInfo, b: CameraInfo) -> bool:
    scalars = ("width", "height", "distortion_model", "binning_x", "binning_y", "roi")
    arrays = ("k", "d", "p")
    return all(getattr(a, name) == getattr(b, name) for name in scalars) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays
    )
