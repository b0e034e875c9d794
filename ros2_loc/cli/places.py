"""`ros2-loc places`: sets of places to measure retrieval with: rendered, or collected from photos and relabelled by hand."""

from __future__ import annotations

import argparse
from pathlib import Path

from ros2_loc.cli.arguments import Parser, progress_wanted

EXAMPLE = (
    "ros2-loc places synthesize town_places --seed 3 --domains day,night,fog\n"
    "  ros2-loc places collect my_photos night_set --database city/database\n"
    "  ros2-loc places relabel night_set/queries_night --database city/database"
)


def add_arguments(parser: Parser) -> None:
    """`synthesize`, `collect`, `relabel`."""
    from ros2_loc.cli import places_photos

    verbs = parser.add_verbs(
        {
            "synthesize": (
                "render the places of a synthetic town: a database by day, queries of other domains",
                "ros2-loc places synthesize town_places --seed 3 --domains day,night,fog,rain,winter",
            ),
            "collect": (
                "make queries out of a folder of geo-tagged photos: of one time of day, outdoors, each once, near places of a database",
                "ros2-loc places collect my_photos night_set --database city/database --dry-run",
            ),
            "relabel": (
                "correct the positions of queries by hand, in a web page on this machine",
                "ros2-loc places relabel night_set/queries_night --database city/database",
            ),
        }
    )
    _add_synthesize(verbs["synthesize"])
    places_photos.add_collect(verbs["collect"])
    places_photos.add_relabel(verbs["relabel"])


def _add_synthesize(parser: Parser) -> None:
    parser.add_argument("out", type=Path, help="folder to write; an interrupted call is taken up where it was")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another town (default: 0)")
    parser.add_argument("--domains", default="day,night", metavar="A,B,...", help="of the queries (default: day,night)")
    parser.add_argument("--spacing", type=float, default=10.0, metavar="M", help="between the places of the database (default: 10)")
    parser.add_argument("--queries", type=int, default=60, metavar="N", help="of each domain, all from the same poses (default: 60)")
    words = "of queries from places of the database, m, either way (default: 5 1.2)"
    parser.add_argument("--offset", type=float, nargs=2, default=(5.0, 1.2), metavar=("ALONG", "ACROSS"), help=words)
    parser.add_argument("--turn", type=float, default=8.0, metavar="DEG", help="of queries, either way (default: 8)")
    parser.add_argument("--directions", default="forward", metavar="A,B,...", help="forward, left, right, back (default: forward)")
    parser.add_argument("--extent", type=float, default=260.0, metavar="M", help="side of the district (default: 260)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 320), metavar=("W", "H"), help="of the images, px (default: 480 320)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that render (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen one."""
    from ros2_loc.cli import places_photos

    actions = {"synthesize": _synthesize, "collect": places_photos.collect, "relabel": places_photos.relabel}
    return actions[arguments.action](arguments)


def _synthesize(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ros2_loc.world.place_views import PlaceSet, write_place_set

    how = PlaceSet(
        seed=arguments.seed,
        domains=_words(arguments.domains),
        spacing_m=arguments.spacing,
        queries=arguments.queries,
        along_m=arguments.offset[0],
        across_m=arguments.offset[1],
        heading_deg=arguments.turn,
        directions=_words(arguments.directions),
        extent_m=arguments.extent,
        size_px=tuple(arguments.size),
    )
    with tqdm(unit="image", disable=not progress_wanted()) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        count = write_place_set(arguments.out, how, workers=arguments.workers, progress=report)
    print(f"{arguments.out}: {count} images; database (day) and {', '.join(f'queries_{name}' for name in how.domains)}")
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in text.split(",") if word))
