"""Detectors end to end on small sets: sources, learning, validation, resuming, weights to begin with, and wrong calls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from objects import LABELS, drawn, object_set

from ros2_loc.cli.main import main
from ros2_loc.core.labels import COCO
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.coco import rle_of_mask
from ros2_loc.io.coco_results import FoundObjects
from ros2_loc.models.centernet.network import CenterNet
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.weights import load_model, read_metadata
from ros2_loc.training.detection_batches import DetectionBatches
from ros2_loc.training.detection_recipes import CenterNetRecipe, D2DetRecipe, DetectorRecipe
from ros2_loc.training.detection_sets import DetectionData, held_out, joined, opened
from ros2_loc.training.detection_towns import ObjectTowns
from ros2_loc.training.detection_validation import DetectionValidation, measured
from ros2_loc.training.loop import TrainingLoop, learning_rate
from ros2_loc.training.recipes import load_recipe_of, save_recipe
from ros2_loc.training.runs import resumed
from ros2_loc.training.train_detection import start, train_detector, with_labels

LOOP = TrainingLoop.Config(epochs=2, steps_per_epoch=2, learning_rate=1e-3, workers=0, monitor="ap")
SAMPLES = DetectionBatches.Config(batch_size=2, size_px=(64, 96), scales=(0.8, 1.0), border_px=30, min_side_px=3.0)
RECIPES: dict[str, DetectorRecipe] = {
    "centernet": CenterNetRecipe(
        network=CenterNet.Config(dims=(8, 8), modules=(1, 1), stacks=1, stem=8, pool_width=4, head_width=4), samples=SAMPLES, loop=LOOP
    ),
    "d2det": D2DetRecipe(
        network=replace(
            D2Det.Config.small(LABELS), labels=(), widths=(8, 8, 8, 8), channels=8, hidden=8, width=8, mask_width=8,
            num_convs=1, proposals=(20, 10), proposals_before=(30, 20), short_side_px=96, long_side_px=128,
        ),
        samples=SAMPLES,
        loop=LOOP,
    ),
}  # fmt: skip
BOTH = pytest.mark.parametrize("name", list(RECIPES))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder to train on and one to validate with."""
    folder = tmp_path_factory.mktemp("objects")
    return object_set(folder / "train", 6), object_set(folder / "validation", 2, seed=1)


def _data(sets: tuple[Path, Path]) -> DetectionData:
    return DetectionData(opened([sets[0]]), opened([sets[1]]))


def _train(recipe: DetectorRecipe, sets: tuple[Path, Path], folder: Path, **options: Any) -> Any:
    return train_detector(recipe, lambda: _data(sets), folder, device="cpu", **options)


@BOTH
def test_the_export_is_the_best_network_with_its_papers(name: str, sets: tuple[Path, Path], tmp_path: Path) -> None:
    trained = _train(RECIPES[name], sets, tmp_path, source_name="blocks")
    network, about = load_model(trained.weights), read_metadata(trained.weights)
    assert trained.weights.name == f"{name}.safetensors" and network.config.labels == LABELS
    assert (about["data"], about["step"], about["validation"]["ap"]) == ("blocks", trained.best_step, trained.best)
    assert resumed(type(RECIPES[name]), tmp_path, ()).network.labels == LABELS
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    parts = {"centernet": {"corners", "centres", "pull"}, "d2det": {"objectness", "class", "distance", "mask"}}[name]
    assert {f"train/{part}" for part in parts} | {"validation/ap_50", "validation/ap_car"} <= set(epochs[0])


@pytest.mark.slow
@BOTH
def test_training_longer_ends_where_one_go_would_have(name: str, sets: tuple[Path, Path], tmp_path: Path) -> None:
    constant = replace(RECIPES[name], loop=replace(LOOP, schedule="constant"))
    _train(replace(constant, loop=replace(constant.loop, epochs=1)), sets, tmp_path / "one")
    with pytest.raises(ConfigError, match="go on with --resume"):
        _train(constant, sets, tmp_path / "one")
    _train(resumed(type(constant), tmp_path / "one", ["loop.epochs=2"]), sets, tmp_path / "one", resume=True)
    _train(constant, sets, tmp_path / "whole")
    last = [torch.load(tmp_path / folder / "last.pt", weights_only=True)["objective"] for folder in ("one", "whole")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[1])


@pytest.mark.slow
@BOTH
def test_it_learns_to_find_what_it_is_shown(name: str, tmp_path: Path) -> None:
    """A single image, over and over."""
    folder = object_set(tmp_path / "one", 1)
    small: Any = CenterNet.Config.small(LABELS) if name == "centernet" else D2Det.Config.small(LABELS)
    recipe = replace(
        RECIPES[name],
        network=replace(small, short_side_px=120, long_side_px=160) if name == "d2det" else small,
        samples=DetectionBatches.Config(batch_size=1, window="whole", size_px=(120, 160), scales=(1.0,), mirror=False),
        loop=replace(LOOP, epochs=1, steps_per_epoch=60, learning_rate=4e-3, schedule="cosine", clip_norm=5.0),
    )
    both = opened([folder])
    train_detector(recipe, lambda: DetectionData(both, both), tmp_path / "out", device="cpu")
    measures = json.loads((tmp_path / "out" / "history.json").read_text())["epochs"][-1]
    assert measures["validation/ap_50"] > 0.4, measures


