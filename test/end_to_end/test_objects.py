"""Objects through real nodes: a detector of another package, and networks with random weights; masks that meet their images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.types import Detection
from ros2_loc.io.bags import BagWriter

pytestmark = pytest.mark.slow


def box_of(i: int) -> tuple[int, int, int, int]:
    """Where a red car drives through image i: columns and rows from, to."""
    x = 20 + (9 * i) % 220
    return x, 110, x + 60, 160


def painted(street: Any, bag: Path, *, image_format: Any = "raw", detections: bool = False) -> Path:
    """The street's second drive with a red car in front of the camera; `detections`: with what a detector said of it."""
    sequence = street.recording.sequence()
    with BagWriter(bag, image_format=image_format) as writer:
        writer.static_transform(int(sequence.stamps_ns[0]), sequence.base_from_camera)
        for sample in street.recording.odometry():
            writer.odometry(sample.stamp_ns, sample.odom_from_base)
        for i, stamp in enumerate(sequence.stamps_ns.tolist()):
            image = sequence.image(i).copy()
            x0, y0, x1, y1 = box_of(i)
            image[y0:y1, x0:x1] = (255, 0, 0)
            writer.camera_info(stamp, sequence.camera)
            writer.image(stamp, image)
            if detections:
                moving = np.zeros(image.shape[:2], dtype=bool)
                moving[y0:y1, x0:x1] = True
                writer.detections(stamp, [Detection(np.array(box_of(i), dtype=np.float32), "car", 0.9)], moving)
    return bag


