"""Makes docs/pictures/domains.jpg, the picture in docs/places.md: one view of a synthetic town in each of its domains.

python docs/draw_domains.py
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.io.images import write_image
from ros2_loc.world.domains import DOMAINS, domain_light
from ros2_loc.world.layout import TownSize
from ros2_loc.world.recording import demo_camera, demo_mounting
from ros2_loc.world.render import render
from ros2_loc.world.routes import district_drives
from ros2_loc.world.town import Town

OUT = Path(__file__).resolve().parent / "pictures" / "domains.jpg"
COLUMNS, SIZE_PX, SUPERSAMPLED = 3, (400, 250), 2


def main() -> int:
    """Render and write."""
    parser = argparse.ArgumentParser(description="one view of a synthetic town in each of its domains")
    parser.add_argument("--seed", type=int, default=11, help="of the town (default: 11)")
    parser.add_argument("--metres", type=float, default=60.0, help="driven along a random route (default: 60)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    arguments = parser.parse_args()
    size = replace(TownSize.district(260.0, patterns=60, quarters=4), facade_px_per_m=20.0, ground_px_per_m=10.0)
    town = Town.generate(arguments.seed, size)
    names = [name for name in DOMAINS if name != "morning"]
    tiles = [view(town, name, arguments.metres) for name in names]
    rows = [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]
    write_image(arguments.out, np.vstack(rows), jpeg_quality=84)
    print(arguments.out)
    return 0


def view(town: Town, domain: str, metres: float) -> NDArray[np.uint8]:
    """The picture with its name."""
    drive = district_drives(town, 0, metres + 10.0)[0].drive
    stamp = int(drive.stamps_every(metres)[1])
    width, height = SIZE_PX
    camera = demo_camera(SUPERSAMPLED * width, SUPERSAMPLED * height)
    rgb = render(town, camera, drive.at(stamp) @ demo_mounting(), domain_light(domain), np.random.default_rng(0)).rgb
    small = np.ascontiguousarray(cv2.resize(rgb, SIZE_PX, interpolation=cv2.INTER_AREA), np.uint8)
    for shift, color in ((1, (0, 0, 0)), (0, (255, 255, 255))):
        cv2.putText(small, domain, (8 + shift, height - 10 + shift), cv2.FONT_HERSHEY_DUPLEX, 0.6, color, 1, cv2.LINE_AA)
    return small


if __name__ == "__main__":
    raise SystemExit(main())
