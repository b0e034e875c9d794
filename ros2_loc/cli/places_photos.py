"""`ros2-loc places collect` and `relabel`: queries out of photos, and their positions corrected by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import Parser, progress_wanted

if TYPE_CHECKING:
    from ros2_loc.evaluation.photo_collection import Decision
    from ros2_loc.perception.photo_classifiers import PhotoClassifier


def add_collect(parser: Parser) -> None:
    """Which photos, where to, what is kept."""
    parser.add_argument("photos", type=Path, help="folder with positions in the EXIF of its photos, or in their names")
    parser.add_argument("out", type=Path, help="folder to write; an interrupted call is taken up where it was")
    parser.add_argument("--database", type=Path, required=True, metavar="DIR", help="images of the places, named @east@north@....jpg")
    parser.add_argument("--dry-run", action="store_true", help="only say what would become of the photos")
    rules = parser.add_argument_group("what is kept")
    rules.add_argument("--time", choices=("night", "day", "any"), default="night", help="of day (default: night)")
    rules.add_argument("--radius", type=float, default=25.0, metavar="M", help="to the nearest place of the database (default: 25)")
    words = "bits of 64 in which the hashes of images that show the same may differ (default: 8)"
    rules.add_argument("--hash-bits", type=int, default=8, metavar="N", help=words)
    words = "photos nearer to each other and not looking into other directions show the same (default: 0, off)"
    rules.add_argument("--apart", type=float, default=0.0, metavar="M", help=words)
    networks = parser.add_argument_group("classifiers")
    for name, words in (
        ("day-night", "a network whose labels begin with day or night (default: a rule over brightness)"),
        ("indoor", "a network; photos whose label begins with indoor or pano go (default: nobody asks)"),
    ):
        networks.add_argument(f"--{name}", type=Path, metavar="ONNX", help=words)
        networks.add_argument(f"--{name}-labels", default="", metavar="A,B,...", help="of its outputs (default: the .txt beside it)")


def add_relabel(parser: Parser) -> None:
    """Which photos, beside what."""
    parser.add_argument("folder", type=Path, help="queries, named @east@north@....jpg; labels lie there in relabel.json")
    parser.add_argument("--database", type=Path, required=True, metavar="DIR", help="images of the places, named likewise")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="on 127.0.0.1 (default: a free one)")
    parser.add_argument("--apply", action="store_true", help="rename what was moved, take away what was dropped; no page")


def collect(arguments: argparse.Namespace) -> int:
    """Look at the photos, decide, copy, say what became of them."""
    from ros2_loc.cli.console import table
    from ros2_loc.evaluation.photo_collection import CollectionRules, count_fates, decide, look_at_photos
    from ros2_loc.io.geotagged import read_geotagged
    from ros2_loc.io.photos import find_photos
    from ros2_loc.perception.photo_classifiers import BrightnessDayNight

    rules = CollectionRules(arguments.time, arguments.radius, arguments.hash_bits, arguments.apart)
    database, paths = read_geotagged(arguments.database), find_photos(arguments.photos)
    day_night = _network(arguments.day_night, arguments.day_night_labels, ("day", "night")) or BrightnessDayNight()
    indoor = _network(arguments.indoor, arguments.indoor_labels, ("indoor", "pano"))
    work = None if arguments.dry_run else _claim(arguments.out, arguments.photos)
    with _Bar() as report:
        seen = look_at_photos(paths, arguments.photos, day_night, indoor, work, report)
    decisions = decide(seen, database, rules)
    print(table([(fate, str(count)) for fate, count in count_fates(decisions).items() if count]))
    if arguments.dry_run:
        print("nothing was written (--dry-run)")
        return 0
    _write(arguments, decisions, {"day_night": day_night.name, "indoor": indoor.name if indoor else ""})
    return 0


def relabel(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or apply what was said there."""
    from ros2_loc.evaluation.relabelling import LABELS, Relabelling
    from ros2_loc.visualization.relabel_server import RelabelServer

    work = Relabelling(arguments.folder, arguments.database)
    if arguments.apply:
        counts = work.apply()
        print(f"{arguments.folder}: {', '.join(f'{count} {word}' for word, count in counts.items())}, {work.num_open} open")
        return 0
    with RelabelServer(work, arguments.port) as server:
        print(f"{len(work.photos)} photos, {work.num_open} open; labels go to {arguments.folder / LABELS}")
        print(f"open {server.url}\nstop with Ctrl-C, and call this again with --apply to rename the photos")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"\n{work.num_open} open")
    return 0


def _network(model: Path | None, labels: str, needed: tuple[str, ...]) -> PhotoClassifier | None:
    from ros2_loc.errors import ConfigError
    from ros2_loc.perception.photo_classifiers import OnnxClassifier

    if model is None:
        return None
    network = OnnxClassifier(model, [label for label in labels.split(",") if label])
    if not any(label.startswith(needed) for label in network.labels):
        raise ConfigError(f"{model}: none of its labels ({', '.join(network.labels)}) begins with {' or '.join(needed)}")
    return network


def _claim(out: Path, photos: Path) -> Path:
    from ros2_loc.errors import ConfigError

    if out.resolve().is_relative_to(photos.resolve()):
        raise ConfigError(f"{out}: lies in the folder of the photos, where the next call would find the copies; name another one")
    marker = out / "photos.json"
    if out.exists() and not marker.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: holds something that is no collection; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        marker.write_text("{}\n")
    return out


def _write(arguments: argparse.Namespace, decisions: list[Decision], classifiers: dict[str, str]) -> None:
    from ros2_loc.evaluation.photo_collection import write_collection

    queries = "queries" if arguments.time == "any" else f"queries_{arguments.time}"
    settings = {
        "source": str(arguments.photos), "database": str(arguments.database), "queries": queries, "time": arguments.time,
        "radius_m": arguments.radius, "hash_bits": arguments.hash_bits, "apart_m": arguments.apart,
        **classifiers,
    }  # fmt: skip
    write_collection(decisions, arguments.photos, arguments.out, queries, settings)
    link = arguments.out / "database"
    if not link.exists():
        link.symlink_to(arguments.database.resolve(), target_is_directory=True)
    print(f"{arguments.out / queries}: the queries; {arguments.out / 'photos.csv'}: what became of each photo")


class _Bar:
    """A progress bar as a function of (done, total), for people only."""

    def __enter__(self) -> _Bar:
        from tqdm import tqdm

        self._bar = tqdm(unit="photo", disable=not progress_wanted())
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)