@pytest.fixture
def colours(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A detector of another package, as far as the nodes' processes can tell."""
    announced = tmp_path / "packages" / "colour_plugin-1.0.dist-info"
    announced.mkdir(parents=True)
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: colour-plugin\nVersion: 1.0\n")
    (announced / "entry_points.txt").write_text("[ros2_loc.detector]\ncolours = colour_plugin:Colours\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(announced.parent), str(checkout / "test" / "ros"), os.environ["PYTHONPATH"]]))
    return "colours"


class Objects:
    """What a detector says, heard beside the other nodes."""

    def __init__(self, observer: Any) -> None:
        from sensor_msgs.msg import Image
        from vision_msgs.msg import Detection2DArray

        from ros2_loc.ros import qos

        self.arrays: list[Any] = []
        self.masks: list[Any] = []
        self.overlays: list[Any] = []
        observer.node.create_subscription(Detection2DArray, "detections", self.arrays.append, qos.RESULT)
        observer.node.create_subscription(Image, "detections/mask", self.masks.append, qos.image_qos(depth=20))
        observer.node.create_subscription(Image, "detections/overlay", self.overlays.append, qos.image_qos(depth=20))


def said(observer: Any, task: str) -> dict[str, str]:
    return {kv.key: kv.value for kv in observer.diagnostics[task].values}


@pytest.mark.parametrize(("container", "transport"), [("false", "raw"), ("true", "compressed")])
def test_the_localizer_is_kept_off_what_the_detector_finds(
    container: str, transport: str, street: Any, colours: str, observe: Callable[..., Any], run_graph: Callable[..., Any], tmp_path: Path
) -> None:
    from ros2_loc.ros import conversions

    bag = painted(street, tmp_path / "bag", image_format="raw" if transport == "raw" else "png")
    observer = observe(street)
    objects = Objects(observer)
    recorded = {"record": tmp_path / "out", "record_overlays": "true"}
    detecting = {"detector": colours, "container": container, "image_transport": transport}
    run = run_graph(**street.arguments, **detecting, **recorded, bag=bag, rate=0.5)
    assert observer.until(lambda: not run.is_running, timeout_s=120.0), "the run does not end with its bag"
    assert run.process.returncode == 0 and "died" not in run.log and "Traceback" not in run.log
    stamps = {int(stamp): i for i, stamp in enumerate(street.recording.stamps_ns)}
    assert len(objects.arrays) >= 5 and len(objects.masks) >= 5 and objects.overlays
    for array in objects.arrays:
        (car,) = [one for one in array.detections if one.bbox.size_x > 30]
        x0, y0, x1, y1 = box_of(stamps[conversions.ns_from_stamp(array.header.stamp)])
        assert (car.bbox.center.position.x, car.bbox.center.position.y) == ((x0 + x1) / 2, (y0 + y1) / 2)
        assert car.results[0].hypothesis.class_id == "car" and array.header.frame_id == "camera_optical_frame"
    context = said(observer, "map_localizer: context")
    assert int(context["paired by stamp"]) >= 4 and int(context["refused"]) == 0
    assert int(context["paired by stamp"]) >= 2 * int(context["localized without"])
    assert np.mean([s.accepted for s in observer.statuses]) > 0.7 and observer.errors_m(observer.estimates).max() < 0.5
    assert float(said(observer, "object_detector: detection")["objects per image"]) >= 1
    assert "no errors" in observer.diagnostics["object_detector: errors"].message
    written = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    assert {image["stamp_ns"] for image in written} <= set(stamps) and len(written) >= 5
    assert list((tmp_path / "out" / "objects").glob("*.jpg")) and list((tmp_path / "out" / "overlays").glob("*.jpg"))


@pytest.mark.parametrize("context", ["mask", "detections"])
def test_recorded_detections_are_as_good_as_a_detector(
    context: str, street: Any, observe: Callable[..., Any], run_graph: Callable[..., Any], tmp_path: Path
) -> None:
    bag, observer = painted(street, tmp_path / "bag", detections=True), observe(street)
    run = run_graph(**street.arguments, bag=bag, context=context, rate=0.5)
    assert observer.until(lambda: not run.is_running, timeout_s=120.0), "the run does not end with its bag"
    assert run.process.returncode == 0 and "Traceback" not in run.log
    counts = said(observer, "map_localizer: context")
    assert int(counts["paired by stamp"]) >= 5 and (counts["localized without"], counts["refused"]) == ("0", "0")
    assert np.mean([s.accepted for s in observer.statuses]) > 0.7 and observer.errors_m(observer.estimates).max() < 0.5


def test_the_pipelines_own_detector_runs_in_the_localizer(
    street: Any, colours: str, observe: Callable[..., Any], run_graph: Callable[..., Any], tmp_path: Path
) -> None:
    bag, observer = painted(street, tmp_path / "bag"), observe(street)
    pipeline = tmp_path / "with_detector.yaml"
    pipeline.write_text(street.pipeline.read_text() + f"detector: {{name: {colours}}}\n")
    run = run_graph(map=street.map, pipeline=pipeline, bag=bag, rate=0.5)
    assert observer.until(lambda: not run.is_running, timeout_s=120.0), "the run does not end with its bag"
    assert run.process.returncode == 0 and "Traceback" not in run.log
    assert "stage detect (s)" in said(observer, "map_localizer: localization")
    assert "own detector" in observer.diagnostics["map_localizer: context"].message
    assert np.mean([s.accepted for s in observer.statuses]) > 0.7 and observer.errors_m(observer.estimates).max() < 0.5


def test_a_detector_that_is_too_slow_costs_masks_and_no_poses(
    street: Any, colours: str, observe: Callable[..., Any], run_graph: Callable[..., Any], tmp_path: Path, checkout: Path
) -> None:
    """Each image takes it 1.5 s, the budget is 0.5 s; the bag is played in a loop."""
    settings = tmp_path / "nodes"
    settings.mkdir()
    for path in (checkout / "config" / "nodes").glob("*.yaml"):
        (settings / path.name).write_text(path.read_text().replace('settings: [""]', 'settings: ["slow_s=1.5"]'))
    bag, observer = painted(street, tmp_path / "bag"), observe(street)
    run = run_graph(**street.arguments, bag=bag, detector=colours, node_config=settings, loop="true")
    assert observer.until(lambda: "round 2 is over" in run.log and len(observer.statuses) >= 8, timeout_s=180.0)
    assert "starting anew" in run.log and "the image in work is dropped" in run.log
    counts, accepted = said(observer, "map_localizer: context"), [s.accepted for s in observer.statuses]
    assert int(counts["localized without"]) > int(counts["paired by stamp"]) and float(counts["delay behind the image (s)"]) > 0.5
    report = observer.diagnostics["map_localizer: context"]
    assert report.level == b"\x01" and "raise context_wait_ms (500)" in report.message
    assert np.mean(accepted) > 0.6 and observer.errors_m(observer.estimates).max() < 0.5
    assert run.stop() == 0 and "Traceback" not in run.log


@pytest.mark.parametrize("detector", ["centernet", "d2det"])
def test_a_network_in_a_process_of_its_own_survives_bad_images(
    detector: str, street: Any, observe: Callable[..., Any], run_graph: Callable[..., Any], random_weights: Callable[[str], Path]
) -> None:
    from sensor_msgs.msg import Image

    from ros2_loc.ros import conversions, qos

    observer = observe(street)
    objects, sequence = Objects(observer), street.recording.sequence()
    images = observer.node.create_publisher(Image, "camera/image_raw", qos.image_qos())
    run = run_graph(**street.arguments, detector=detector, detector_weights=random_weights(detector))
    assert observer.until(lambda: images.get_subscription_count() == 2, 120.0)

    def answered(image: Image) -> bool:
        before = len(objects.arrays)
        images.publish(image)
        return bool(observer.until(lambda: len(objects.arrays) > before, 30.0))

    def sent(i: int) -> Image:
        return conversions.image_from_rgb(sequence.image(i), int(sequence.stamps_ns[i]), "camera_optical_frame")

    assert answered(sent(0))
    unknown, short, nan = sent(1), sent(1), sent(1)
    unknown.encoding, short.data = "holographic8", short.data[:1000]
    nan.encoding, nan.step, nan.data = "32FC1", nan.width * 4, np.full((nan.height, nan.width), np.nan, dtype=np.float32).tobytes()
    for bad in (unknown, short, nan):
        images.publish(bad)
        observer.until(lambda: False, 0.5)
    smaller = conversions.image_from_rgb(np.zeros((50, 70, 3), dtype=np.uint8), int(sequence.stamps_ns[2]), "another_camera")
    assert answered(smaller) and objects.arrays[-1].header.frame_id == "another_camera"
    assert answered(sent(3)) and observer.until(lambda: objects.masks[-1].width == sequence.camera.width)
    assert observer.until(lambda: said(observer, "object_detector: detection").get("images refused") == "3")
    lines = [line for line in run.log.splitlines() if "[WARN]" in line and "object_detector" in line]
    assert len(lines) == 3 and all("/camera/image_raw: " in line for line in lines)
    assert run.is_running and run.stop() == 0 and "Traceback" not in run.log
