"""`ros2-loc weights`: what there is, what it may be used for, where it lies; fetch it, check it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import Parser, progress_wanted

if TYPE_CHECKING:
    from ros2_loc.models.weight_table import WeightFile

EXAMPLE = "ros2-loc weights list\n  ros2-loc weights pull aliked_n16"
_PULL = (
    "ros2-loc weights pull aliked_n16\n"
    "  ros2-loc weights pull superpoint_v1 superglue_outdoor --accept-licence\n"
    "  ros2-loc weights pull r2d2_wasf_n16 --from /media/usb/r2d2_WASF_N16.pt"
)


def add_arguments(parser: Parser) -> None:
    """`list`, `pull`, `check`, `where`."""
    verbs = parser.add_verbs(
        {
            "list": ("all of them: here or not, licence, who uses them", "ros2-loc weights list --commercial"),
            "pull": ("fetch files from those who published them, or from a copy of yours", _PULL),
            "check": ("compare what is here with its sha256, and load it into its network", "ros2-loc weights check aliked_n16"),
            "where": ("the path of a file, or the folders that are looked in", "ros2-loc weights where aliked_n16"),
        }
    )
    verbs["list"].add_argument("--commercial", action="store_true", help="only those whose licence allows commercial use")
    pull = verbs["pull"]
    pull.add_argument("names", nargs="+", metavar="NAME", help="of `ros2-loc weights list`")
    pull.add_argument("--accept-licence", action="store_true", help="do not ask about licences that forbid commercial use")
    pull.add_argument("--from", dest="origin", metavar="FILE_OR_URL", help="a copy: the file, a folder that holds it, or another URL")
    pull.add_argument("--to", type=Path, metavar="DIR", help="folder to put it in (default: the first that is looked in)")
    pull.add_argument("--again", action="store_true", help="also when it is here and right; the sha256 on record is forgotten")
    for name in ("check", "where"):
        verbs[name].add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen one."""
    from ros2_loc.errors import ConfigError
    from ros2_loc.models.weight_table import TABLE

    for name in getattr(arguments, "names", ()):
        if name not in TABLE:
            raise ConfigError(f"there are no weights {name!r}; there are: {', '.join(TABLE)}")
    return {"list": _list, "pull": _pull, "check": _check, "where": _where}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from ros2_loc.cli.console import table
    from ros2_loc.cli.weight_checks import standing
    from ros2_loc.models.weight_table import TABLE

    rows = []
    for name, row in TABLE.items():
        if row.commercial or not arguments.commercial:
            use = "yes" if row.commercial else "no"
            rows.append((name, standing(name), f"{row.size_mb:.1f}", use, ", ".join(row.used_by), row.licence))
    print(table(rows, ("name", "it is", "MB", "commercial", "used by", "licence")))
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    from ros2_loc.errors import ConfigError, DataError
    from ros2_loc.models.weight_files import check, find

    if arguments.origin and len(arguments.names) > 1 and not Path(arguments.origin).is_dir():
        raise ConfigError(f"--from {arguments.origin}: is one file; pull one name at a time, or give the folder that holds all of them")
    for name in arguments.names:
        path = find(name)
        try:
            if path and not arguments.again:
                check(name, path)
                print(f"{name}: is here already: {path}")
                continue
        except DataError as error:
            print(f"ros2-loc: {error}", file=sys.stderr)
        _pull_one(name, arguments)
    return 0


def _pull_one(name: str, arguments: argparse.Namespace) -> None:
    from ros2_loc.errors import ConfigError, DataError
    from ros2_loc.models.weight_files import folders, recorded_sha256
    from ros2_loc.models.weight_table import TABLE

    row = TABLE[name]
    if row.file:
        raise ConfigError(f"{name}: comes with ros2_loc; if it is not here, install ros2_loc again")
    if not (row.url or arguments.origin):
        raise DataError(f"{name}: has no address to fetch it from: get {row.published} from {row.source}, then add --from FILE")
    path = (arguments.to or folders()[0]).expanduser() / row.published
    print(f"{name}: {row.size_mb:.1f} MB, for {', '.join(row.used_by)}\n  from     {arguments.origin or row.url}\n  licence  {row.licence}")
    _ask_consent(name, row, arguments.accept_licence)
    expected = row.sha256 or ("" if arguments.again else recorded_sha256(path))
    found = _fetched(row, arguments.origin, path, expected)
    if not row.sha256:
        _require_weights(row, path)
        print(f"  sha256   {found}\n  Its authors' sha256 is not known here: compare it with what they say. Later use is held to this one.")
    _record(name, row, arguments.origin or row.url, path, found)
    print(f"  is at    {path}")


def _ask_consent(name: str, row: WeightFile, accepted: bool) -> None:
    from ros2_loc.errors import ConfigError

    if row.commercial or accepted:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{name}: its licence ({row.licence}) does not allow all uses: read it ({row.source}), then add --accept-licence")
    print(f"  Not for commercial use. Read the terms at {row.source}")
    if input("  Do you accept them? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError(f"{name}: not fetched, its licence was not accepted")


def _fetched(row: WeightFile, origin: str | None, path: Path, expected: str) -> str:
    """Put the file at `path`; its sha256."""
    from ros2_loc.errors import DataError
    from ros2_loc.io.downloads import Download, copy_checked

    if origin and "://" not in origin:
        source = Path(origin).expanduser()
        return copy_checked(source / row.published if source.is_dir() else source, path, expected)
    try:
        return Download((origin,) if origin else (row.url, *row.mirrors), path, expected).fetch(progress_wanted())
    except DataError as error:
        raise DataError(f"{error}; or get {row.published} elsewhere (see {row.source}) and give it by --from FILE") from error


def _require_weights(row: WeightFile, path: Path) -> None:
    """Where no sha256 says what came, its network does; nothing is kept of what it refuses."""
    from ros2_loc.cli.weight_checks import loaded
    from ros2_loc.errors import DataError

    try:
        loaded(row, path)
    except DataError as error:
        path.unlink()
        raise DataError(f"{error}; nothing was kept") from error


def _record(name: str, row: WeightFile, origin: str, path: Path, found: str) -> None:
    import json

    from ros2_loc.io.files import atomic_path
    from ros2_loc.models.weight_files import record_of

    record = {"name": name, "sha256": found, "from": origin, "source": row.source, "licence": row.licence}
    with atomic_path(record_of(path)) as draft:
        draft.write_text(json.dumps(record, indent=2) + "\n")


def _check(arguments: argparse.Namespace) -> int:
    from ros2_loc.cli.checks import Mark, report
    from ros2_loc.cli.weight_checks import look_at
    from ros2_loc.models.weight_files import find
    from ros2_loc.models.weight_table import TABLE

    names = arguments.names or [name for name in TABLE if find(name)]
    findings = [look_at(name) for name in names]
    print(report(findings))
    return 1 if any(finding.mark is Mark.BAD for finding in findings) else 0


def _where(arguments: argparse.Namespace) -> int:
    from ros2_loc.models.weight_files import folders, locate

    for line in [locate(name) for name in arguments.names] or folders():
        print(line)
    return 0
