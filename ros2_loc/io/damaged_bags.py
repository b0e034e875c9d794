"""What can be saved of a bag file whose end is missing: a full disk, a pulled plug, a copy that was interrupted.

Sources: https://mcap.dev/spec; https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from ros2_loc.errors import DataError

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _CHUNK_INDEX, _STATISTICS, _DATA_END = 0x02, 0x05, 0x06, 0x07, 0x08, 0x0B, 0x0F

_STATEMENTS = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"


def salvage(file: Path, folder: Path) -> tuple[Any, int]:
    """(something that `rosbags` reads like the file, number of its messages).

    Args:
        file: a .db3 or .mcap.
        folder: for what has to be copied.

    Raises:
        DataError: nothing can be read.
    """
    return _salvage_mcap(file) if file.suffix == ".mcap" else _salvage_sqlite(file, folder)


def damage(file: Path) -> str | None:
    """What is wrong with a .db3 that sqlite itself may not notice before the end is read; None: nothing that shows."""
    if file.suffix != ".db3":
        return None
    log = file.with_name(f"{file.name}-wal")
    if log.is_file() and log.stat().st_size > 0:  # `rosbags` does not read it
        return "messages are left in the write-ahead log of a recorder that was killed"
    with file.open("rb") as stream:
        header = stream.read(100)
    pages_are_told = len(header) == 100 and header[24:28] == header[92:96]
    missing = int.from_bytes(header[28:32], "big") * _page_size(header) - file.stat().st_size
    return f"{missing} bytes are missing" if pages_are_told and missing > 0 else None


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big") or 4096
    return 65536 if size == 1 else size  # it does not fit into two bytes


def _salvage_sqlite(file: Path, folder: Path) -> tuple[Path, int]:
    """Copy the rows up to the first page that is missing; `writable_schema` keeps sqlite from refusing a short file at once."""
    copy = folder / file.name
    count = 0
    whole = _whole_pages(file, folder)
    try:
        with closing(sqlite3.connect(f"file:{whole}?mode=ro", uri=True)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("PRAGMA writable_schema=ON")
            for (statement,) in source.execute(_STATEMENTS).fetchall():
                target.execute(statement)
            tables = [name for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type='table'") if name != "messages"]
            for table in tables:
                _copy(source, target, table)
            count = _copy(source, target, "messages")
            target.commit()
    except sqlite3.Error as error:
        raise DataError(f"{file}: can't be read: {error}; it is damaged beyond saving, record or copy it again") from error
    if whole != file:
        whole.unlink()
    if count == 0:
        raise DataError(f"{file}: is damaged and holds no whole message; record or copy it again")
    return copy, count


def _whole_pages(file: Path, folder: Path) -> Path:
    """The file, or a copy without its last page where that is not whole: sqlite would take zeros for what is missing there."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        page = _page_size(stream.read(18))
    if size % page == 0:
        return file
    copy = folder / f"whole_pages_of_{file.name}"
    shutil.copyfile(file, copy)
    os.truncate(copy, size - size % page)
    return copy


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> int:
    """Rows of a table in the order they were written (not by an index, whose pages may lie behind the cut)."""
    count = 0
    try:
        for row in source.execute(f"SELECT * FROM {table} NOT INDEXED"):
            target.execute(f"INSERT INTO {table} VALUES({','.join('?' * len(row))})", row)
            count += 1
    except sqlite3.DatabaseError:
        return count
    return count


def _salvage_mcap(file: Path) -> tuple[_WithTail, int]:
    """The whole records of a file, with an index of its chunks and a footer in place of the lost ones."""
    indexes: list[bytes] = []
    count = 0
    end = len(_MAGIC)
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise DataError(f"{file}: does not begin like an MCAP file; record or copy it again")
        chunk: _Chunk | None = None
        for opcode, start, length in _records(stream, file.stat().st_size):
            if opcode in (_DATA_END, _FOOTER):
                break
            end = start + 9 + length
            if opcode == _CHUNK:
                chunk = _Chunk(stream, start, length)
                indexes.append(b"")
            elif opcode == _MESSAGE_INDEX and chunk is not None:
                chunk.add_index(stream, start, length)
                indexes[-1] = chunk.record()
            count += opcode == _MESSAGE
    count += sum(struct.unpack_from("<Q", record, len(record) - 8)[0] for record in indexes if record)
    if count == 0:
        raise DataError(f"{file}: is cut short before its first whole message; record or copy it again")
    return _WithTail(file, end, _tail(end, [record[:-8] for record in indexes if record])), count


