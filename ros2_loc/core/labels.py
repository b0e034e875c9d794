"""Names of what detectors tell apart, in the order of the data sets' own class numbers, and which of them move or are parked.

A name is written as its data set writes it ("Pedestrian" of KITTI); `same_label` compares without regard to case, blanks and lines.
"""

from __future__ import annotations

COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant", "stop sign"),
    *("parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove"),
    *("skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed"),
    *("dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
# COCO numbers its 80 classes up to 90: ten were named and never annotated.
_COCO_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(number for number in range(1, 91) if number not in _COCO_UNUSED)

KITTI = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
UAVDT = ("car", "truck", "bus")
ISAID = (
    *("ship", "storage_tank", "baseball_diamond", "tennis_court", "basketball_court", "Ground_Track_Field", "Bridge", "Large_Vehicle"),
    *("Small_Vehicle", "Helicopter", "Swimming_pool", "Roundabout", "Soccer_ball_field", "plane", "Harbor"),
)

_PEOPLE = ("person", "pedestrian", "Pedestrian", "Person_sitting", "rider", "cyclist", "Cyclist")
_VEHICLES = (
    *("bicycle", "car", "Car", "van", "Van", "truck", "Truck", "bus", "train", "tram", "Tram", "motorcycle", "vehicle", "airplane"),
    *("plane", "boat", "ship", "Large_Vehicle", "Small_Vehicle", "Helicopter"),
)
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_CARRIED = ("backpack", "umbrella", "handbag", "suitcase", "skateboard", "frisbee", "sports ball", "kite", "skis", "snowboard", "surfboard")

MOVERS = frozenset((*_PEOPLE, *_VEHICLES, *_ANIMALS, *_CARRIED, "Misc"))  # KITTI's Misc: trailers, segways


def same_label(a: str, b: str) -> bool:
    """Whether two names differ in case, blanks, hyphens and underscores at most."""
    return plain_label(a) == plain_label(b)


def plain_label(name: str) -> str:
    """A name in lower case with single blanks: "Large_Vehicle" -> "large vehicle"."""
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())
