"""CenterNet: objects as triplets of keypoints, two corners and the centre.

Duan, Bai, Xie, Qi, Huang, Tian, "CenterNet: Keypoint Triplets for Object Detection", ICCV 2019.
"""

from ros2_loc.models.centernet.decode import Keypoints, decode
from ros2_loc.models.centernet.network import CenterNet, Heads, LastHeads, normalized
from ros2_loc.models.centernet.official import load_published

__all__ = ["CenterNet", "Heads", "Keypoints", "LastHeads", "decode", "load_published", "normalized"]
