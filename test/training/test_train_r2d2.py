"""R2D2 and Context-R2D2 end to end: they learn, are exported, go on after Ctrl-C; recipes and wrong calls."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import picture

from ros2_loc.cli.main import main
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.images import write_image
from ros2_loc.models.context_r2d2 import ContextR2D2
from ros2_loc.models.hrnet import HRNet
from ros2_loc.models.r2d2 import R2D2, DenseFeatures
from ros2_loc.models.weights import load_model, read_metadata
from ros2_loc.training.feature_losses import PixelSampling
from ros2_loc.training.feature_objective import FeatureObjective
from ros2_loc.training.feature_pair_sources import folder_images
from ros2_loc.training.feature_pairs import FeaturePairs, PairData
from ros2_loc.training.feature_validation import FeatureValidation, Keypoints, best_keypoints, matching_accuracy
from ros2_loc.training.feature_warps import Warp, WarpedPairs, pixel_centres
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.recipes import ContextR2d2Recipe, FeatureRecipe, R2d2Recipe, load_recipe_of, save_recipe
from ros2_loc.training.runs import resumed
from ros2_loc.training.train_r2d2 import start, train_features

SAMPLES = FeaturePairs.Config(batch_size=2, crop_px=48)
SHARED = {
    "samples": SAMPLES,
    "warp": Warp(tilt_deg=20, roll_deg=10, edge_px=(96, 160)),
    "validation": FeatureValidation.Config(pairs=2, edge_px=96, max_keypoints=80),
    "loop": TrainingLoop.Config(
        epochs=2, steps_per_epoch=2, learning_rate=2e-3, weight_decay=5e-4, optimizer="adam", workers=0, monitor="mma_at_3"
    ),
}
LOSSES = FeatureObjective.Config(patch_px=8, sampling=PixelSampling(border_px=8))
TINY = R2d2Recipe(network=R2D2.Config("fast", 1), losses=LOSSES, **SHARED)
SEMANTIC = HRNet.Config((4, 4, 8, 8), (1, 1, 1), blocks=1, stem_channels=8, bottleneck_channels=4, stem_blocks=1)
CONTEXT = ContextR2d2Recipe(
    network=ContextR2D2.Config(context_channels=8, train_semantic=True, semantic=SEMANTIC, r2d2=R2D2.Config("fast", 1)),
    losses=replace(LOSSES, peaky=1.0, final=0.5),
    **SHARED,
)


def _source(images: int = 3) -> PairData:
    loaders = [partial(picture, k) for k in range(images)]
    return PairData(WarpedPairs(loaders, TINY.warp, SAMPLES.crop_px), [partial(picture, 100)])


def _train(recipe: FeatureRecipe, folder: Path, **options):  # type: ignore[no-untyped-def]
    return train_features(recipe, _source, folder, device="cpu", **options)


@pytest.mark.parametrize("recipe", [TINY, CONTEXT], ids=lambda recipe: recipe.name)
def test_the_export_is_the_best_network_with_its_papers(recipe: FeatureRecipe, tmp_path: Path) -> None:
    trained = _train(recipe, tmp_path, source_name="pictures")
    network, about = load_model(trained.weights), read_metadata(trained.weights)
    assert type(network) is (R2D2 if recipe is TINY else ContextR2D2) and network.config == recipe.network
    assert trained.weights.name == f"{recipe.name}.safetensors"
    assert (about["data"], about["licence"], about["step"]) == ("pictures", "that of the training images", trained.best_step)
    assert about["validation"]["mma_at_3"] == trained.best and load_recipe_of(type(recipe), tmp_path / "recipe.yaml") == recipe
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert [e["step"] for e in epochs] == [2, 4] and {"train/cosine", "train/precision", "validation/matches"} <= set(epochs[0])


def test_training_longer_ends_where_one_go_would_have(tmp_path: Path) -> None:
    _train(TINY, tmp_path / "parts")
    with pytest.raises(ConfigError, match="go on with --resume"):
        _train(TINY, tmp_path / "parts")
    constant = replace(TINY, loop=replace(TINY.loop, schedule="constant"))
    _train(replace(constant, loop=replace(constant.loop, epochs=1)), tmp_path / "one")
    longer = resumed(R2d2Recipe, tmp_path / "one", ["loop.epochs=2"])
    _train(longer, tmp_path / "one", resume=True)
    _train(constant, tmp_path / "whole")
    last = [torch.load(tmp_path / name / "last.pt", weights_only=True)["objective"] for name in ("one", "whole")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[1])
    with pytest.raises(ConfigError, match="can't change"):
        resumed(R2d2Recipe, tmp_path / "one", ["network.mchan=2"])
    with pytest.raises(ConfigError, match="holds no training"):
        resumed(R2d2Recipe, tmp_path / "other", [])


def test_context_begins_with_given_branches_and_keeps_a_frozen_one(tmp_path: Path) -> None:
    local = _train(TINY, tmp_path / "r2d2").weights
    semantic = HRNet(SEMANTIC)
    torch.save(semantic.state_dict(), tmp_path / "hrnet.pth")
    frozen = replace(CONTEXT, network=replace(CONTEXT.network, train_semantic=False))
    with pytest.raises(ConfigError, match="frozen and has no weights"):
        start(frozen)
    recipe = replace(frozen, begin_with=str(local), semantic=str(tmp_path / "hrnet.pth"))
    begun = start(recipe)
    images = torch.randn(1, 3, 64, 64)
    alone, both = load_model(local), begun.eval()(images)
    assert torch.allclose(both.initial.descriptors, alone(images).descriptors, atol=1e-5)
    assert torch.allclose(both.final.repeatability, both.initial.repeatability, atol=1e-5), "before training the residual is nothing"
    after = load_model(_train(recipe, tmp_path / "context").weights).state_dict()
    kept = semantic.state_dict()
    assert all(torch.equal(after[f"semantic.{key}"], value) for key, value in kept.items() if f"semantic.{key}" in after)
    assert sum(key.startswith("semantic.") for key in after) > 10
    assert any(not torch.equal(after[key], value) for key, value in begun.state_dict().items() if key.startswith("local.layers"))


def test_a_training_goes_on_from_given_weights(tmp_path: Path) -> None:
    first = _train(TINY, tmp_path / "first")
    network, before = start(replace(TINY, begin_with=str(first.weights))), load_model(first.weights)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), before.state_dict().values(), strict=True))
    with pytest.raises(DataError, match="another network or other settings"):
        start(replace(TINY, begin_with=str(first.weights), network=R2D2.Config("fast", 2)))


def _batch() -> dict[str, torch.Tensor]:
    return FeaturePairs(SAMPLES, _source().pairs).batch(0)


def test_the_loss_is_the_sum_that_the_papers_have() -> None:
    torch.manual_seed(0)
    batch = _batch()
    for recipe in (TINY, CONTEXT):
        losses = {name: float(value.detach()) for name, value in FeatureObjective(recipe.losses, start(recipe))(batch).items()}
        weights = {"cosine": 1.0, "peaky": recipe.losses.peaky, "reliability": 1.0}
        last = sum(weight * losses[name] for name, weight in weights.items())
        if recipe is TINY:
            assert losses["loss"] == pytest.approx(last, rel=1e-5)
            continue
        first = sum(weight * losses[f"initial_{name}"] for name, weight in weights.items())
        assert losses["final_loss"] == pytest.approx(last, rel=1e-5)
        assert losses["loss"] == pytest.approx(first + 0.5 * last, rel=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
def test_every_loss_reaches_every_weight(sparse: bool) -> None:
    torch.manual_seed(0)
    batch = _batch()
    if sparse:
        few = torch.zeros_like(batch["valid"])
        few[:, ::5, ::5] = True
        batch["valid"] &= few
    for recipe in (TINY, CONTEXT):
        network = start(recipe)
        if recipe is CONTEXT:  # it begins as zero, which keeps gradients from what lies before it
            torch.nn.init.normal_(network.fusion.weight, std=0.1)
        objective = FeatureObjective(recipe.losses, network)
        objective(batch)["loss"].backward()
        learned = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        lacking = [name for name, p in learned.items() if p.grad is None or not bool(p.grad.isfinite().all())]
        assert not lacking, lacking


def test_half_precision_is_for_the_network_only() -> None:
    batch, network = _batch(), start(TINY)
    found = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = FeatureObjective(TINY.losses, network)(batch)
        assert losses["loss"].dtype == torch.float32
        losses["loss"].backward()
        found.append(float(losses["loss"].detach()))
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_a_batch_without_correspondences_has_a_finite_loss() -> None:
    batch = _batch()
    batch["valid"][:] = False
    objective = FeatureObjective(TINY.losses, start(TINY))
    losses = objective(batch)
    losses["loss"].backward()
    assert all(bool(value.isfinite()) for value in losses.values()) and float(losses["reliability"].detach()) == 0.0


class Oracle(torch.nn.Module):
    """Descriptors are the blurred picture itself, keypoints its local extremes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> DenseFeatures:
        smooth = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2)
        patches = torch.nn.functional.unfold(smooth, 13, padding=6, dilation=1).unflatten(2, images.shape[2:])
        patches = patches - patches.mean(dim=1, keepdim=True)
        edges = (smooth - torch.nn.functional.avg_pool2d(smooth, 9, stride=1, padding=4)).abs().amax(dim=1, keepdim=True)
        return DenseFeatures(torch.nn.functional.normalize(patches, dim=1), torch.ones_like(edges), edges)


