"""The loop: exact resume, Ctrl-C, the best model, the schedule, losses that are no numbers, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.training.checkpoints import Progress
from ros2_loc.training.loop import TrainingLoop, learning_rate

CONFIG = TrainingLoop.Config(epochs=3, steps_per_epoch=8, learning_rate=0.01, warmup_steps=4, workers=0, monitor="score", clip_norm=1.0)


class Fit(nn.Module):
    """A regression with dropout, so that random numbers matter."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = (self.layers(batch["x"]) - batch["y"]).square().mean()
        return {"loss": loss, "root": loss.sqrt()}


class Numbers:
    """Batches by their number; at one of them something happens."""

    def __init__(self, at: int = -1, happens: object = None) -> None:
        self.at, self.happens, self.asked = at, happens, []

    def batch(self, number: int) -> dict[str, Tensor]:
        self.asked.append(number)
        x = torch.randn(12, 6, generator=torch.Generator().manual_seed(number))
        y = x.sum(dim=1, keepdim=True)
        if number == self.at:
            if self.happens == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                y = y * float("nan")
        return {"x": x, "y": y}


def _loop(
    folder: Path, batches: Numbers, config: TrainingLoop.Config = CONFIG, seed: int = 0, scores: tuple[float, ...] = (1, 3, 2)
) -> TrainingLoop:
    objective, given = Fit(seed), iter(scores)
    return TrainingLoop(config, objective, batches, folder, validate=lambda: {"score": next(given)})


def _weights(loop: TrainingLoop) -> list[Tensor]:
    return [p.detach().clone() for p in loop.objective.parameters()]


