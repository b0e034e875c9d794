"""Makes docs/pictures/objects.jpg, the picture in docs/objects.md: traffic of a synthetic town in several lights, the right halves marked.

python docs/draw_objects.py
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.io.images import write_image
from ros2_loc.world.domains import domain_light
from ros2_loc.world.drive import Vehicle, make_drive
from ros2_loc.world.layout import TownSize
from ros2_loc.world.movers import LABELS
from ros2_loc.world.recording import demo_camera, demo_mounting
from ros2_loc.world.render import View, render
from ros2_loc.world.routes import random_route
from ros2_loc.world.town import Town
from ros2_loc.world.traffic import Traffic
from ros2_loc.world.ways import street_network

OUT = Path(__file__).resolve().parent / "pictures" / "objects.jpg"
SHOWN = ("day", "overcast", "rain", "dusk", "night", "winter")
COLORS = ((60, 200, 90), (60, 200, 230), (250, 150, 40), (230, 80, 220))  # of LABELS, RGB
COLUMNS, SIZE_PX, SUPERSAMPLED = 3, (400, 250), 2


def main() -> int:
    """Render and write."""
    parser = argparse.ArgumentParser(description="traffic of a synthetic town in several lights, half of it with masks and boxes")
    parser.add_argument("--seed", type=int, default=11, help="of the town (default: 11)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    arguments = parser.parse_args()
    size = replace(TownSize.district(260.0, patterns=60, quarters=4), facade_px_per_m=20.0, ground_px_per_m=10.0)
    town = Town.generate(arguments.seed, size)
    drive = make_drive(random_route(street_network(town), 260.0, np.random.default_rng(arguments.seed)), Vehicle(speed_mps=8.0))
    traffic = Traffic.generate(town, arguments.seed, density=2.5, drive=drive)
    camera = demo_camera(SUPERSAMPLED * SIZE_PX[0], SUPERSAMPLED * SIZE_PX[1])
    tiles = []
    for domain in SHOWN:
        views = [
            render(town, camera, drive.at(stamp) @ demo_mounting(), domain_light(domain), np.random.default_rng(0), traffic.at(stamp))
            for stamp in drive.stamps(0.5)[1:].tolist()[len(tiles) :: len(SHOWN)]
        ]
        tiles.append(tile(max(views, key=worth), domain))
    rows = [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]
    write_image(arguments.out, np.vstack(rows), jpeg_quality=84)
    print(arguments.out)
    return 0


def worth(view: View) -> float:
    """How much of it shows what there is to see: objects of all labels, none of which fills it."""
    areas = {label: sum(min(int((view.objects == t.id).sum()), 12000) for t in view.seen if t.label == label) for label in LABELS}
    return float(sum(min(area, 12000) ** 0.5 for area in areas.values()))


def tile(view: View, domain: str) -> NDArray[np.uint8]:
    """The picture with its name; masks and boxes on its right half."""
    rgb = view.rgb.astype(np.float32)
    half = np.arange(rgb.shape[1]) >= rgb.shape[1] // 2
    for thing in view.seen:
        rgb[(view.objects == thing.id) & half] *= 0.5
        rgb[(view.objects == thing.id) & half] += 0.5 * np.array(COLORS[LABELS.index(thing.label)], np.float32)
    drawn = rgb.astype(np.uint8)
    for thing in view.seen:
        x0, y0, x1, y1 = (round(v) for v in thing.box_px)
        if (x0 + x1) / 2 >= rgb.shape[1] // 2:
            cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), COLORS[LABELS.index(thing.label)], 2)
    small = np.ascontiguousarray(cv2.resize(drawn, SIZE_PX, interpolation=cv2.INTER_AREA), np.uint8)
    for shift, color in ((1, (0, 0, 0)), (0, (255, 255, 255))):
        cv2.putText(small, domain, (8 + shift, SIZE_PX[1] - 10 + shift), cv2.FONT_HERSHEY_DUPLEX, 0.6, color, 1, cv2.LINE_AA)
    return small


if __name__ == "__main__":
    raise SystemExit(main())
