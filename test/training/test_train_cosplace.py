"""CosPlace end to end on small worlds: sources, batches, validation, learning, resuming, and wrong calls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import picture

from ros2_loc.cli.main import main
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.geotagged import geotagged_name
from ros2_loc.io.images import write_image
from ros2_loc.models.cosplace import CosPlace
from ros2_loc.models.weights import load_model, read_metadata
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.place_batches import PlaceBatches, PlaceChanges, changed, resized
from ros2_loc.training.place_classes import PlaceClasses
from ros2_loc.training.place_images import PlaceData, PlaceImages, PlaceQueries, geotagged, geotagged_queries, held_out, joined, of_poses
from ros2_loc.training.place_objective import CosPlaceObjective
from ros2_loc.training.place_recipes import CosPlaceRecipe
from ros2_loc.training.place_towns import PlaceTowns
from ros2_loc.training.place_validation import PlaceValidation, recalls, right_places
from ros2_loc.training.runs import resumed
from ros2_loc.training.train_cosplace import backbone_of, random, start, train_cosplace

TINY = CosPlaceRecipe(
    network=CosPlace.Config("resnet18", 8, truncate=3),
    classes=PlaceClasses.Config(10.0, 90.0, 1, 1, min_images=2, groups=0),
    samples=PlaceBatches.Config(4, (32, 48), PlaceChanges(0.1, 0.1, 0.1, 0.05, 0.1)),
    losses=CosPlaceObjective.Config(classifier_rate=10.0),
    validation=PlaceValidation.Config(within_m=8.0),
    loop=TrainingLoop.Config(epochs=2, steps_per_epoch=2, learning_rate=1e-3, workers=0),
)


def _street(count: int = 8, views: int = 3, seed: int = 0) -> PlaceImages:
    """`views` pictures of each of so many places 10 m apart, each somewhat other than the rest."""
    place = np.repeat(np.arange(count), views)
    rng = np.random.default_rng(seed)
    positions = np.stack([10.0 * place + 5.0 + rng.uniform(-2, 2, len(place)), np.full(len(place), 5.0)], axis=1)
    noise = rng.integers(0, 40, len(place))

    def load(i: int) -> np.ndarray:
        return np.clip(picture(int(place[i]), 48, 32).astype(int) + noise[i], 0, 255).astype(np.uint8)

    return PlaceImages(positions, np.full(len(place), 10.0), np.zeros(len(place), np.int64), load)


def _data() -> PlaceData:
    return PlaceData(_street(), PlaceQueries(_street(6, 1, seed=1), _street(6, 1, seed=2)))


def _train(recipe: CosPlaceRecipe, folder: Path, **options):  # type: ignore[no-untyped-def]
    return train_cosplace(recipe, _data, folder, device="cpu", **options)


def test_the_export_is_the_best_network_with_its_papers(tmp_path: Path) -> None:
    trained = _train(TINY, tmp_path, source_name="street")
    network, about = load_model(trained.weights), read_metadata(trained.weights)
    assert isinstance(network, CosPlace) and network.config == TINY.network
    assert (about["data"], about["step"], about["validation"]["recall_at_1"]) == ("street", trained.best_step, trained.best)
    assert about["licence"] == "that of the training images" and resumed(CosPlaceRecipe, tmp_path, ()) == TINY
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert {"train/accuracy", "validation/recall_at_5"} <= set(epochs[0])


def test_training_longer_ends_where_one_go_would_have(tmp_path: Path) -> None:
    constant = replace(TINY, loop=replace(TINY.loop, schedule="constant"))
    _train(replace(constant, loop=replace(constant.loop, epochs=1)), tmp_path / "one")
    with pytest.raises(ConfigError, match="go on with --resume"):
        _train(TINY, tmp_path / "one")
    _train(resumed(CosPlaceRecipe, tmp_path / "one", ["loop.epochs=2"]), tmp_path / "one", resume=True)
    _train(constant, tmp_path / "whole")
    last = [torch.load(tmp_path / name / "last.pt", weights_only=True)["objective"] for name in ("one", "whole")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[1])


def test_it_learns_to_tell_places_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = _street(6, 4)
    classes = PlaceClasses(TINY.classes, images.positions_m, images.headings_deg, images.areas)
    recipe = replace(TINY, loop=replace(TINY.loop, epochs=1, steps_per_epoch=40, learning_rate=5e-3))
    assert [len(group) for group in classes.groups] == [6]
    _train(recipe, tmp_path)
    accuracy = json.loads((tmp_path / "history.json").read_text())["epochs"][-1]
    assert accuracy["train/accuracy"] > 0.5 and accuracy["validation/recall_at_1"] > 0.6, accuracy


def test_groups_take_turns_by_epoch_and_their_classifiers_learn_at_their_own_rate(tmp_path: Path) -> None:
    images = _street(8)
    config = replace(TINY.classes, apart_cells=2)
    classes = PlaceClasses(config, images.positions_m, images.headings_deg, images.areas)
    batches = PlaceBatches(TINY.samples, classes, images, 3)
    assert [int(batches.batch(n)["group"]) for n in range(8)] == [0, 0, 0, 1, 1, 1, 0, 0]
    first, again = batches.batch(1), batches.batch(1)
    assert all(torch.equal(first[name], again[name]) for name in first) and not torch.equal(first["image"], batches.batch(2)["image"])
    assert first["image"].shape == (4, 3, 32, 48) and len(set(first["label"].tolist())) == 4
    objective = CosPlaceObjective(TINY.losses, random(TINY), [len(group) for group in classes.groups])
    loop = TrainingLoop(TINY.loop, objective, batches, tmp_path, validate=lambda: {"recall_at_1": 0.0})
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    loop._step(objective.train(), first)
    moved = {name: float((value.detach() - before[name]).abs().max()) for name, value in objective.named_parameters()}
    assert moved["classifiers.0.weight"] == pytest.approx(10 * TINY.loop.learning_rate, rel=0.05)
    assert moved["network.fc.weight"] == pytest.approx(TINY.loop.learning_rate, rel=0.05) and moved["classifiers.1.weight"] == 0.0


def test_changes_are_small_where_asked_and_none_where_not() -> None:
    image = resized(picture(3, 96, 64), (32, 48))
    same = changed(image, PlaceChanges(0, 0, 0, 0, 0), np.random.default_rng(0))
    assert torch.equal(same, image)
    for k in range(20):
        other = changed(image, PlaceChanges(crop=0.9), np.random.default_rng(k))
        assert other.shape == image.shape and other.dtype == torch.uint8 and not torch.equal(other, image)


def test_a_place_is_right_when_it_is_near_in_the_same_area_and_looks_there() -> None:
    def images(positions: list, headings: list, areas: list) -> PlaceImages:
        return PlaceImages(np.array(positions, float), np.array(headings, float), np.array(areas), lambda i: picture(i))

    asked = PlaceQueries(images([[0, 0], [0, 20], [0, 0], [0, 0]], [350, 0, 180, 90], [0, 0, 0, 1]), images([[3, 0]], [10], [0]))
    assert right_places(PlaceValidation.Config(10.0, 45.0), asked)[0].tolist() == [True, False, False, False]
    assert right_places(PlaceValidation.Config(25.0), asked)[0].tolist() == [True, True, True, False]
    found = recalls(np.array([[0.1, 0.9, 0.2], [0.9, 0.1, 0.2]], np.float32), np.array([[True, False, False], [True, False, True]]))
    assert found == {"recall_at_1": 0.5, "recall_at_5": 1.0, "recall_at_10": 1.0}
    far = PlaceQueries(asked.database, images([[500, 0]], [0], [0]))
    with pytest.raises(DataError, match="within 25 m"):
        PlaceValidation(PlaceValidation.Config(), (32, 32), far)


def test_headings_are_clockwise_from_north_and_ends_are_held_out() -> None:
    yaws = [0.0, np.pi / 2, np.pi, -np.pi / 2]
    poses = [Pose(so3_exp([0.0, 0.0, yaw]), np.array([10.0 * k, 0.0, 0.0])) for k, yaw in enumerate(yaws)]
    images = of_poses(poses, Pose(BODY_FROM_OPTICAL, np.zeros(3)), lambda i: picture(i))
    np.testing.assert_allclose(images.headings_deg, [90.0, 0.0, 270.0, 180.0], atol=1e-9)
    both = joined([images, _street()])
    assert np.array_equal(both.load(5), _street().load(1)) and np.array_equal(both.subset(np.array([2])).load(0), picture(2))
    data = held_out(_street(10, 4), 0.3)
    assert data.train.positions_m[:, 0].max() < data.validation.queries.positions_m[:, 0].min()
    assert len(data.train) + len(data.validation.database) + len(data.validation.queries) == 40
    with pytest.raises(DataError, match="too few"):
        held_out(_street(2, 1), 0.3)


def _folder(folder: Path, images: PlaceImages) -> None:
    for i in range(len(images)):
        (east, north), heading = images.positions_m[i], float(images.headings_deg[i])
        name = geotagged_name(500_000 + east, 4_000_000 + north, heading_deg=heading, zone="10S", note=str(i))
        write_image(folder / name, images.load(i))


def test_geotagged_folders_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _folder(tmp_path / "city", _street(6, 3))
    _folder(tmp_path / "test" / "database", _street(6, 1, seed=1))
    _folder(tmp_path / "test" / "queries_night", _street(6, 1, seed=2))
    given_ = geotagged([tmp_path / "city"])
    np.testing.assert_allclose(np.sort(given_.positions_m[:, 0]), np.sort(500_000 + _street(6, 3).positions_m[:, 0]), atol=0.01)
    assert len(geotagged_queries(tmp_path / "test").queries) == 6
    sets = ["network={dimension: 8, truncate: 3}", "classes={heading_deg: 90, apart_cells: 1, apart_headings: 1, min_images: 2}",
            "samples={batch_size: 4, image_px: [32, 48]}", "loop={epochs: 1, steps_per_epoch: 2, warmup_steps: 0, workers: 0}"]  # fmt: skip
    command = ["train", "cosplace", "--data", "geotagged", str(tmp_path / "city"), "--validate-on", str(tmp_path / "test")]
    command += ["--out", str(tmp_path / "out"), "--device", "cpu", *(word for one in sets for word in ("--set", one))]
    assert main(command) == 0 and "recall_at_1" in capsys.readouterr().out
    assert read_metadata(tmp_path / "out" / "cosplace.safetensors")["data"] == "geotagged city"
    assert main(["train", "cosplace", "--data", "maps", "x", "--out", str(tmp_path / "b")]) != 0
    assert main(["train", "cosplace", "--data", "map", "x", "--out", str(tmp_path / "b")]) != 0
    assert main(["train", "cosplace", "--data", "geotagged", str(tmp_path / "none"), "--out", str(tmp_path / "b")]) != 0
    said = capsys.readouterr().err
    assert "is none of geotagged" in said and "--images goes with" in said and "no such folder" in said and "Traceback" not in said


def test_a_training_begins_with_weights_of_the_whole_network_or_of_its_trunk(tmp_path: Path) -> None:
    first = _train(TINY, tmp_path / "first")
    begun, before = start(replace(TINY, begin_with=str(first.weights))), load_model(first.weights)
    assert all(torch.equal(a, b) for a, b in zip(begun.state_dict().values(), before.state_dict().values(), strict=True))
    from torchvision.models import resnet18

    torch.manual_seed(5)
    whole = resnet18()
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    network = start(replace(TINY, trunk=str(tmp_path / "resnet18.pth")))
    assert torch.equal(network.backbone[4][0].conv1.weight, whole.layer1[0].conv1.weight)
    with pytest.raises(DataError, match="torchvision"):
        backbone_of({"blocks.0": torch.zeros(1)}, network.backbone.state_dict())
    with pytest.raises(ConfigError, match="give one of them"):
        replace(TINY, trunk="a", begin_with="b")
    with pytest.raises(ConfigError, match="frozen and have no weights"):
        replace(TINY, frozen=3)
    with pytest.raises(ConfigError, match="the last one learns"):
        _train(replace(TINY, frozen=5, begin_with=str(first.weights)), tmp_path / "frozen")


@pytest.mark.slow
def test_synthetic_towns_are_rendered_once_and_show_the_same_places(tmp_path: Path) -> None:
    config = PlaceTowns.Config(
        count=1, validation_count=1, drives=1, extent_m=200.0, drive_length_m=30.0, step_m=10.0, size_px=(64, 48), domains=("day", "fog")
    )
    told: list[tuple[int, int]] = []
    data = PlaceTowns(config, tmp_path).data(lambda done, total: told.append((done, total)))
    assert told[-1] == (4, 4)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again = PlaceTowns(config, tmp_path).data()
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} and len(stamps) == 8
    assert np.array_equal(again.train.load(0), data.train.load(0)) and set(data.train.areas) == {config.first_seed}
    assert right_places(PlaceValidation.Config(6.0, 45.0), data.validation).any(axis=1).all()
    with pytest.raises(ConfigError, match="no domain"):
        PlaceTowns.Config(domains=("day", "noon"))