@pytest.mark.parametrize("at", [5, 15, 16], ids=["in the first epoch", "at the end of an epoch", "at the start of one"])
def test_interrupted_and_resumed_is_uninterrupted_bit_by_bit(tmp_path: Path, at: int) -> None:
    whole = _loop(tmp_path / "whole", Numbers())
    whole.run()
    first = _loop(tmp_path / "parts", Numbers(at, "interrupt"))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.done.step == at + 1, "the step was ended"
    left = (1.0, 3.0, 2.0)[first.done.step // 8 :]
    again = _loop(tmp_path / "parts", Numbers(), seed=99, scores=left)
    torch.rand(17)
    again.resume()
    done = again.run()
    assert all(torch.equal(a, b) for a, b in zip(_weights(whole), _weights(again), strict=True))
    assert done.history == whole.done.history and (done.best, done.best_step) == (3.0, 16)
    assert again._batches.asked == list(range(at + 1, 24))


def test_the_best_model_is_told_and_history_written(tmp_path: Path) -> None:
    told: list[tuple[float, int]] = []
    objective, scores = Fit(), iter((0.5, 0.2, 0.5))

    def on_best(metrics: dict[str, float]) -> None:
        told.append((metrics["score"], loop.done.step))

    loop = TrainingLoop(CONFIG, objective, Numbers(), tmp_path, validate=lambda: {"score": next(scores)}, on_best=on_best)
    done = loop.run()
    assert told == [(0.5, 8), (0.5, 24)], "of equals the later one"
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert [e["validation/score"] for e in epochs] == [0.5, 0.2, 0.5] and done.history == epochs
    assert epochs[0]["train/loss"] > epochs[2]["train/loss"] > 0 and epochs[0]["train/root"] > 0
    assert list((tmp_path / "tensorboard").iterdir())


def test_validation_sees_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    objective = Fit()
    modes: list[bool] = []
    training: list[bool] = []

    def validate() -> dict[str, float]:
        modes.append(objective.training or torch.is_grad_enabled())
        return {"score": 0.0}

    objective.layers.register_forward_hook(lambda *_: training.append(objective.training))
    TrainingLoop(CONFIG, objective, Numbers(), tmp_path, validate=validate).run()
    assert modes == [False] * 3 and all(training) and len(training) == 24


def test_a_loss_that_is_no_number_stops_and_leaves_the_weights_whole(tmp_path: Path) -> None:
    loop = _loop(tmp_path, Numbers(10, "nan"))
    with pytest.raises(DataError, match=r"not finite at step 10 .*lower loop.learning_rate"):
        loop.run()
    assert all(bool(p.isfinite().all()) for p in loop.objective.parameters())


def test_workers_give_the_same_training(tmp_path: Path) -> None:
    here = _loop(tmp_path / "here", Numbers())
    there = _loop(tmp_path / "there", Numbers(), replace(CONFIG, workers=1))
    for loop in (here, there):
        torch.manual_seed(5)
        loop.run()
    assert all(torch.equal(a, b) for a, b in zip(_weights(here), _weights(there), strict=True))


def test_the_schedule_warms_up_and_comes_down() -> None:
    rates = [learning_rate(CONFIG, step, 24) for step in range(24)]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[4] == pytest.approx(0.01) and all(a > b for a, b in zip(rates[4:], rates[5:], strict=False))
    assert learning_rate(CONFIG, 24, 24) == pytest.approx(0.01 * CONFIG.final_share)
    constant = replace(CONFIG, schedule="constant")
    assert {learning_rate(constant, step, 24) for step in range(4, 24)} == {0.01}
    steps = replace(CONFIG, schedule="steps", milestones=(0.5, 0.75))
    assert [learning_rate(steps, step, 24) for step in (4, 11, 12, 17, 18, 23)] == pytest.approx([0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])
    for wrong in ({"schedule": "steps"}, {"milestones": (0.5,)}):
        with pytest.raises(ConfigError, match="steps have milestones"):
            replace(CONFIG, **wrong)


def test_sgd_rolls_on_with_its_momentum(tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer="sgd", learning_rate=0.05, momentum=0.8, weight_decay=0.01)
    loop = _loop(tmp_path, Numbers(), config)
    loop.run()
    assert isinstance(loop._optimizer, torch.optim.SGD) and {group["momentum"] for group in loop._optimizer.param_groups} == {0.8}
    losses = [epoch["train/loss"] for epoch in loop.done.history]
    assert losses[2] < losses[0]
    with pytest.raises(ConfigError, match="momentum is from 0"):
        replace(CONFIG, momentum=1.0)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not measured; there are: score"):
        _loop(tmp_path / "a", Numbers(), replace(CONFIG, monitor="recall")).run()
    with pytest.raises(DataError, match="no such file"):
        _loop(tmp_path / "b", Numbers()).resume()
    _loop(tmp_path / "c", Numbers(), replace(CONFIG, epochs=1)).run()
    (tmp_path / "c" / "last.pt").write_bytes((tmp_path / "c" / "last.pt").read_bytes()[:500])
    with pytest.raises(DataError, match="damaged"):
        _loop(tmp_path / "c", Numbers()).resume()
    with pytest.raises(ConfigError):
        replace(CONFIG, epochs=0)


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    _loop(tmp_path, Numbers(), replace(CONFIG, epochs=1)).run()
    other = Fit()
    other.layers[0] = nn.Linear(6, 8)
    with pytest.raises(DataError, match="another network") as told:
        TrainingLoop(CONFIG, other, Numbers(), tmp_path, validate=dict).resume()
    assert "\n" not in str(told.value)


def test_a_checkpoint_holds_plain_values_only(tmp_path: Path) -> None:
    loop = _loop(tmp_path, Numbers())
    loop.run()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert Progress(**state["progress"]) == loop.done
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


_TWO = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {here!r})
from dataclasses import replace
from test_loop import CONFIG, Fit, Numbers
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.processes import processes
torch.set_num_threads(1)
with processes("cpu") as group:
    objective = Fit()
    objective.layers[2].p = 0.0
    loop = TrainingLoop(replace(CONFIG, epochs=2), objective, Numbers(), Path({out!r}), validate=lambda: {{"score": 1.0}}, group=group)
    loop.run()
    torch.save(objective.state_dict(), Path({out!r}) / f"rank{{group.rank}}.pt")
"""


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = tmp_path / "two.py"
    script.write_text(_TWO.format(here=str(Path(__file__).parent), out=str(out)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ranks = [torch.load(out / f"rank{k}.pt", weights_only=True) for k in (0, 1)]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])

    class Both(Numbers):
        def batch(self, number: int) -> dict[str, Tensor]:
            parts = [super(Both, self).batch(2 * number + k) for k in (0, 1)]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    alone = Fit()
    alone.layers[2].p = 0.0
    TrainingLoop(replace(CONFIG, epochs=2), alone, Both(), tmp_path / "alone", validate=lambda: {"score": 1.0}).run()
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(value, ranks[0][name], rtol=1e-4, atol=1e-5)
    assert len(list(out.glob("last.pt"))) == 1
