"""`ros2-loc detect`: what a detector finds in images, as pictures and in COCO's form."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ros2_loc.cli.arguments import Parser, progress_wanted
from ros2_loc.cli.detector_arguments import add_detector, detector_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ros2_loc.core.interfaces import Detector
    from ros2_loc.core.types import Detection
    from ros2_loc.io.detection_results import DetectionResults

EXAMPLE = (
    "ros2-loc detect drive/images --out found\n"
    "  ros2-loc detect a.jpg b.jpg --detector d2det --weights d2det_town --labels car,person --out found\n"
    "  ros2-loc detect drive.mp4 --every 10 --set scales=[0.8,1,1.2] --out found"
)


def add_arguments(parser: Parser) -> None:
    """Which images, by which detector, what is shown."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders of them, patterns in quotes, videos")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets a picture of each image, and detections.json")
    parser.add_argument("--min-score", type=float, default=0.3, metavar="S", help="of what is drawn and counted (default: 0.3)")
    parser.add_argument("--labels", metavar="A,B,...", help="only these, also in detections.json (default: all that it knows)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth image of a video (default: 1)")
    parser.add_argument("--no-pictures", action="store_true", help="write detections.json alone")
    add_detector(parser)


def run(arguments: argparse.Namespace) -> int:
    """Detect, say one line for each image, write; what can't be read is said at its place and the others go on."""
    from ros2_loc.errors import ConfigError
    from ros2_loc.io.detection_results import DetectionResults
    from ros2_loc.io.image_inputs import find_inputs

    if arguments.every < 1 or not 0.0 <= arguments.min_score <= 1.0:
        raise ConfigError(f"--every is 1 or more and --min-score in 0 to 1, got {arguments.every} and {arguments.min_score}")
    inputs = find_inputs(arguments.images)
    if any(one.path.resolve().parent == arguments.out.resolve() for one in inputs):
        raise ConfigError(f"--out {arguments.out}: holds images that are to be looked at: choose another folder")
    detector = detector_of(arguments)
    labels = _wanted_labels(arguments.labels, detector)
    results = DetectionResults(detector.labels, _source(arguments))
    work = _Work(arguments, detector, labels, results, _picture_names(inputs))
    try:
        work.look_at(inputs)
    finally:  # an interrupted call keeps what it has
        if len(results):
            results.write(arguments.out)
    if len(results):
        print(f"{len(results)} images: {counted(work.counts)}; in {arguments.out}")
    return 1 if work.failed else 0


def counted(counts: dict[str, int]) -> str:
    """ "3 car, 1 person", most first."""
    return ", ".join(f"{number} {label}" for label, number in sorted(counts.items(), key=lambda row: (-row[1], row[0]))) or "nothing"


class _Work:
    """Images in batches through the detector, each with its line and its picture."""

    def __init__(
        self, arguments: argparse.Namespace, detector: Detector, labels: frozenset[str], results: DetectionResults, names: dict[str, str]
    ) -> None:
        self._arguments, self._detector, self._labels, self._results, self._names = arguments, detector, labels, results, names
        self.counts: dict[str, int] = {}
        self.failed = 0

    def look_at(self, inputs: list[Any]) -> None:
        """All of them; raises what the detector raises."""
        from tqdm import tqdm

        from ros2_loc.io.image_inputs import count_images

        every = self._arguments.every
        total = sum(count_images(one, every) for one in inputs) if progress_wanted() else None
        batch: list[tuple[str, Any]] = []
        with tqdm(total=total, desc=" detect", disable=not progress_wanted(), leave=False, dynamic_ncols=True) as bar:
            for named in self._read(inputs):
                batch.append(named)
                if len(batch) == self._detector.batch_size:
                    bar.update(self._detect(batch))
                    batch = []
            if batch:
                bar.update(self._detect(batch))

    def _read(self, inputs: list[Any]) -> Iterator[tuple[str, Any]]:
        """Names and images of those that can be read."""
        from tqdm import tqdm

        from ros2_loc.errors import DataError
        from ros2_loc.io.image_inputs import images_of

        for one in inputs:
            try:
                yield from images_of(one, self._arguments.every)
            except DataError as error:
                self.failed += 1
                tqdm.write(f"ros2-loc: error: {' '.join(str(error).split())}", file=sys.stderr)

    def _detect(self, batch: list[tuple[str, Any]]) -> int:
        import time

        from tqdm import tqdm

        from ros2_loc.cli.console import milliseconds
        from ros2_loc.io.image_pairs import View

        frames = [View(name, lambda image=image: image).frame() for name, image in batch]  # type: ignore[misc]
        start = time.perf_counter()
        found = self._detector.detect_many(frames)
        each_s = (time.perf_counter() - start) / len(batch)
        for (name, image), detections in zip(batch, found, strict=True):
            kept = [one for one in detections if one.label in self._labels]
            self._results.add(name, image.shape[1::-1], kept)
            shown = [one for one in kept if one.score >= self._arguments.min_score]
            tqdm.write(f"{name}: {counted(_count(shown))}  ({milliseconds(each_s)})", file=sys.stdout)
            for one in shown:
                self.counts[one.label] = self.counts.get(one.label, 0) + 1
            if not self._arguments.no_pictures:
                self._draw(name, image, shown)
        return len(batch)

    def _draw(self, name: str, image: Any, shown: list[Detection]) -> None:
        from ros2_loc.io.images import write_image
        from ros2_loc.visualization.detections import draw_detections

        write_image(self._arguments.out / self._names.get(name, name), draw_detections(image, shown), jpeg_quality=92)


def _count(detections: list[Detection]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in detections:
        counts[one.label] = counts.get(one.label, 0) + 1
    return counts


def _wanted_labels(text: str | None, detector: Detector) -> frozenset[str]:
    from ros2_loc.errors import ConfigError

    if text is None:
        return frozenset(detector.labels)
    wanted = [word.strip() for word in text.split(",")]
    if unknown := [word for word in wanted if word not in detector.labels]:
        some = ", ".join(detector.labels[:12]) + (", ..." if len(detector.labels) > 12 else "")
        raise ConfigError(f"--labels: {unknown[0]!r} is unknown to these weights, they have: {some}")
    return frozenset(wanted)


def _source(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the results are from."""
    from ros2_loc.cli.detector_arguments import section_of

    return {"made_by": "ros2-loc detect", "detector": section_of(arguments)}


def _picture_names(inputs: list[Any]) -> dict[str, str]:
    """Pictures are JPEG: another ending where that leaves the names different, else one more."""
    plain = {one.name: str(Path(one.name).with_suffix(".jpg")) for one in inputs if not one.is_video}
    return plain if len(set(plain.values())) == len(plain) else {name: f"{name}.jpg" for name in plain}
