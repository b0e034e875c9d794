"""Makes docs/pictures/demo.png, the picture in the README, from what `ros2-loc demo` left behind.

ros2-loc demo && python docs/make_pictures.py ros2_loc_demo
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ros2_loc.errors import DataError
from ros2_loc.evaluation.against_truth import read_truth, with_truth
from ros2_loc.evaluation.localizers import localizers_view
from ros2_loc.evaluation.records import FrameResult
from ros2_loc.evaluation.stretches import Intervals, off_the_map
from ros2_loc.io.files import atomic_path
from ros2_loc.io.images import read_image
from ros2_loc.mapping.sparse_map import MapFrame, SparseMap
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.visualization.colors import AMBER, BLUE, GREEN, INK, VIOLET, hex_color
from ros2_loc.visualization.localizers import draw_localizers

OUT = Path(__file__).resolve().parent / "pictures" / "demo.png"
SAID = {
    "map_localizer": ("localized", BLUE, "."),
    "cross_view_localizer": ("cross_view", VIOLET, "P"),
    "pose_fusion": ("fused", GREEN, "-"),
}


def main() -> int:
    """Draw and write."""
    parser = argparse.ArgumentParser(description="the README's picture, from the folder of a demo")
    parser.add_argument("demo", type=Path, nargs="?", default=Path("ros2_loc_demo"), help="default: ros2_loc_demo")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    arguments = parser.parse_args()
    demo = arguments.demo
    overlays = sorted((demo / "recorded" / "overlays").glob("*.jpg"))
    if not overlays:
        raise DataError(f"{demo}: has no pictures of the localizer; run `ros2-loc demo` without --offline")
    truth = read_truth(demo / "second_drive")
    said = {node: with_truth(demo / "recorded" / f"{name}.json", truth, 200_000_000).frames for node, (name, *_) in SAID.items()}
    off = off_the_map(truth, [place.map_from_base for place in SparseMap.load(demo / "map").places])
    view = localizers_view(TileDatabase.load(demo / "tiles"), MapFrame.load(demo / "map"), said, truth, off)
    figure = Figure(figsize=(13.0, 6.6), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 2, width_ratios=[1.0, 1.12], height_ratios=[1.25, 1])
    draw_camera(figure.add_subplot(grid[0, 0]), overlays[len(overlays) // 8])
    draw_errors(figure.add_subplot(grid[1, 0]), said, off)
    town = figure.add_subplot(grid[:, 1])
    draw_localizers(town, view)
    town.legend(loc="upper left", fontsize=8, framealpha=0.9)
    town.set_title("a second drive, in the map of the first and over satellite tiles", fontsize=10, color=hex_color(INK))
    with atomic_path(arguments.out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
    print(arguments.out)
    return 0


def draw_camera(axes: Axes, overlay: Path) -> None:
    """The camera's image as the localizer publishes it."""
    axes.imshow(read_image(overlay))
    axes.set_title("/localization/matches_image", fontsize=10, color=hex_color(INK))
    axes.axis("off")


def draw_errors(axes: Axes, said: Mapping[str, Sequence[FrameResult]], off: Intervals) -> None:
    """Errors in the plane over the time, and what the fusion claims."""
    start_ns = min(frame.stamp_ns for frames in said.values() for frame in frames)
    for begin, end in off:
        axes.axvspan((begin - start_ns) * 1e-9, (end - start_ns) * 1e-9, color=hex_color(AMBER), alpha=0.2, lw=0, label="off the map")
    for node, (_, color, mark) in SAID.items():
        known = [(f.stamp_ns, f.estimate, f.truth) for f in said[node] if f.estimate is not None and f.truth is not None]
        seconds = np.array([(stamp_ns - start_ns) * 1e-9 for stamp_ns, _, _ in known])
        errors_m = [np.linalg.norm((e.map_from_base.translation - t.translation)[:2]) for _, e, t in known]
        axes.plot(seconds, np.maximum(errors_m, 1e-3), mark, color=hex_color(color), ms=5, lw=1.2, label=node)
        if node == "pose_fusion":
            sigmas_m = np.array([np.sqrt(np.linalg.eigvalsh(e.covariance[:2, :2])[-1]) for _, e, _ in known])
            axes.plot(seconds, 3 * sigmas_m, ":", color=hex_color(color), lw=1.0, label="3 sigma of pose_fusion")
    axes.set_yscale("log")
    axes.set_xlabel("time [s]")
    axes.set_ylabel("error [m]")
    axes.legend(loc="upper left", fontsize=7, framealpha=0.85, ncols=2)
    axes.set_title("how far off it is, and what it claims", fontsize=10, color=hex_color(INK))


if __name__ == "__main__":
    raise SystemExit(main())
