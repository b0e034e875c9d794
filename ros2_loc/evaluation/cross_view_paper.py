"""The tables of the paper (CVLNet, ACCV 2022) that an ablation is printed beside, in %, as published on KITTI-CVL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# r@1, r@5, r@10, r@100 of Test-1, then of Test-2
Published = tuple[float, float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        name: as in the paper.
        published: its numbers; None where the paper prints none, or where it only draws them.
        network: how the network's settings differ from the ones that the paper calls "Ours".
        recipe: of the training, "cvlnet" or "safa".
        frames: at test time; None: those of the table.
        trained_frames: in training, where the row differs from the others in that.
    """

    name: str
    published: Published | None
    network: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = "cvlnet"
    frames: int | None = None
    trained_frames: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """One ablation: its title, its rows, and the number of frames of its queries."""

    title: str
    rows: tuple[Row, ...]
    frames: int = 4


_OURS: Published = (21.80, 47.92, 64.94, 99.07, 12.90, 27.34, 38.62, 85.00)
_OURS_SINGLE: Published = (17.71, 44.56, 62.15, 98.38, 9.38, 24.06, 34.45, 85.00)
_BACKBONES: tuple[tuple[str, str, Published], ...] = (
    ("ViT", "vit", (20.05, 45.13, 60.17, 97.53, 12.86, 27.94, 38.86, 81.64)),
    ("Swin", "swin", (18.40, 47.80, 63.73, 99.11, 12.29, 22.31, 35.29, 80.70)),
    ("ResNet-50", "resnet50", (22.68, 55.16, 67.69, 97.90, 9.75, 28.31, 38.45, 73.72)),
    ("VGG16 (the paper's)", "vgg16", _OURS),
)

TABLES: dict[str, Table] = {
    "parts": Table(
        "What the parts are worth (from Tables 2, 4 and 5)",
        (
            Row("single frame", _OURS_SINGLE, frames=1, trained_frames=1),
            Row("w/o GVP", (1.66, 4.33, 7.97, 36.35, 0.00, 0.16, 0.20, 5.22), {"view_projection": "none"}),
            Row("w/o SSM", None, {"shifts": False}),
            Row("Ours", _OURS),
        ),
    ),
    "views": Table(
        "View projection (Table 2, upper part)",
        (
            Row("w/o GVP (U-Net)", (0.08, 0.61, 1.70, 26.24, 0.00, 0.00, 0.00, 1.09), {"view_projection": "unet"}),
            Row("w/o GVP", (1.66, 4.33, 7.97, 36.35, 0.00, 0.16, 0.20, 5.22), {"view_projection": "none"}),
            Row("Ours", _OURS),
        ),
    ),
    "fusion": Table(
        "Sequence fusion (Table 2, lower part)",
        (
            Row("direct Conv2D", (1.25, 5.90, 10.80, 65.91, 8.90, 18.44, 26.61, 76.51), {"fusion": "conv2d"}),
            Row("direct Conv3D", (15.08, 41.57, 53.17, 93.09, 7.00, 20.38, 30.33, 75.90), {"fusion": "conv3d"}),
            Row("direct LSTM", (12.53, 32.11, 50.42, 96.93, 5.78, 15.89, 23.01, 70.60), {"fusion": "lstm"}),
            Row("attention Conv2D", (18.80, 47.03, 61.75, 96.64, 11.69, 25.03, 36.55, 81.52), {"fusion": "conv2d_attention"}),
            Row("attention Conv3D", (19.65, 43.27, 58.39, 97.41, 11.36, 24.02, 34.45, 83.58), {"fusion": "conv3d_attention"}),
            Row("attention LSTM", (15.93, 47.88, 66.03, 97.61, 9.70, 24.30, 35.26, 85.08), {"fusion": "lstm_attention"}),
            Row("Ours (PCSF)", _OURS),
        ),
    ),
    "backbone": Table(
        "Backbone (Table 3)",
        (*(Row(name, published, {"backbone": key}) for name, key, published in _BACKBONES), Row("small", None, {"backbone": "small"})),
    ),
    "ssm": Table(
        "Scene-prior driven similarity matching (Table 4; its first two rows are not legible in our copy of the paper)",
        (Row("w/o SSM", None, {"shifts": False}), Row("w/o U", None, {"uncertainty": False}), Row("Ours", _OURS)),
    ),
    "length": Table(
        "Sequence length, trained with 4 (Figure 6; its numbers are given for 1 and 4 frames, in Tables 5 and 2)",
        tuple(Row(f"{n} frame{'s' if n > 1 else ''}", {1: _OURS_SINGLE, 4: _OURS}.get(n), frames=n) for n in (1, 2, 4, 8, 12, 16)),
    ),
    "single": Table(
        "Single image (Table 5)",
        (
            Row("SAFA", (4.89, 15.77, 23.29, 87.75, 1.62, 4.73, 7.40, 30.13), {"polar": False}, "safa"),
            Row("Polar-SAFA", (6.67, 17.06, 27.62, 86.53, 1.13, 3.76, 6.23, 28.22), {"polar": True}, "safa"),
            Row("Ours, trained with 1 frame", _OURS_SINGLE, trained_frames=1),
            Row("Ours, trained with 4", None),
        ),
        frames=1,
    ),
}
