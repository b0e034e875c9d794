"""Maps and localization with a detector, by the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import write_image

SMALL = ["--set", "extractor.max_keypoints=800", "--set", "encoder.num_words=16"]


@pytest.fixture
def busy_street(street_folder: Path, town_sequence: ImageSequence, painted_movers: str, tmp_path: Path) -> list[object]:
    """The street with a vehicle ahead."""
    from painted_movers import paint

    for i, name in enumerate(town_sequence.names):
        write_image(tmp_path / "images" / name, paint(town_sequence.image(i), (40, 90, 140, 170)))
    return [tmp_path / "images", "--poses", street_folder / "poses.tum", "--camera", street_folder / "camera.yaml"]


def test_map_and_localize_with_a_detector(busy_street: list[object], tmp_path: Path, call: Callable) -> None:
    images, *options = busy_street
    detector = ["--set", "detector.name=painted"]
    out = tmp_path / "map"
    said = call("map", "build", images, out, *options, "--every", 2, *SMALL, *detector)
    assert said.code == 0, said.err
    assert "% of the images, by painted: car" in said.out
    assert "by painted" in call("map", "info", out).out

    same = call("localize", out, images, *options, "--start", 1, "--every", 4, "--truth", *SMALL, *detector)
    assert same.code == 0, same.err
    assert "painted saw 5 x car in 5 images" in same.out and "time: detect" in same.out and "note:" not in same.out
    other = call("localize", out, images, *options, "--start", 1, "--every", 10, "--truth", *SMALL)
    assert other.code == 0 and "note: the map was built with detector painted, the pipeline has none" in other.out
    assert "painted saw" not in other.out

    good = call("map", "check", out, *SMALL, *detector)
    assert good.code == 0 and "masks" not in good.out.replace("masked", "")
    noted = call("map", "check", out, *SMALL)
    assert noted.code == 0 and "built with detector painted, the pipeline has none" in noted.out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["detector.name=nobody"], "there is no detector 'nobody'"),
        (["detector.name=painted", "detector.sharp=1"], "sharp"),
        (["detector.name=painted", "context.labels=[lorry]"], "does not know 'lorry'; it knows car, tree"),
        (["detector.name=painted", "context.margin=3"], "margin"),
        (["detector.name=painted", "context.min_score=3"], "min_score lies in 0 to 1"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(
    busy_street: list[object], tmp_path: Path, call: Callable, settings: list[str], words: str
) -> None:
    images, *options = busy_street
    overrides = [word for setting in settings for word in ("--set", setting)]
    said = call("map", "build", images, tmp_path / "map", *options, *SMALL, *overrides)
    assert said.code == 2 and words in said.err and len(said.err.strip().splitlines()) == 1, said.err