@BOTH
def test_a_training_begins_with_weights_of_other_labels(name: str, sets: tuple[Path, Path], tmp_path: Path) -> None:
    first = _train(replace(RECIPES[name], loop=replace(LOOP, epochs=1)), sets, tmp_path)
    begun, before = start(_labelled(replace(RECIPES[name], begin_with=str(first.weights)), LABELS)), load_model(first.weights)
    assert all(torch.equal(a, b) for a, b in zip(begun.state_dict().values(), before.state_dict().values(), strict=True))
    other = start(_labelled(replace(RECIPES[name], begin_with=str(first.weights)), ("boat", "ship"))).state_dict()
    changed = [key for key, value in before.state_dict().items() if other[key].shape != value.shape]
    assert changed and all(torch.equal(other[key], value) for key, value in before.state_dict().items() if key not in changed)
    assert all("heat" in key if name == "centernet" else "roi_heads" in key for key in changed)
    if name == "d2det":
        plain = replace(RECIPES[name], network=replace(RECIPES[name].network, masks=False), begin_with=str(first.weights))
        assert start(_labelled(plain, LABELS)).roi_heads.masks is None
    stranger = "d2det" if name == "centernet" else "centernet"
    with pytest.raises(DataError, match="another network|no weight of"):
        start(_labelled(replace(RECIPES[stranger], begin_with=str(first.weights)), LABELS))


def _labelled(recipe: DetectorRecipe, labels: tuple[str, ...]) -> DetectorRecipe:
    return replace(recipe, network=replace(recipe.network, labels=labels))  # type: ignore[type-var,return-value]


def test_labels_are_those_of_the_images_unless_the_recipe_names_them(sets: tuple[Path, Path]) -> None:
    data = _data(sets)
    for recipe in RECIPES.values():
        assert with_labels(recipe, data)[0].network.labels == LABELS
        named, taken = with_labels(_labelled(recipe, ("person", "car")), data)
        assert named.network.labels == taken.train.labels == taken.validation.labels == ("person", "car")
        ignored = np.concatenate([image.ignored for image in taken.train.images])
        before = np.concatenate([image.labels for image in data.train.images])
        np.testing.assert_array_equal(ignored, (before == 1) | (before == 3))
    with pytest.raises(ConfigError, match=r"car, truck, person, cyclist.*boat"):
        with_labels(_labelled(RECIPES["d2det"], ("boat",)), data)


