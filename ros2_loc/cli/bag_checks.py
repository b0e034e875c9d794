"""What `doctor` looks at in a bag: can a map be built from it, can it be localized?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ros2_loc.cli.checks import Finding, bad, good, note
from ros2_loc.errors import Ros2LocError

_SAMPLES = 50


def check_bag(path: Path, image_topic: str | None, map_folder: Path | None) -> list[Finding]:
    """Images, calibration, TF, odometry, truth, clock and QoS of a bag; against the map's camera where one is given."""
    from ros2_loc.io.bag_reader import BagReader

    try:
        with BagReader(path) as reader:
            topics = ", ".join(f"{t.name} ({t.count})" for t in reader.topics.values())
            length_s = (reader.end_ns - reader.start_ns) * 1e-9
            return [good("bag", f"{path}: {length_s:.1f} s, {topics}"), *_content(path, reader, image_topic, map_folder)]
    except Ros2LocError as error:
        return [bad("bag", str(error))]


def _content(path: Path, reader: Any, image_topic: str | None, map_folder: Path | None) -> Iterator[Finding]:
    from ros2_loc.io.sequences import open_sequence

    try:
        sequence = open_sequence(path, image_topic=image_topic)
    except Ros2LocError as error:
        yield bad("camera", str(error))
        return
    topic = _topic_of(sequence.names[0], reader)
    yield from _images(sequence, topic)
    yield from _calibration(sequence, map_folder)
    yield from _odometry(sequence)
    if sequence.has_poses:
        posed = sum(pose is not None for pose in sequence.map_from_base)
        yield good("poses", f"{posed} of {len(sequence)} images have a pose: a map can be built from this bag")
    else:
        yield note("poses", "none on /ground_truth/odometry or TF map -> base_link", "needed only to build a map (or --method incremental)")
    yield from _clock(reader, topic)
    yield from _reliability(reader, topic)


def _topic_of(name: str, reader: Any) -> str:
    """The image topic in the name of an image, `camera_image_raw-<stamp>`."""
    stem = name.rpartition("-")[0]
    return next((t for t in reader.topics if t.strip("/").replace("/", "_") == stem), "")


def _images(sequence: Any, topic: str) -> Iterator[Finding]:
    import numpy as np

    steps_s = np.diff(sequence.stamps_ns) * 1e-9
    rate = f"{1.0 / float(np.median(steps_s)):.1f} Hz" if len(steps_s) else "one image"
    yield good("images", f"{topic}: {len(sequence)} of {sequence.camera.width}x{sequence.camera.height} at {rate}")
    if topic.endswith("/compressed"):
        yield note("transport", "the images are compressed", "start with image_transport:=compressed")
    base = topic.removesuffix("/compressed")
    if base != "/camera/image_raw":
        yield note(
            "topic", f"the camera is not on /camera/image_raw, where the nodes listen, but on {base}", f"start with image_topic:={base}"
        )
    gaps = int((steps_s > 5 * np.median(steps_s)).sum()) if len(steps_s) else 0
    if gaps:
        yield note(
            "gaps", f"{gaps} gaps between images, the longest of {steps_s.max():.1f} s", "was the disk or the network too slow to record?"
        )


def _calibration(sequence: Any, map_folder: Path | None) -> Iterator[Finding]:
    from ros2_loc.mapping.sparse_map import SparseMap

    camera = sequence.camera
    x, y, z = sequence.base_from_camera.translation
    yield good(
        "calibration",
        f"{camera.model}, focal length {camera.focal_px[0]:.1f} px, distortion {[round(d, 4) for d in camera.distortion] or 'none'}",
    )
    yield good("mounting", f"TF: the camera sits at ({x:.2f}, {y:.2f}, {z:.2f}) m on base_link")
    if not 0.2 < camera.focal_px[0] / camera.width < 5:
        yield bad(
            "calibration", f"a focal length of {camera.focal_px[0]:.1f} px for {camera.width} px is hardly right", "calibrate the camera"
        )
    if map_folder is None:
        return
    try:
        mapped = SparseMap.load(map_folder, verify=False).camera
    except Ros2LocError:
        return  # check_map has said so
    if mapped != camera:
        text = f"not the camera of the map ({mapped.model} {mapped.width}x{mapped.height}, {mapped.focal_px[0]:.1f} px)"
        yield note("calibration", text, "fine when the vehicle has another camera; else one of the two calibrations is wrong")


def _odometry(sequence: Any) -> Iterator[Finding]:
    known = sum(pose is not None for pose in sequence.odom_from_base)
    if known == len(sequence):
        yield good("odometry", "at every image")
    elif known:
        yield note(
            "odometry", f"at {known} of {len(sequence)} images only", "record nav_msgs/Odometry, or TF odom -> base_link, all the time"
        )
    else:
        yield note("odometry", "none", "localization works without, but map->odom is published only with nav_msgs/Odometry on /odom")


def _clock(reader: Any, topic: str) -> Iterator[Finding]:
    """Stamps in the headers against the times of recording."""
    import itertools

    import numpy as np

    from ros2_loc.io.ros_messages import ns_from_stamp

    late_s = []
    for connection, log_ns, data in itertools.islice(reader.messages([topic]), _SAMPLES):
        late_s.append((log_ns - ns_from_stamp(reader.deserialize(data, connection.msgtype).header.stamp)) * 1e-9)
    median_s = float(np.median(late_s))
    if abs(median_s) < 0.5:
        yield good("stamps", f"images were recorded {1000 * median_s:.0f} ms after their stamps")
    else:
        yield bad(
            "stamps",
            f"images were recorded {median_s:+.1f} s after their stamps",
            "synchronize the camera's clock with the computer's (PTP, chrony)",
        )


def _reliability(reader: Any, topic: str) -> Iterator[Finding]:
    """A player offers what was offered at the recording; a reliable subscription gets nothing from a best-effort publisher."""
    offers = [offer for c in reader.connections if c.topic == topic for offer in getattr(c.ext, "offered_qos_profiles", [])]
    if offers and all(str(getattr(o.reliability, "name", o.reliability)).upper() == "BEST_EFFORT" for o in offers):
        yield bad(
            "qos",
            f"{topic} was recorded from a best-effort publisher, the localizer subscribes reliably: no image would arrive",
            "copy config/nodes, set image_reliability: best_effort in map_localizer.yaml, start with node_config:=<the copy>",
        )
    else:
        yield good("qos", "the localizer's subscription fits what was recorded")
