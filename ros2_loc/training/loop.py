"""One loop for every network: steps, schedule, mixed precision, several processes, validation, checkpoints, exact resume.

What is trained is an `objective`: a module whose forward takes a batch and returns named scalar losses, of which "loss" is minimized.
It may have `rates`, factors on the learning rate by the beginning of parameters' names, and `leaves_out`, True where a step does not use
all parameters.
A batch is a function of its number alone, so a training that was interrupted goes on with the batches it would have had.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from ros2_loc.training.processes import Processes

Batch = dict[str, Tensor]
Validate = Callable[[], dict[str, float]]

CHECKPOINT = "last.pt"


class Batches(Protocol):
    """Where batches come from: the same number gives the same batch, in whichever process it is asked for."""

    def batch(self, number: int) -> Batch: ...


class TrainingLoop:
    """Trains an objective and keeps the best by validation.

    In its folder: `last.pt` to resume from, `history.json` with what was measured after each epoch, `tensorboard/`.
    """

    @dataclass(frozen=True)
    class Config:
        """Sizes are of one process; with torchrun each has batches of its own, and gradients are averaged."""

        epochs: int = 20
        steps_per_epoch: int = 250
        optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
        learning_rate: float = 1e-4
        momentum: float = 0.9  # of sgd
        weight_decay: float = 0.0  # of matrices and kernels
        schedule: Literal["constant", "cosine", "steps"] = "cosine"
        milestones: tuple[float, ...] = ()  # of the schedule of steps: shares of the training after each of which the rate is a tenth
        warmup_steps: int = 0
        final_share: float = 0.02  # of the learning rate, at the end of a cosine
        clip_norm: float = 0.0  # 0: gradients as they are
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 or float16 on a GPU, float32 elsewhere
        workers: int = 1  # processes that make batches; 0: this one does
        validate_every: int = 1  # epochs
        monitor: str = "recall_at_1"  # the validated number that decides which model is best; higher is better
        checkpoint_every_s: float = 120.0
        seed: int = 0

        def __post_init__(self) -> None:
            object.__setattr__(self, "milestones", tuple(self.milestones))
            if min(self.epochs, self.steps_per_epoch, self.validate_every) < 1 or min(self.workers, self.warmup_steps) < 0:
                raise ConfigError(f"{self}: epochs, steps_per_epoch, validate_every must be at least 1, workers and warmup_steps 0")
            if not (self.learning_rate > 0 and self.clip_norm >= 0 and self.weight_decay >= 0):
                raise ConfigError(f"{self}: learning_rate must be positive, clip_norm and weight_decay not negative")
            if not 0 <= self.momentum < 1 or not all(0 < share < 1 for share in self.milestones):
                raise ConfigError(f"{self}: momentum is from 0 to below 1, milestones are shares between 0 and 1")
            if bool(self.milestones) != (self.schedule == "steps"):
                raise ConfigError(f"schedule {self.schedule}, milestones {self.milestones}: steps have milestones, no other schedule has")

    def __init__(
        self,
        config: Config,
        objective: nn.Module,
        batches: Batches,
        folder: Path,
        *,
        validate: Validate,
        on_best: Callable[[dict[str, float]], None] = lambda measured: None,
        group: Processes | None = None,
        show_progress: bool = False,
    ) -> None:
        """Nothing runs yet.

        Args:
            objective: on the CPU; it is moved to the group's device.
            batches: tensors of this process's device are made from them.
            folder: made when it is not there.
            validate: called by the first process, in evaluation mode and without gradients, after every `validate_every` epochs.
            on_best: called with the metrics when `config.monitor` is better than ever.
            group: the processes; default: this one on the CPU.
        """
        self.config, self.group, self.folder = config, group or Processes(), folder
        self.objective = objective.to(self.group.device)
        self.done = Progress()
        self._batches, self._validate, self._on_best, self._show = batches, validate, on_best, show_progress
        self._precision = _precision(config.precision, self.group.device)
        self._optimizer = _optimizer(config, self.objective)
        self._scaler = torch.amp.GradScaler(torch.device(self.group.device).type, enabled=self._precision == torch.float16)

    @property
    def checkpoint(self) -> Path:
        """The file to resume from."""
        return self.folder / CHECKPOINT

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.config.epochs * self.config.steps_per_epoch

    def resume(self) -> None:
        """Go on from the checkpoint in the folder; raises DataError as `load_checkpoint`."""
        self.done = load_checkpoint(self.checkpoint, self.objective, self._optimizer, self._scaler, self.group.device)
        if not self.group.is_first:  # random numbers are kept of the first process only
            torch.manual_seed(self.config.seed + 7919 * self.group.rank + self.done.step)

    def run(self) -> Progress:
        """Train to the end.

        Raises:
            KeyboardInterrupt: Ctrl-C, after the step was ended and a checkpoint written.
            DataError: the loss is not finite, or the disk refuses a checkpoint.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        module = self.group.wrap(self.objective)
        with _asked_to_stop() as asked, self._writer() as writer, self._bar() as bar:
            self._steps(module, asked, writer, bar)
        return self.done

    def _steps(self, module: nn.Module, asked: threading.Event, writer: SummaryWriter | None, bar: tqdm) -> None:
        saved_at = time.monotonic()
        module.train()
        for batch in self._prefetched():
            losses = self._step(module, batch)
            self.done.step += 1
            self.done.sums = {name: self.done.sums.get(name, 0.0) + value for name, value in losses.items()}
            bar.update()
            bar.set_postfix({"loss": f"{losses['loss']:.4f}"}, refresh=False)
            if self.done.step % self.config.steps_per_epoch == 0:
                self._end_epoch(writer)
                module.train()
            last = self.done.step == self.total_steps
            stop = self.group.any(asked.is_set())
            if stop or last or time.monotonic() - saved_at > self.config.checkpoint_every_s:
                self._save()
                saved_at = time.monotonic()
            if stop and not last:
                raise KeyboardInterrupt

    def _step(self, module: nn.Module, batch: Batch) -> dict[str, float]:
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * learning_rate(self.config, self.done.step, self.total_steps)
        device = torch.device(self.group.device)
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(device.type, self._precision, enabled=self._precision != torch.float32):
            losses = module(batch)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if self.group.any(not math.isfinite(values["loss"])):
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise DataError(f"the loss is not finite at step {self.done.step} ({shown}): lower loop.learning_rate or set loop.clip_norm=1")
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(losses["loss"]).backward()
        if self.config.clip_norm:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return values

    def _end_epoch(self, writer: SummaryWriter | None) -> None:
        epoch = self.done.step // self.config.steps_per_epoch
        measured = {"epoch": float(epoch), "step": float(self.done.step)}
        measured |= {f"train/{name}": value / self.config.steps_per_epoch for name, value in self.done.sums.items()}
        self.done.sums = {}
        if self.group.is_first and (epoch % self.config.validate_every == 0 or self.done.step == self.total_steps):
            measured |= self._validated()
        self.group.wait()
        self.done.history.append(measured)
        if writer is not None:
            for name, value in measured.items():
                writer.add_scalar(name, value, self.done.step)
            writer.add_scalar("learning_rate", self._optimizer.param_groups[0]["lr"], self.done.step)
            writer.flush()
            tqdm.write(", ".join(f"{name.partition('/')[2] or name} {value:.4g}" for name, value in measured.items()))
        self._write_history()

    def _validated(self) -> dict[str, float]:
        self.objective.eval()
        with torch.no_grad():
            metrics = self._validate()
        if self.config.monitor not in metrics:
            raise ConfigError(f"loop.monitor {self.config.monitor!r} is not measured; there are: {', '.join(metrics)}")
        if metrics[self.config.monitor] >= self.done.best:  # of equals the one that has trained longer
            self.done.best, self.done.best_step = metrics[self.config.monitor], self.done.step
            self._on_best(metrics)
        return {f"validation/{name}": value for name, value in metrics.items()}

    def _prefetched(self) -> Iterator[Batch]:
        """The batches of the steps that are left, of this process."""
        size, rank = self.group.size, self.group.rank
        numbers = range(self.done.step * size + rank, self.total_steps * size + rank, size)
        if not self.config.workers:
            yield from (self._batches.batch(number) for number in numbers)
            return
        cv2.setNumThreads(1)  # before the fork: OpenCV's threads do not come along, and the child would wait for them
        yield from DataLoader(
            _Numbered(self._batches),
            batch_size=None,
            sampler=numbers,
            num_workers=self.config.workers,
            worker_init_fn=_quiet_worker,
            multiprocessing_context="fork",  # images that lie in memory are shared, not copied
            pin_memory=self.group.device.startswith("cuda"),
            generator=torch.Generator(),  # or it would draw from the random numbers of the network
        )

    def _save(self) -> None:
        if self.group.is_first:
            save_checkpoint(self.checkpoint, self.objective, self._optimizer, self._scaler, self.done)

    def _write_history(self) -> None:
        if self.group.is_first:
            with atomic_path(self.folder / "history.json") as temporary:
                temporary.write_text(json.dumps({"loop": asdict(self.config), "epochs": self.done.history}, indent=1) + "\n")

    @contextmanager
    def _writer(self) -> Iterator[SummaryWriter | None]:
        if not self.group.is_first:
            yield None
            return
        with SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.done.step) as writer:
            yield writer

    def _bar(self) -> tqdm:
        shown = self._show and self.group.is_first
        return tqdm(total=self.total_steps, initial=self.done.step, desc="   train", disable=not shown, dynamic_ncols=True)


def learning_rate(config: TrainingLoop.Config, step: int, total_steps: int) -> float:
    """The learning rate of a step: linear warm-up, then constant, half a cosine down to `final_share` of it, or a tenth at milestones."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "steps":
        return config.learning_rate * 0.1 ** sum(step >= share * total_steps for share in config.milestones)
    way = (step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
    return config.learning_rate * (config.final_share + (1.0 - config.final_share) * 0.5 * (1.0 + math.cos(math.pi * way)))


def _optimizer(config: TrainingLoop.Config, objective: nn.Module) -> torch.optim.Optimizer:
    rates: Mapping[str, float] = getattr(objective, "rates", {})
    trained: dict[float, list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            rate = next((rate for beginning, rate in rates.items() if name.startswith(beginning)), 1.0)
            trained.setdefault(rate, []).append(parameter)
    groups: list[dict[str, Any]] = []
    for rate, parameters in trained.items():
        groups.append({"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay, "rate": rate})
        groups.append({"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "rate": rate})
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate)


def _precision(asked: str, device: str) -> torch.dtype:
    if asked != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[asked]
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


class _Numbered(Dataset):
    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> Batch:
        return self._batches.batch(number)


def _quiet_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the step must still get its batch


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; a second one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