def _records(stream: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """(opcode, offset of the record, length of its content) of the records that are all there."""
    offset = len(_MAGIC)
    while offset + 9 <= size:
        stream.seek(offset)
        opcode, length = struct.unpack("<BQ", stream.read(9))
        if offset + 9 + length > size:
            return
        yield opcode, offset, length
        offset += 9 + length


class _Chunk:
    """A chunk and the message indexes behind it, from which its own index record is made."""

    def __init__(self, stream: BinaryIO, start: int, length: int) -> None:
        stream.seek(start + 9)
        self._first_ns, self._last_ns, self._size, _, name_length = struct.unpack("<QQQII", stream.read(32))
        self._compression = stream.read(name_length)
        (self._compressed_size,) = struct.unpack("<Q", stream.read(8))
        self._start, self._length = start, length + 9
        self._indexes: list[tuple[int, int]] = []  # channel, offset
        self._index_length = self._messages = 0

    def add_index(self, stream: BinaryIO, start: int, length: int) -> None:
        stream.seek(start + 9)
        channel, array_length = struct.unpack("<HI", stream.read(6))
        self._indexes.append((channel, start))
        self._index_length += length + 9
        self._messages += array_length // 16

    def record(self) -> bytes:
        """The content of the chunk's index record, then the number of its messages (8 bytes, not part of it)."""
        offsets = b"".join(struct.pack("<HQ", *pair) for pair in self._indexes)
        return b"".join(
            (
                struct.pack("<QQQQI", self._first_ns, self._last_ns, self._start, self._length, len(offsets)),
                offsets,
                struct.pack("<QI", self._index_length, len(self._compression)),
                self._compression,
                struct.pack("<QQQ", self._compressed_size, self._size, self._messages),
            )
        )


def _tail(end: int, chunk_indexes: list[bytes]) -> bytes:
    """Data end, chunk indexes, footer. Empty statistics make the reader look for channels and count messages itself."""
    summary = b"".join(_record(_CHUNK_INDEX, index) for index in chunk_indexes)
    if summary:
        summary += _record(_STATISTICS, struct.pack("<QHIIIIQQI", *(0,) * 9))
    data_end = _record(_DATA_END, struct.pack("<I", 0))
    summary_start = end + len(data_end) if summary else 0
    return data_end + summary + _record(_FOOTER, struct.pack("<QQI", summary_start, 0, 0)) + _MAGIC


def _record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


class _WithTail:
    """The first `end` bytes of a file and then `tail`, as the kind of path that `rosbags` opens: nothing is copied."""

    def __init__(self, file: Path, end: int, tail: bytes) -> None:
        self._file, self._end, self._tail = file, end, tail
        self.suffix, self.stem, self.name = file.suffix, file.stem, file.name

    def __str__(self) -> str:
        return str(self._file)

    def exists(self) -> bool:
        return True

    def is_dir(self) -> bool:
        return False

    def open(self, *_args: Any, **_kwargs: Any) -> BinaryIO:
        return io.BufferedReader(_Joined(self._file.open("rb"), self._end, self._tail), 1 << 20)


class _Joined(io.RawIOBase):
    def __init__(self, stream: BinaryIO, end: int, tail: bytes) -> None:
        self._stream, self._end, self._tail, self._position = stream, end, tail, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end + len(self._tail)}[whence]
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position < self._end:
            self._stream.seek(self._position)
            data = self._stream.read(min(len(buffer), self._end - self._position))
        else:
            data = self._tail[self._position - self._end :][: len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
