"""Makes docs/pictures/demo.png, the picture in the README, from what `ros2-loc demo` left behind.

ros2-loc demo && python docs/make_pictures.py ros2_loc_demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ros2_loc.errors import DataError
from ros2_loc.evaluation.records import Evaluation
from ros2_loc.io.files import atomic_path
from ros2_loc.io.images import read_image
from ros2_loc.visualization.colors import BLUE, INK, hex_color
from ros2_loc.visualization.trajectory import TopView, draw_top_view

OUT = Path(__file__).resolve().parent / "pictures" / "demo.png"


def main() -> int:
    """Draw and write."""
    parser = argparse.ArgumentParser(description="the README's picture, from the folder of a demo")
    parser.add_argument("demo", type=Path, nargs="?", default=Path("ros2_loc_demo"), help="default: ros2_loc_demo")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    arguments = parser.parse_args()
    evaluation = Evaluation.read_json(arguments.demo / "evaluation.json")
    overlays = sorted((arguments.demo / "recorded" / "overlays").glob("*.jpg"))
    if not overlays:
        raise DataError(f"{arguments.demo}: has no pictures of the localizer; run `ros2-loc demo` without --offline")
    figure = Figure(figsize=(13.0, 5.4), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 2, width_ratios=[1.25, 1], height_ratios=[1.45, 1])
    draw_camera(figure.add_subplot(grid[:, 0]), overlays[len(overlays) // 2])
    draw_way(figure.add_subplot(grid[0, 1]), evaluation)
    draw_covariance(figure.add_subplot(grid[1, 1]), evaluation)
    with atomic_path(arguments.out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
    print(arguments.out)
    return 0


def draw_camera(axes: Axes, overlay: Path) -> None:
    """The camera's image as the localizer publishes it."""
    axes.imshow(read_image(overlay))
    axes.set_title("/localization/matches_image", fontsize=10, color=hex_color(INK))
    axes.axis("off")


def draw_way(axes: Axes, evaluation: Evaluation) -> None:
    """From above: the map's places, the truth, what was estimated from each image."""
    truth_m = np.array([frame.truth.translation for frame in evaluation.frames if frame.truth is not None])
    scored = evaluation.scored
    estimates_m = np.array([frame.estimate.map_from_base.translation for frame in scored if frame.estimate is not None])
    errors_m = np.array([frame.error_m for frame in scored])
    draw_top_view(axes, TopView(truth_m, estimates_m, errors_m, places_m=evaluation.places_m))
    axes.legend(loc="center", bbox_to_anchor=(0.5, 0.38), frameon=False, fontsize=8)
    axes.set_title("a second drive in the map of the first", fontsize=10, color=hex_color(INK))


def draw_covariance(axes: Axes, evaluation: Evaluation) -> None:
    """The error along x with the band of three claimed standard deviations."""
    rows = [
        (frame.stamp_ns, frame.estimate.map_from_base.translation[0] - frame.truth.translation[0], np.sqrt(frame.estimate.covariance[0, 0]))
        for frame in evaluation.scored
        if frame.estimate is not None and frame.truth is not None
    ]
    stamps, errors_m, sigmas_m = (np.array(column) for column in zip(*rows, strict=True))
    seconds = (stamps - stamps[0]) * 1e-9
    band = 300.0 * sigmas_m
    axes.fill_between(seconds, -band, band, color=hex_color(BLUE), alpha=0.18, lw=0, label="3 claimed sigma")
    axes.plot(seconds, 100.0 * errors_m, ".", color=hex_color(INK), ms=4, label="error in x")
    axes.set_xlabel("time [s]")
    axes.set_ylabel("[cm]")
    axes.legend(loc="upper right", frameon=False, fontsize=8, ncols=2)
    axes.set_title("what it claims, and how far off it is", fontsize=10, color=hex_color(INK))


if __name__ == "__main__":
    raise SystemExit(main())
