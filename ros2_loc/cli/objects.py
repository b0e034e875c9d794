"""`ros2-loc objects`: pictures of vehicles and people with exact boxes and masks, for detectors to learn from and to be measured with."""

from __future__ import annotations

import argparse
from pathlib import Path

from ros2_loc.cli.arguments import Parser, progress_wanted

EXAMPLE = "ros2-loc objects synthesize town_objects --seed 100 --towns 4 --count 200 --domains drawn,night"


def add_arguments(parser: Parser) -> None:
    """`synthesize`."""
    verbs = parser.add_verbs({"synthesize": ("render towns full of traffic: a folder in COCO's format", EXAMPLE)})
    verb = verbs["synthesize"]
    verb.add_argument("out", type=Path, help="folder to write; an interrupted call is taken up where it was")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the first town (default: 0)")
    verb.add_argument("--towns", type=int, default=1, metavar="N", help="how many towns, of the seeds that follow (default: 1)")
    verb.add_argument("--count", type=int, default=100, metavar="N", help="pictures in all (default: 100)")
    verb.add_argument("--size", type=int, nargs=2, default=(640, 384), metavar=("W", "H"), help="of the pictures, px (default: 640 384)")
    words = "day, night, rain, ... or drawn, any weather by day; named twice it comes twice as often (default: drawn,drawn,day,dusk,night)"
    verb.add_argument("--domains", default="drawn,drawn,day,dusk,night", metavar="A,B,...", help=words)
    words = "of the traffic, from and to; 1 is a vehicle every 45 m (default: 0.7 2.5)"
    verb.add_argument("--density", type=float, nargs=2, default=(0.7, 2.5), metavar=("FROM", "TO"), help=words)
    verb.add_argument("--extent", type=float, default=220.0, metavar="M", help="side of each district (default: 220)")
    verb.add_argument("--workers", type=int, default=1, metavar="N", help="processes that render (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Render."""
    from tqdm import tqdm

    from ros2_loc.world.object_views import ObjectSet, write_object_set

    how = ObjectSet(
        seed=arguments.seed,
        towns=arguments.towns,
        count=arguments.count,
        size_px=tuple(arguments.size),
        domains=tuple(word for word in arguments.domains.split(",") if word),
        density=tuple(arguments.density),
        extent_m=arguments.extent,
    )
    with tqdm(unit="image", disable=not progress_wanted()) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        count = write_object_set(arguments.out, how, workers=arguments.workers, progress=report)
    print(f"{arguments.out}: {how.count} images with {count} objects, annotations.json")
    return 0
