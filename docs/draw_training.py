"""Makes docs/pictures/r2d2_training.png (cosplace_, centernet_, d2det_training.png) from the history of a training.

ros2-loc train r2d2 --data folder my_images --out trained && python docs/draw_training.py trained
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ros2_loc.io.files import atomic_path, read_text
from ros2_loc.visualization.colors import AMBER, BLUE, GREEN, INK, VIOLET, hex_color

PICTURES = Path(__file__).resolve().parent / "pictures"
LOSSES = {"loss": ("loss", INK), "cosine": ("cosine", BLUE), "peaky": ("peaky, both images", GREEN), "reliability": ("reliability", AMBER)}
MEASURED = {
    "mma_at_5": ("MMA at 5 px", AMBER),
    "mma_at_3": ("MMA at 3 px", BLUE),
    "mma_at_1": ("MMA at 1 px", GREEN),
    "repeatability_at_3": ("repeatability at 3 px", VIOLET),
}
PLACES_TRAINED = {"loss": ("loss", INK)}
PLACES_MEASURED = {"recall_at_10": ("R@10", AMBER), "recall_at_5": ("R@5", GREEN), "recall_at_1": ("R@1", BLUE)}
DETECTORS_TRAINED = {
    "loss": ("loss", INK),
    "corners": ("corners", BLUE),
    "centres": ("centres", GREEN),
    "class": ("class", BLUE),
    "distance": ("distance", GREEN),
    "mask": ("mask", AMBER),
}
DETECTORS_MEASURED = {
    "ap_50": ("AP50", AMBER),
    "ap": ("AP", BLUE),
    "mask_ap": ("mask AP", VIOLET),
}
# what is validated -> name of the picture, losses and numbers that are drawn, what is validated with
KINDS = {
    "recall_at_1": ("cosplace", PLACES_TRAINED, PLACES_MEASURED, "a town"),
    "mask_ap": ("d2det", DETECTORS_TRAINED, DETECTORS_MEASURED, "towns"),
    "ap": ("centernet", DETECTORS_TRAINED, DETECTORS_MEASURED, "towns"),
    "mma_at_3": ("r2d2", LOSSES, MEASURED, "images"),
}


def main() -> int:
    """Draw and write."""
    parser = argparse.ArgumentParser(description="the curves of a training of local features, of places or of a detector")
    parser.add_argument("trained", type=Path, help="its folder")
    parser.add_argument("--out", type=Path, help=f"default: r2d2_training.png or another name in {PICTURES}")
    arguments = parser.parse_args()
    epochs = json.loads(read_text(arguments.trained / "history.json", "history of a training"))["epochs"]
    measured = {name for epoch in epochs for name in epoch}
    name, losses, numbers, what = next(kind for number, kind in KINDS.items() if f"validation/{number}" in measured)
    figure = Figure(figsize=(8.4, 3.0), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    out = arguments.out or PICTURES / f"{name}_training.png"
    draw(left, epochs, "train", losses, "training, mean of an epoch")
    draw(right, epochs, "validation", numbers, f"{what} not trained on")
    right.set_ylim(0.0, None)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=80, format="png")
    print(out)
    return 0


def draw(axes: Axes, epochs: list[dict[str, float]], kind: str, names: dict, title: str) -> None:
    """One line for each name that there is."""
    for name, (label, color) in names.items():
        rows = [(epoch["step"], epoch[f"{kind}/{name}"]) for epoch in epochs if f"{kind}/{name}" in epoch]
        if not rows:
            continue
        axes.plot(*zip(*rows, strict=True), color=hex_color(color), label=label, marker=".", linewidth=1.4)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, framealpha=0.9)


if __name__ == "__main__":
    raise SystemExit(main())