def test_validation_of_features_that_know_is_good_and_of_random_ones_is_not() -> None:
    config = FeatureValidation.Config(pairs=4, edge_px=128, max_keypoints=150, warp=Warp(tilt_deg=15, roll_deg=10, scale=1.1))
    validation = FeatureValidation(config, [partial(picture, k) for k in (200, 201)])
    known, again = validation(Oracle()), validation(Oracle())
    chance = validation(start(TINY).eval())
    assert known == again and set(known) == {"mma_at_1", "mma_at_3", "mma_at_5", "repeatability_at_3", "matches"}
    assert known["mma_at_3"] > 0.75 and known["mma_at_3"] > chance["mma_at_3"] + 0.15, (known, chance)
    assert known["mma_at_1"] <= known["mma_at_3"] <= known["mma_at_5"] and known["repeatability_at_3"] > 0.5
    assert np.array_equal(validation.pair(0).image2, validation.pair(0).image2) and validation.pair(0).valid.shape[0] % 32 == 0


def test_matching_accuracy_of_a_few_points() -> None:
    points = torch.tensor([[10.5, 10.5], [20.5, 10.5], [30.5, 10.5], [40.5, 30.5]])
    flow = torch.from_numpy(pixel_centres(50, 40).astype(np.float32)) + torch.tensor([2.0, 0.0])
    second = points + torch.tensor([[2.0, 0.5], [4.5, 0.0], [2.0, 4.0], [30.0, 0.0]])
    found = matching_accuracy(Keypoints(points, torch.eye(4)), Keypoints(second, torch.eye(4)), flow, torch.ones(40, 50, dtype=torch.bool))
    assert (found["mma_at_1"], found["mma_at_3"], found["mma_at_5"], found["matches"]) == (0.25, 0.5, 0.75, 4.0)
    assert found["repeatability_at_3"] == 0.5
    nothing = matching_accuracy(Keypoints(points[:0], torch.zeros(0, 4)), Keypoints(second, torch.eye(4)), flow, torch.ones(40, 50) > 0)
    assert set(nothing.values()) == {0.0}


