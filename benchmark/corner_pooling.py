"""Corner pooling and centre pooling: a naive loop, PyTorch's cummax, maxima with shifted copies, and what the network uses.

    python benchmark/corner_pooling.py --threads 1 --cpu-time

All ways take turns on the same random features; each must give the same numbers. Sizes are channels x rows x columns: those of the small
network and of the published ones for a frame of KITTI, and of a training image of the paper. Ratios are to the naive loop; above 1 is
faster. "forward" is without gradients, as on a robot; "learning" is forward and backward. Bottom and right are as top and left.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ros2_loc.cli.console import milliseconds, table
from ros2_loc.models.centernet.pooling import (
    Direction,
    corner_pool,
    cross_pool,
    maximum_by_cummax,
    maximum_by_shifts,
    maximum_in_place,
)

Way = Callable[[Tensor], Tensor]

SIZES = ((16, 96, 312), (128, 96, 312), (128, 128, 128))
# the dimension, and whether the maximum is over what comes after a place
DIRECTIONS: dict[Direction, tuple[int, bool]] = {"top": (2, True), "left": (3, True)}
_WAYS = (part for way in ("cummax", "shifted copies", "in place", "the network's") for part in (way, "ratio"))
HEADER = ("features", "pooling", "pass", "naive loop", *_WAYS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true", help="the processor's time instead of the clock's (all threads together)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows = []
    for channels, height, width in SIZES:
        features = torch.randn(1, channels, height, width, device=arguments.device).to(memory_format=torch.channels_last)
        for learning in (False, True):
            for name, ways in poolings(learning).items():
                took = compare(ways, features, learning, arguments.rounds, clock)
                shown = [part for way in ways if way != "naive" for part in told(took.get(way), took["naive"])]
                given = f"{channels}x{height}x{width}", name, "learning" if learning else "forward"
                rows.append((*given, milliseconds(took["naive"]), *shown))
        print(table(rows, HEADER), flush=True)
    return 0


def poolings(learning: bool) -> dict[str, dict[str, Way | None]]:
    """For each kind of pooling its ways, in the order of the columns; None where a way has no gradients, or is another's."""
    found: dict[str, dict[str, Way | None]] = {}
    for direction, (dim, after) in DIRECTIONS.items():
        found[direction] = {
            "naive": lambda x, d=dim, a=after: naive(x, d, a),  # type: ignore[misc]
            "cummax": lambda x, d=dim, a=after: maximum_by_cummax(x, d, a),  # type: ignore[misc]
            "shifts": lambda x, d=dim, a=after: maximum_by_shifts(x, d, a),  # type: ignore[misc]
            "in place": None if learning else lambda x, d=dim, a=after: maximum_in_place(x, d, a),  # type: ignore[misc]
            "network": lambda x, n=direction: corner_pool(x, n),  # type: ignore[misc]
        }
    found["centre"] = {
        "naive": lambda x: naive(naive(x, 2, True), 2, False) + naive(naive(x, 3, True), 3, False),
        "cummax": lambda x: _both_ways(x, maximum_by_cummax),
        "shifts": lambda x: _both_ways(x, maximum_by_shifts),
        "in place": None if learning else lambda x: _both_ways(x, maximum_in_place),
        "network": lambda x: cross_pool(x, 2) + cross_pool(x, 3),
    }
    return found


def naive(features: Tensor, dim: int, after: bool) -> Tensor:
    """Line by line, each the maximum of itself and the last: as the authors' operation does it, without its own kernel."""
    lines = list(features.unbind(dim)[:: -1 if after else 1])
    for index in range(1, len(lines)):
        lines[index] = torch.maximum(lines[index - 1], lines[index])
    return torch.stack(lines[:: -1 if after else 1], dim=dim)


def compare(ways: dict[str, Way | None], features: Tensor, learning: bool, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median time of each way, s.

    Raises:
        SystemExit: a way gives other numbers than the naive loop.
    """
    took: dict[str, list[float]] = {name: [] for name, way in ways.items() if way}
    expected = ways["naive"](features)  # type: ignore[misc]
    for count in range(rounds + 1):
        for name in took:
            given = features.clone(memory_format=torch.preserve_format).requires_grad_(learning)
            _wait(features)
            started = clock()
            pooled = ways[name](given)  # type: ignore[misc]
            if learning:
                pooled.sum().backward()
            _wait(features)
            if count:  # the first warms up
                took[name].append(clock() - started)
            if not torch.equal(pooled.detach(), expected):
                raise SystemExit(f"{name} differs from the naive loop")
    return {name: statistics.median(times) for name, times in took.items()}


def told(took: float | None, naive_took: float) -> tuple[str, str]:
    """Time and ratio of a way, dashes for one that there is not."""
    return ("-", "-") if took is None else (milliseconds(took), f"{naive_took / took:.1f}")


def _both_ways(features: Tensor, maximum: Callable[[Tensor, int, bool], Tensor]) -> Tensor:
    return maximum(maximum(features, 2, True), 2, False) + maximum(maximum(features, 3, True), 3, False)


def _wait(features: Tensor) -> None:
    if features.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    raise SystemExit(main())
