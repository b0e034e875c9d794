"""vision_msgs 4 for bags: `rosbags` knows the message types of ROS itself only."""

from __future__ import annotations

from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

DETECTIONS_TYPE = "vision_msgs/msg/Detection2DArray"

_DEFINITIONS = {
    "Point2D": "float64 x\nfloat64 y\n",
    "Pose2D": "Point2D position\nfloat64 theta\n",
    "BoundingBox2D": "Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "ObjectHypothesis": "string class_id\nfloat64 score\n",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id\n",
    "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections\n",
}


def register_vision_messages(types: Typestore) -> None:
    """Add what detections are made of to a store of message types."""
    for name, text in _DEFINITIONS.items():
        types.register(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