def test_the_best_keypoints_are_local_maxima_in_order() -> None:
    repeatability = torch.zeros(1, 1, 9, 9)
    repeatability[0, 0, 2, 3], repeatability[0, 0, 2, 4], repeatability[0, 0, 6, 6] = 0.5, 0.4, 0.9
    dense = DenseFeatures(torch.rand(1, 4, 9, 9), torch.full((1, 1, 9, 9), 0.5), repeatability)
    found = best_keypoints(dense, 2)
    assert found.points_px.tolist() == [[6.5, 6.5], [3.5, 2.5]]
    assert torch.equal(found.descriptors[0], dense.descriptors[0, :, 6, 6])


def test_nothing_to_train_or_validate_with_is_said() -> None:
    with pytest.raises(DataError, match="no pair of images"):
        FeaturePairs(SAMPLES, WarpedPairs([], Warp(), 64))
    with pytest.raises(DataError, match="no image to validate with"):
        FeatureValidation(TINY.validation, [])


@pytest.mark.parametrize("schema", [R2d2Recipe, ContextR2d2Recipe], ids=lambda schema: schema.name)
@pytest.mark.parametrize("name", ["small", "paper"])
def test_recipes_are_read_and_written_again(schema: type, name: str, tmp_path: Path) -> None:
    recipe = load_recipe_of(schema, name)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe_of(schema, tmp_path / "recipe.yaml") == recipe


def test_the_paper_s_recipe_is_the_paper_s() -> None:
    recipe = load_recipe_of(ContextR2d2Recipe, "paper")
    assert recipe.network == ContextR2D2.Config() and not recipe.network.train_semantic
    loop = recipe.loop
    assert (loop.optimizer, loop.learning_rate, loop.weight_decay, loop.epochs) == ("adam", 1e-3, 5e-4, 25)
    assert (recipe.samples.batch_size, recipe.samples.crop_px, recipe.losses.kappa, recipe.losses.bins) == (4, 192, 0.5, 20)


def _images(folder: Path, count: int = 4) -> Path:
    for k in range(count):
        write_image(folder / f"{k}.png", picture(k))
    return folder


