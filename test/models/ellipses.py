"""Images with ellipses of four kinds on them, as a batch of `DetectionBatches`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ros2_loc.models.d2det.network import D2Det

LABELS = ("car", "truck", "person", "cyclist")


def tiny(**changes: object) -> D2Det.Config:
    """The settings of a network that takes milliseconds."""
    sizes = {"widths": (8, 8, 16, 16), "channels": 16, "hidden": 32, "light_hidden": 16, "width": 16, "groups": 4}
    limits = {"mask_width": 16, "mask_groups": 4, "proposals": (60, 30), "short_side_px": 96, "long_side_px": 160, "max_detections": 20}
    return replace(D2Det.Config.small(LABELS), **{**sizes, **limits, **changes})  # type: ignore[arg-type]


def batch(images: int = 2, objects: int = 3, size: tuple[int, int] = (96, 128), seed: int = 0) -> dict[str, Tensor]:
    """`images` of `size` (height, width) with `objects` each, the later ones in front."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    pixels = 0.3 * torch.rand(images, 3, height, width, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    boxes, labels, masks = [], [], []
    for image in pixels:
        own: list[Tensor] = []
        for _ in range(objects):
            sides = 18.0 + 20.0 * torch.rand(2, generator=generator)
            corner = torch.rand(2, generator=generator) * (torch.tensor([width, height]) - sides)
            label = int(torch.randint(len(LABELS), (1,), generator=generator))
            x, y = corner + sides / 2.0
            mask = ((columns - x) / sides[0]) ** 2 + ((rows - y) / sides[1]) ** 2 < 0.25
            for behind in own:
                behind &= ~mask
            image[:, mask] = torch.tensor([0.3 + 0.2 * label, 0.9 - 0.2 * label, 0.5])[:, None]
            own.append(mask)
            boxes.append(torch.cat([corner, corner + sides]))
            labels.append(label)
        masks += own
    none = {"boxes": torch.zeros(0, 4), "masks": torch.zeros(0, height, width, dtype=torch.bool)}
    return {
        "image": (255.0 * pixels.clamp(0.0, 1.0)).to(torch.uint8),
        "size_px": torch.tensor([size] * images),
        "boxes": torch.stack(boxes) if boxes else none["boxes"],
        "labels": torch.tensor(labels, dtype=torch.int64),
        "of_image": torch.arange(images).repeat_interleave(objects),
        "masks": torch.stack(masks) if masks else none["masks"],
    }
