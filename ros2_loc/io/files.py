"""Files that are whole or not there, and errors that say which file it was."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)", re.IGNORECASE)


@contextmanager
def atomic_path(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """A name to write a file or folder under, which becomes `path` when the block ends well and vanishes when it does not.

    The name lies in a fresh hidden folder beside `path` and has the same last part: the final rename is one step of the file system.

    Args:
        path: where the result shall be; missing parent folders are made.
        overwrite: whether something that lies at `path` already may be replaced (it stays until the new one is whole).

    Raises:
        DataError: `path` exists and may not be replaced, or its parent can't be written to.
    """
    path = Path(path)
    if not overwrite:
        require_absent(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error.strerror}; choose another place") from error
    try:
        yield folder / path.name
        if (folder / path.name).exists():
            _replace(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(folder: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # rename replaces files and empty folders only
        path.rename(folder / "replaced")
    (folder / path.name).replace(path)


def require_absent(path: str | Path) -> None:
    """Raise DataError when there is something at `path`: for whoever would otherwise find out after an hour's work."""
    if Path(path).exists():
        raise DataError(f"{path}: exists already; choose another name or remove it")


def require_file(path: str | Path, what: str) -> Path:
    """`path`, when it is a file that is not empty.

    Raises:
        DataError: no such file, a folder, or an empty file; `what` says what was expected there.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the file with the {what}")
    if not path.exists():
        raise DataError(f"{path}: no such file; give the path of the {what}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty; copy the {what} again")
    return path


def read_bytes(path: str | Path, what: str) -> bytes:
    """The content of a file.

    Raises:
        DataError: missing, empty or unreadable.
    """
    path = require_file(path, what)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}; check the permissions and the disk") from error


def read_text(path: str | Path, what: str) -> str:
    """The content of a text file (UTF-8); raises as `read_bytes`, and DataError for binary data."""
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text; give the path of the {what}") from error


def rows_of_numbers(path: str | Path, what: str) -> NDArray[np.float64]:
    """(rows, columns) of a text file with numbers parted by blanks or commas; `#` begins a comment.

    Raises:
        DataError: as `read_text`, a word that is no number, rows of different length (a file cut short), or numbers that are not finite.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path, what).splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not numbers: {line.strip()[:60]!r}; give the path of the {what}") from error
        if len(rows[-1]) != len(rows[0]):
            raise DataError(f"{path}: line {number} has {len(rows[-1])} numbers where the first has {len(rows[0])}: is the file cut short?")
    if not rows:
        raise DataError(f"{path}: holds no numbers; give the path of the {what}")
    if not np.isfinite(rows).all():
        line_number = 1 + int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise DataError(f"{path}: row {line_number} holds a number that is not finite; remove the row")
    return np.array(rows, dtype=np.float64)


def numbers_in(text: str) -> list[float]:
    """All numbers that stand in a text, in their order."""
    return [float(n) for n in _NUMBER.findall(text)]


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces.

    Raises:
        DataError: the file can't be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    return digest.hexdigest()