def test_the_command_trains_and_resumes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_recipe(TINY, tmp_path / "tiny.yaml")
    images, out = _images(tmp_path / "images"), tmp_path / "out"
    words = ["train", "r2d2", "--data", "folder", str(images), "--out", str(out), "--device", "cpu"]
    assert main([*words, "--recipe", str(tmp_path / "tiny.yaml"), "--set", "loop.epochs=1"]) == 0
    assert "best after step 2, mma_at_3" in capfd.readouterr().out
    assert main([*words, "--resume", "--set", "loop.epochs=2", "--validate-on", str(images)]) == 0
    assert [e["step"] for e in json.loads((out / "history.json").read_text())["epochs"]] == [2, 4]
    assert read_metadata(out / "r2d2.safetensors")["data"] == "folder images"
    assert len(folder_images(images)) == 4


@pytest.mark.parametrize(
    ("verb", "words", "code", "expected"),
    [
        ("r2d2", ["--data", "city"], 2, "none of folder, pairs-flow, seven-scenes, town, map"),
        ("r2d2", ["--data", "folder"], 2, "takes images, got 0 paths"),
        ("r2d2", ["--data", "pairs-flow", "a", "b"], 2, "got 2 paths"),
        ("r2d2", ["--data", "town", "a"], 2, "takes nothing"),
        ("r2d2", ["--data", "map", "a"], 2, "--images goes with --data map"),
        ("r2d2", ["--data", "folder", "a", "--images", "b"], 2, "--images goes with --data map"),
        ("r2d2", ["--data", "folder", "/no/such/images"], 1, "/no/such/images: no such folder"),
        ("r2d2", ["--data", "map", "/no/such/map", "--images", "b"], 1, "is not a map"),
        ("r2d2", ["--data", "seven-scenes", "/no/such"], 1, "no folder of 7-Scenes"),
        ("r2d2", ["--data", "town", "--recipe", "large"], 2, "there is no recipe 'large'; there are: paper, small"),
        ("context-r2d2", ["--data", "town", "--recipe", "paper"], 2, "give --semantic FILE"),
        ("context-r2d2", ["--data", "town", "--recipe", "paper", "--semantic", "/no/hrnet.pth"], 2, "/no/hrnet.pth: neither a file"),
        ("r2d2", ["--data", "town", "--begin-with", "/no/r2d2.pt"], 2, "/no/r2d2.pt: neither a file"),
        ("r2d2", ["--data", "town", "--set", "samples.crop=3"], 2, "crop"),
        ("r2d2", ["--data", "town", "--set", "samples.crop_px=100"], 2, "multiple of 8"),
        ("r2d2", ["--data", "town", "--set", "held_out=1"], 2, "is a share"),
        ("r2d2", ["--data", "town", "--resume"], 2, "holds no training to resume"),
        ("r2d2", ["--data", "town", "--device", "cuda"], 2, "torch sees no GPU here"),
    ],
)
def test_wrong_calls_are_one_line(
    verb: str, words: list[str], code: int, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", verb, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), *words]) == code
    err = capfd.readouterr().err
    assert expected in err and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir()), "something half-written is left"


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingLoop, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    save_recipe(CONTEXT, tmp_path / "tiny.yaml")
    images = str(_images(tmp_path / "images"))
    words = ["--data", "folder", images, "--validate-on", images, "--out", str(tmp_path / "my out"), "--device", "cpu"]
    assert main(["train", "context-r2d2", "--recipe", str(tmp_path / "tiny.yaml"), *words]) == 130
    expected = f"train context-r2d2 --data folder {images} --out '{tmp_path / 'my out'}' --resume --validate-on {images} --device cpu"
    assert expected in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_learns_pictures(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    loop = replace(TINY.loop, epochs=3, steps_per_epoch=60, learning_rate=2e-3, warmup_steps=10)
    validation = FeatureValidation.Config(pairs=8, edge_px=160, max_keypoints=150)
    samples, losses = FeaturePairs.Config(batch_size=2, crop_px=64), replace(LOSSES, patch_px=16)
    recipe = replace(TINY, samples=samples, loop=loop, validation=validation, losses=losses)
    untrained = FeatureValidation(validation, _source().held_out)(start(recipe).eval())
    train_features(recipe, lambda: _source(24), tmp_path, device="cpu")
    first, *_, last = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert last["train/loss"] < 0.9 * first["train/loss"], (first, last)
    assert last["train/precision"] > first["train/precision"]
    assert last["validation/mma_at_3"] > untrained["mma_at_3"] + 0.1, (untrained, last)
