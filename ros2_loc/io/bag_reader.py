"""Reading rosbag2 recordings without ROS; one that was cut short is read up to the cut, with a warning."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from ros2_loc.errors import DataError
from ros2_loc.io.bags import typestore
from ros2_loc.io.damaged_bags import damage, salvage

_log = logging.getLogger(__name__)

STORAGE_SUFFIXES = (".db3", ".mcap")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a bag: its type (`sensor_msgs/msg/Image`), how many messages it has."""

    name: str
    message_type: str
    count: int


def is_bag(path: str | Path) -> bool:
    """Whether a path looks like a rosbag2: a .db3 or .mcap file, or a folder with metadata.yaml or such files."""
    path = Path(path)
    if path.is_dir():
        return bool(storage_files(path)) or (path / "metadata.yaml").is_file()
    return path.suffix in STORAGE_SUFFIXES


def storage_files(folder: Path) -> list[Path]:
    """The files with messages in a bag's folder, in the order they were recorded."""
    metadata = folder / "metadata.yaml"
    try:
        names = yaml.safe_load(metadata.read_text())["rosbag2_bagfile_information"]["relative_file_paths"]
        return [path for name in names if (path := folder / Path(name).name).is_file()]
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):  # not there yet, or half of it
        found = [p for p in folder.iterdir() if p.suffix in STORAGE_SUFFIXES and not p.name.startswith(".")]
        return sorted(found, key=lambda p: (len(p.name), p.name))


class BagReader:
    """A rosbag2 (folder, .db3 or .mcap), opened on construction; a context manager.

    Attributes:
        path: the bag.
        topics: its topics with messages, by name.
        connections: what `rosbags` says of each topic (type, definition, offered QoS).
        start_ns, end_ns: times of the first message and just after the last one.

    Raises:
        DataError: no bag, an empty one, or one so damaged that nothing can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DataError(f"{self.path}: no such bag; give a rosbag2 folder, .db3 or .mcap")
        if not is_bag(self.path):
            raise DataError(f"{self.path}: is no rosbag2; give a folder with metadata.yaml, a .db3 or a .mcap")
        self._warned = False
        self._salvaged: tempfile.TemporaryDirectory[str] | None = None
        self._reader = self._open()
        self.connections: list[Connection] = list(self._reader.connections)
        self.topics = {
            name: Topic(name, info.msgtype or "", info.msgcount) for name, info in sorted(self._reader.topics.items()) if info.msgcount
        }
        if not self.topics:
            self.close()
            raise DataError(f"{self.path}: holds no messages; was anything published while it was recorded?")
        self.start_ns, self.end_ns = int(self._reader.start_time), int(self._reader.end_time)

    def _open(self) -> AnyReader:
        files = storage_files(self.path) if self.path.is_dir() else [self.path]
        complaint = next((found for file in files if (found := damage(file))), None)
        try:
            if complaint is None:
                return _opened([self.path])
        except Exception as error:  # rosbags lets errors of sqlite, of its mcap parser and of YAML through as they are
            complaint = _one_line(error)
        if not files:
            raise DataError(f"{self.path}: its files of messages are not there ({complaint}); copy the whole folder")
        self._salvaged = tempfile.TemporaryDirectory(prefix="ros2_loc_bag_")
        try:
            return _opened([_readable(file, Path(self._salvaged.name)) for file in files])
        except DataError:
            self._salvaged.cleanup()
            raise
        except Exception as error:
            self._salvaged.cleanup()
            raise DataError(f"{self.path}: can't be read: {complaint}; record or copy it again") from error

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time of recording in ns, serialized message) in the order of time.

        Args:
            topics: names of those to read; default: all.
            start_ns, stop_ns: from the first to before the second.
        """
        wanted = [c for c in self.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        count = 0
        iterator = self._reader.messages(wanted, start=start_ns, stop=stop_ns)
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except Exception as error:  # a page or chunk in the middle is damaged
                if not self._warned:
                    _log.warning("%s: is damaged, read up to there (%d messages): %s", self.path, count, _one_line(error))
                self._warned = True
                return
            count += 1
            yield item

    def deserialize(self, data: bytes, message_type: str) -> Any:
        """The message in serialized data: an object with the fields of its type.

        Raises:
            DataError: an unknown type, or data that are not of that type.
        """
        store = self._reader.typestore if message_type in self._reader.typestore.fielddefs else typestore()
        try:
            return store.deserialize_cdr(data, message_type)
        except Exception as error:  # rosbags raises what its parser stumbles over
            raise DataError(f"{self.path}: a message is no {message_type} ({type(error).__name__}); record it again") from error

    def read(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, time of recording in ns, message) of some topics in the order of time; raises as `deserialize`."""
        for connection, log_ns, data in self.messages(topics):
            yield connection.topic, log_ns, self.deserialize(data, connection.msgtype)

    def close(self) -> None:
        """Close the files; a second time does nothing."""
        if self._reader.stack:
            self._reader.close()
        if self._salvaged is not None:
            self._salvaged.cleanup()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _opened(paths: list[Any]) -> AnyReader:
    reader = AnyReader(paths, default_typestore=typestore())
    reader.open()
    return reader


def _readable(file: Path, folder: Path) -> Any:
    """The file as it is where it can be opened, else what can be saved of it."""
    complaint = damage(file)
    try:
        if complaint is None:
            _opened([file]).close()
            return file
    except Exception as error:  # as in BagReader._open
        complaint = _one_line(error)
    saved, count = salvage(file, folder)
    _log.warning("%s: is cut short or damaged (%s); reading %d messages up to there", file, complaint, count)
    return saved


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
