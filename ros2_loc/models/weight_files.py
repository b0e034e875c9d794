"""Where the files of named weights lie, and whether they are the right ones. Nothing is downloaded here: see `ros2-loc weights pull`.

Looked for in: this package's data, the folders of $ROS2_LOC_WEIGHTS (and the folders in them), the cache. A file of the user's is given by
its path and not checked.
"""

from __future__ import annotations

import hashlib
import json
import os
from difflib import get_close_matches
from pathlib import Path

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weight_table import TABLE, WeightFile

DATA = Path(__file__).resolve().parent / "data"
VARIABLE = "ROS2_LOC_WEIGHTS"


def locate(name_or_path: str | Path) -> Path:
    """The file of a name in the table, or of a path.

    Raises:
        ConfigError: neither a name nor a file.
        DataError: the file of a name is missing, or is another one than the table or its record says.
    """
    row = TABLE.get(str(name_or_path))
    if row is None:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            near = ", ".join(get_close_matches(path.name, TABLE, n=5, cutoff=0.0))
            raise ConfigError(f"{name_or_path}: neither a file nor the name of weights (`ros2-loc weights list`); near it are {near}")
        return path
    name = str(name_or_path)
    found = find(name)
    if found is None:
        raise DataError(_missing(name, row))
    check(name, found)
    return found


def find(name: str) -> Path | None:
    """The file of a name in the table, unchecked, or None."""
    row = TABLE[name]
    if row.file:
        return DATA / row.file if (DATA / row.file).is_file() else None
    below = [path for folder in folders() for path in (folder / row.published, *sorted(folder.glob(f"*/{row.published}")))]
    return next((path for path in below if path.is_file()), None)


def check(name: str, path: Path) -> None:
    """Raise DataError when `path` is not the file that the table names, or, where the table has no sha256, its record beside it."""
    row = TABLE[name]
    expected = row.sha256 or recorded_sha256(path)
    again = "install ros2_loc again" if row.file else f"ros2-loc weights pull {name} --again"
    if not expected:
        raise DataError(f"{path}: nothing says its sha256: `ros2-loc weights pull {name} --from {path}` records it")
    if (found := sha256(path)) != expected:
        raise DataError(f"{path}: sha256 is {found[:12]}..., {name!r} has {expected[:12]}...: {again}")


def folders() -> list[Path]:
    """Where files are looked for: those of $ROS2_LOC_WEIGHTS, then the cache. Downloads go into the first."""
    named = [Path(folder).expanduser() for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*named, cache / "ros2_loc" / "weights"]


def record_of(path: Path) -> Path:
    """The file beside a download that tells its sha256 and where it is from."""
    return path.with_name(f"{path.name}.json")


def recorded_sha256(path: Path) -> str:
    """What the record beside a file says, "" without one.

    Raises:
        DataError: a record that can't be read.
    """
    record = record_of(path)
    if not record.is_file():
        return ""
    try:
        return str(json.loads(record.read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record}: is no record of a download: remove it and pull the weights again") from error


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a weight file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _missing(name: str, row: WeightFile) -> str:
    if row.file:
        return f"{DATA / row.file}: the weights {name!r} are not in this installation: install ros2_loc again"
    told = f"{row.published}, sha256 {row.sha256[:12]}..." if row.sha256 else row.published
    pull = f"ros2-loc weights pull {name}" + ("" if row.url else f" --from FILE, which is at {row.source}")
    return f"the weights {name!r} ({told}) are not here: {pull}"