@pytest.mark.slow
def test_resnets_begin_with_imagenet_weights(tmp_path: Path) -> None:
    from torchvision.models import resnet50

    torch.manual_seed(5)
    whole = resnet50()
    torch.save(whole.state_dict(), tmp_path / "resnet50.pth")
    network = replace(D2Det.Config.small(LABELS), widths=(), deformable=True)
    recipe = D2DetRecipe(network=network, trunk=str(tmp_path / "resnet50.pth"))
    begun = start(recipe)
    assert torch.equal(begun.state_dict()["backbone.body.layer2.0.conv2.weight"], whole.layer2[0].conv2.weight)
    with pytest.raises(ConfigError, match="give one of them"):
        replace(recipe, begin_with="a")
    with pytest.raises(ConfigError, match=r"1 stages are frozen .*--trunk FILE"):
        D2DetRecipe(losses=replace(recipe.losses, frozen_stages=1))
    torch.save({"layer9.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="another network"):
        start(replace(recipe, trunk=str(tmp_path / "other.pth")))


def test_what_is_true_scores_one_and_what_is_missed_counts(sets: tuple[Path, Path]) -> None:
    dataset = opened([sets[1]])
    rows = [
        [(image.boxes[k].tolist(), int(image.labels[k]), 0.9, rle_of_mask(dataset.mask(i, k))) for k in range(len(image))]
        for i, image in enumerate(dataset.images)
    ]
    right = measured(dataset, [FoundObjects.of_rows(each) for each in rows])
    assert right["ap"] == right["ap_50"] == right["mask_ap"] == pytest.approx(1.0)
    assert {name for name in right if name.startswith("ap_")} >= {"ap_50", "ap_75"}
    half = measured(dataset, [FoundObjects.of_rows(rows[0]), FoundObjects.of_rows([])])
    assert 0 < half["ap"] < 1
    nothing = measured(dataset, [FoundObjects.of_rows([])] * 2)
    assert nothing["ap"] == 0.0 and "mask_ap" not in nothing
    with pytest.raises(ConfigError, match="one image"):
        DetectionValidation.Config(images=0)


def test_folders_are_joined_and_parts_held_out(sets: tuple[Path, Path], tmp_path: Path) -> None:
    both = opened(list(sets))
    assert len(both) == 8 and len({image.name for image in both.images}) == 8 and [image.id for image in both.images] == list(range(8))
    assert np.array_equal(both.image(7), drawn(1001).image) and both.mask(7, 0).any()
    data = held_out(both, 0.25)
    names = [{image.name for image in part.images} for part in (data.train, data.validation)]
    assert len(names[1]) == 2 and not names[0] & names[1] and len(names[0] | names[1]) == 8
    with pytest.raises(DataError, match="none is left"):
        held_out(both, 0.01)
    with pytest.raises(ConfigError, match="other labels than the first"):
        joined([both, both.as_one("thing")])
    with pytest.raises(ConfigError, match="same labels in the same order"):
        DetectionData(both, both.as_one("thing"))


@BOTH
def test_the_command_trains_and_says_what_is_wrong(
    name: str, sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_recipe(RECIPES[name], tmp_path / "recipe.yaml")
    command = ["train", name, "--recipe", str(tmp_path / "recipe.yaml"), "--data", "coco", str(sets[0]), "--validate-on", str(sets[1])]
    command += ["--device", "cpu", "--set", "loop.epochs=1", "--out", str(tmp_path / "out")]
    assert main(command) == 0 and f"{name}.safetensors: best after step" in capsys.readouterr().out
    assert read_metadata(tmp_path / "out" / f"{name}.safetensors")["data"] == "coco train"
    wrong = (["photos", "x"], ["coco"], ["town", "x"], ["coco", str(tmp_path / "none")])
    for words in wrong:
        assert main(["train", name, "--data", *words, "--out", str(tmp_path / "b")]) != 0
    assert main(["train", name, "--data", "town", "--validate-on", "x", "--out", str(tmp_path / "b")]) != 0
    said = capsys.readouterr().err
    parts = ("photos: is none of auto, coco", "takes folders, got 0 paths", "takes nothing, got 1", "no such folder")
    assert all(part in said for part in (*parts, "leave --validate-on out")) and "Traceback" not in said


@pytest.mark.slow
@BOTH
def test_photographs_of_coco_are_learned_from(name: str, shared_data: Path, tmp_path: Path) -> None:
    """No more than a smoke test: four steps on 64 images with 80 labels."""
    recipe = replace(RECIPES[name], held_out=0.1, validation=DetectionValidation.Config(images=2))
    if isinstance(recipe, D2DetRecipe):
        recipe = replace(recipe, network=replace(recipe.network, masks=False))
    dataset = opened([shared_data / "coco64_val"])
    assert len(dataset) == 64 and len(dataset.labels) == 80 and not dataset.has_masks
    train_detector(recipe, lambda: held_out(dataset, recipe.held_out), tmp_path, device="cpu")
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert len(epochs) == 2 and all(np.isfinite(epoch["train/loss"]) and "validation/ap" in epoch for epoch in epochs)
    assert load_model(tmp_path / f"{name}.safetensors").config.labels == COCO


@pytest.mark.slow
def test_synthetic_towns_are_rendered_once(tmp_path: Path) -> None:
    config = ObjectTowns.Config(towns=1, images=2, validation_towns=1, validation_images=1, size_px=(160, 96), domains=("day",))
    told: list[tuple[int, int]] = []
    data = ObjectTowns(config, tmp_path).data(lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3) and (len(data.train), len(data.validation)) == (2, 1) and data.train.labels == LABELS
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    again = ObjectTowns(config, tmp_path).data()
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} and len(stamps) == 3
    assert np.array_equal(again.train.image(0), data.train.image(0))
    with pytest.raises(ConfigError, match="among those to learn from"):
        ObjectTowns.Config(first_validation_seed=110)


def test_recipes_are_those_of_the_papers_and_the_small_networks() -> None:
    paper, small = (load_recipe_of(CenterNetRecipe, name) for name in ("paper", "small"))
    assert paper.network == CenterNet.Config() and paper.samples.size_px == (511, 511) and paper.samples.batch_size * 8 == 48
    steps = paper.loop.epochs * paper.loop.steps_per_epoch
    assert steps == 480_000 and learning_rate(paper.loop, 449_999, steps) == 2.5e-4
    assert learning_rate(paper.loop, 450_000, steps) == pytest.approx(2.5e-5)
    assert small.network == replace(CenterNet.Config.small(LABELS), labels=small.network.labels)
    with pytest.raises(ConfigError, match="--trunk FILE"):
        load_recipe_of(D2DetRecipe, "paper")
    published, narrow = load_recipe_of(D2DetRecipe, "paper", ["trunk=resnet50.pth"]), load_recipe_of(D2DetRecipe, "small")
    assert published.network == D2Det.Config() and published.samples.size_px == (800, 1333) and published.samples.batch_size * 8 == 16
    epochs = [learning_rate(published.loop, epoch * 7330 + 600, 24 * 7330) for epoch in (0, 15, 16, 21, 22, 23)]
    assert epochs == pytest.approx([0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])
    assert narrow.network == replace(D2Det.Config.small(LABELS), labels=())
