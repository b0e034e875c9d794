"""CVLNet end to end: it learns, is exported, goes on after Ctrl-C; recipes and wrong calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ros2_loc.cli.main import main
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cvlnet import CVLNet, random
from ros2_loc.models.weights import load_model, read_metadata
from ros2_loc.training.cross_view_batches import CrossViewBatches, FrameChoice
from ros2_loc.training.cross_view_objective import CrossViewObjective
from ros2_loc.training.cross_view_validation import CrossViewValidation
from ros2_loc.training.drives import CachedDrive
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.recipes import CvlnetRecipe, load_recipe, save_recipe
from ros2_loc.training.runs import resumed
from ros2_loc.training.train_cvlnet import train_cvlnet

sys.path.insert(0, str(Path(__file__).parent))
from flat_world import IMAGE_PX

NETWORK = CVLNet.Config(
    cells=16, coverage_m=48.0, shift_cells=2, tile_px=64, image_px=IMAGE_PX, view="resized", channels=8, descriptor_channels=4
)
TINY = CvlnetRecipe(
    network=NETWORK,
    samples=CrossViewBatches.Config(batch_size=8, frames=FrameChoice(frames=3), max_offset_m=5.0, group_size=4, min_separation_m=10.0),
    losses=CrossViewObjective.Config(triplet=0.0, place=1.0),
    validation=CrossViewValidation.Config(queries=8, max_tiles=40),
    loop=TrainingLoop.Config(epochs=2, steps_per_epoch=3, learning_rate=2e-3, workers=0, clip_norm=1.0),
)


class Flat:
    """Four drives to train, one to validate."""

    def __init__(self, make: Callable[..., list[CachedDrive]], train: int = 2) -> None:
        self._make, self._train = make, train

    def drives(self, workers: int = 1, progress: object = None) -> tuple[list[CachedDrive], list[CachedDrive]]:
        return self._make(self._train), self._make(1, seed=50)


@pytest.fixture
def train(flat_drives: Callable[..., list[CachedDrive]]) -> Callable[..., object]:
    return lambda recipe, folder, **options: train_cvlnet(recipe, lambda _: Flat(flat_drives), folder, device="cpu", **options)


def test_the_export_is_the_best_network_with_its_papers(train: Callable, tmp_path: Path) -> None:
    trained = train(TINY, tmp_path, source_name="flat world")
    network, about = load_model(trained.weights), read_metadata(trained.weights)
    assert isinstance(network, CVLNet) and network.config == NETWORK
    assert (about["data"], about["seed"], about["licence"], about["step"]) == ("flat world", 0, "Apache-2.0", trained.best_step)
    assert about["recipe"]["loop"]["steps_per_epoch"] == 3 and about["validation"]["recall_at_1"] == trained.best
    assert load_recipe(tmp_path / "recipe.yaml") == TINY
    state = torch.load(tmp_path / "last.pt", weights_only=True)["objective"]
    last = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    assert set(last) == set(network.state_dict())
    if trained.best_step == 6:
        assert all(torch.equal(last[name], value) for name, value in network.state_dict().items())


def test_training_longer_goes_on_with_the_stored_recipe(train: Callable, tmp_path: Path) -> None:
    train(TINY, tmp_path)
    with pytest.raises(ConfigError, match="go on with --resume"):
        train(TINY, tmp_path)
    longer = resumed(CvlnetRecipe, tmp_path, ["loop.epochs=3"])
    assert longer == replace(TINY, loop=replace(TINY.loop, epochs=3))
    train(longer, tmp_path, resume=True)
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert [e["step"] for e in epochs] == [3, 6, 9]
    with pytest.raises(ConfigError, match="can't change"):
        resumed(CvlnetRecipe, tmp_path, ["network.channels=4"])
    with pytest.raises(ConfigError, match="holds no training"):
        resumed(CvlnetRecipe, tmp_path / "other", [])


def test_a_training_goes_on_from_given_weights(train: Callable, tmp_path: Path) -> None:
    first = train(TINY, tmp_path / "first")
    small_steps = replace(TINY.loop, epochs=1, steps_per_epoch=1, learning_rate=1e-9, warmup_steps=0)
    second = train(replace(TINY, begin_with=str(first.weights), loop=small_steps), tmp_path / "second")
    before, after = (load_model(trained.weights).state_dict() for trained in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    with pytest.raises(ConfigError, match="another network"):
        train(replace(TINY, begin_with=str(first.weights), network=replace(NETWORK, channels=16)), tmp_path / "third")


def test_a_training_stopped_before_its_first_step_can_be_resumed(train: Callable, flat_drives: Callable, tmp_path: Path) -> None:
    def interrupted(_: object) -> Flat:
        source = Flat(flat_drives)
        source.drives = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        return source

    with pytest.raises(KeyboardInterrupt):
        train_cvlnet(TINY, interrupted, tmp_path, device="cpu")
    short = resumed(CvlnetRecipe, tmp_path, ["loop.epochs=1"])
    assert train(short, tmp_path, resume=True).best_step == 3


def test_every_loss_reaches_every_weight(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    config = CrossViewObjective.Config(triplet=1.0, info_nce=1.0, shift=1.0, place=1.0)
    batch = CrossViewBatches(TINY.samples, NETWORK.grid, NETWORK.tile_px, flat_drives(2)).batch(0)
    for parts in (config, *(replace(CrossViewObjective.Config(triplet=0.0, place=1.0), **{n: 1.0}) for n in ("info_nce", "shift"))):
        objective = CrossViewObjective(parts, random(NETWORK, 0))
        losses = objective(batch)
        losses["loss"].backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in objective.parameters())
        assert set(objective.log_temperature) <= set(losses)
        weighted = sum(float(losses[n].detach()) for n in ("triplet", "info_nce", "shift", "place") if n in losses)
        assert float(losses["loss"].detach()) == pytest.approx(weighted, rel=1e-5)


def test_without_shifts_the_tile_s_centre_is_compared(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    config = replace(NETWORK, shifts=False, uncertainty=False)
    network = random(config, 0)
    objective = CrossViewObjective(CrossViewObjective.Config(), network)
    batch = CrossViewBatches(TINY.samples, network.grid, config.tile_px, flat_drives(2)).batch(0)
    assert objective.similarity(batch).shape == (8, 8, 1, 1)
    objective(batch)["loss"].backward()
    measured = CrossViewValidation(TINY.validation, TINY.samples.frames, network.grid, config.tile_px, flat_drives(1))(network)
    assert set(measured) == {"recall_at_1", "recall_at_5", "recall_at_10", "displacement_m", "top1_m"}


class Oracle:
    """Stands for a network that knows: the query's and the tile's descriptors are their pictures of the ground."""

    def __init__(self, config: CVLNet.Config) -> None:
        self.network = random(config, 0)
        self.similarity = self.network.similarity

    def parameters(self):  # type: ignore[no-untyped-def]
        return self.network.parameters()

    def ground_features(self, images: torch.Tensor) -> torch.Tensor:
        return images - 0.5

    def query_features(self, ground: torch.Tensor, px: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, w = ground.shape[-2:]
        grid = 2 * px.flatten(0, 1) / px.new_tensor([w, h]) - 1
        seen = torch.nn.functional.grid_sample(ground.flatten(0, 1), grid, align_corners=False).unflatten(0, ground.shape[:2])
        count = visible.sum(dim=1)[:, None].clamp(min=1)
        mean = (seen * visible[:, :, None]).sum(dim=1) / count
        return mean / mean.flatten(1).norm(dim=1)[:, None, None, None], visible.any(dim=1)

    def tile_features(self, tiles: torch.Tensor) -> tuple[torch.Tensor, None]:
        small = torch.nn.functional.avg_pool2d(tiles - 0.5, tiles.shape[-1] // 16)
        return small / small.flatten(1).norm(dim=1)[:, None, None, None], torch.ones(len(tiles), 5, 5)


def test_validation_of_a_network_that_knows_finds_every_place(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    config = replace(NETWORK, uncertainty=False)
    size = CrossViewValidation.Config(queries=24, max_tiles=120)
    validation = CrossViewValidation(size, FrameChoice(frames=6), config.grid, config.tile_px, flat_drives(2))
    measured = validation(Oracle(config))
    assert measured["recall_at_1"] > 0.9 and measured["top1_m"] < 1.5 and measured["displacement_m"] < 1.5, measured
    chance = validation(random(config, 3))
    assert chance["recall_at_1"] < 0.3 and chance["top1_m"] > 20.0, chance


def test_nothing_to_validate_with_is_said() -> None:
    with pytest.raises(DataError, match="no drive to validate"):
        CrossViewValidation(TINY.validation, TINY.samples.frames, NETWORK.grid, 64, [])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_learns_the_flat_world(flat_drives: Callable[..., list[CachedDrive]], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    loop = replace(TINY.loop, epochs=2, steps_per_epoch=120, warmup_steps=20, monitor="recall_at_5")
    size = CrossViewValidation.Config(queries=40, max_tiles=200)
    recipe = replace(TINY, loop=loop, samples=replace(TINY.samples, batch_size=12), validation=size)
    train_cvlnet(recipe, lambda _: Flat(flat_drives, train=8), tmp_path, device="cpu")
    first, last = json.loads((tmp_path / "history.json").read_text())["epochs"]
    untrained = CrossViewValidation(recipe.validation, recipe.samples.frames, NETWORK.grid, 64, Flat(flat_drives).drives()[1])(
        random(NETWORK, 0)
    )
    assert last["train/loss"] < 0.8 * first["train/loss"], (first, last)
    assert last["train/accuracy"] > first["train/accuracy"]
    assert last["validation/recall_at_5"] > untrained["recall_at_5"] + 0.2, (untrained, last)
    assert last["validation/displacement_m"] < 0.7 * untrained["displacement_m"], (untrained, last)


@pytest.mark.parametrize("name", ["small", "paper"])
def test_recipes_are_read_and_written_again(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_the_paper_s_recipe_is_the_paper_s() -> None:
    recipe = load_recipe("paper")
    assert recipe.network == CVLNet.Config.full()
    assert recipe.losses == CrossViewObjective.Config(triplet=1.0, alpha=10.0)
    loop, samples = recipe.loop, recipe.samples
    assert (loop.optimizer, loop.learning_rate, loop.schedule, loop.epochs, samples.batch_size) == ("adam", 1e-4, "constant", 5, 8)
    assert (samples.frames.frames, samples.frames.stride) == (4, 3) and samples.listed_tiles
    assert loop.steps_per_epoch == 23905 // samples.batch_size


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--data", "town", "--recipe", "large"], 2, "there is no recipe 'large'; there are: paper, small"),
        (["--data", "town", "--set", "loop.epoch=3"], 2, "epoch"),
        (["--data", "town", "--set", "verbose"], 2, "give KEY=VALUE"),
        (["--data", "town", "--set", "loop.epochs=0"], 2, "at least 1"),
        (["--data", "town", "--set", "losses.place=0"], 2, "one of them above"),
        (["--data", "town", "--resume"], 2, "holds no training to resume"),
        (["--data", "town", "--resume", "--recipe", "small"], 2, "leave --recipe out"),
        (["--data", "city"], 2, "none of town, kitti-cvl, drives"),
        (["--data", "kitti-cvl", "raw"], 2, "needs --tiles and --lists"),
        (["--data", "drives", "a_bag", "--tiles", "t"], 2, "--validate-on"),
        (["--data", "drives", "a_bag", "--validate-on", "b", "--tiles", "/no/such/tiles"], 1, "/no/such/tiles"),
        (["--data", "town", "--device", "cuda"], 2, "torch sees no GPU here"),
    ],
)
def test_wrong_calls_are_one_line(
    words: list[str], code: int, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", "cvlnet", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), *words]) == code
    err = capfd.readouterr().err
    assert expected in err and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir()), "something half-written is left"


def test_ctrl_c_says_how_to_go_on(
    flat_drives: Callable[..., list[CachedDrive]], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ros2_loc.training.towns.Towns", lambda *_: Flat(flat_drives))
    monkeypatch.setattr(TrainingLoop, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    save_recipe(TINY, tmp_path / "tiny.yaml")
    words = ["--data", "town", "--device", "cpu", "--out", str(tmp_path / "my out")]
    assert main(["train", "cvlnet", "--recipe", str(tmp_path / "tiny.yaml"), *words]) == 130
    err = capfd.readouterr().err
    assert f"go on with: ros2-loc train cvlnet --data town --out '{tmp_path / 'my out'}' --resume --device cpu" in err
