"""Drives to learn from: images as the network takes them in a file that all processes share, true poses, and the imagery of the place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Array, Pose
from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path, read_text
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.perception.cross_view.views import network_frame

Progress = Callable[[int, int], None]

_FLUSH_EVERY = 64


class Imagery(Protocol):
    """The place from above, in metres east and north of its origin; `mapping.mosaic.Mosaic` is one."""

    @property
    def bounds_m(self) -> tuple[float, float, float, float]: ...

    def crop(
        self, centre_m: Any, size_px: int, metres_per_px: float, heading_rad: float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class CrossViewDrive:
    """A recorded drive with true poses in the frame of the imagery.

    Attributes:
        name: unique among the drives of a training.
        sequence: every image with `map_from_base`, map = the imagery's east, north, up.
        imagery: drives that share the object share the place: their tiles can be each other's right answer.
        queries: (Q,) indices of images to ask for; None: all.
        tile_centres_m: (Q, 2) m, the tiles that a published list gives to them, or None.
    """

    name: str
    sequence: ImageSequence
    imagery: Imagery
    queries: NDArray[np.intp] | None = None
    tile_centres_m: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CachedDrive:
    """A drive as batches are made from it.

    Attributes:
        name, imagery: as of `CrossViewDrive`.
        images: (N, h, w, 3) uint8 RGB, as the network takes them; on disk, read when needed.
        mask: (h, w) bool, False where the real camera sees nothing.
        map_from_base: (N, 4, 4).
        camera: of these images; base_from_camera: its mounting.
        queries: (Q,) indices of images.
        tile_centres_m: (Q, 2) m or None.
    """

    name: str
    imagery: Imagery
    images: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    map_from_base: Array
    camera: Camera
    base_from_camera: Pose
    queries: NDArray[np.intp]
    tile_centres_m: Array | None = None

    @property
    def travelled_m(self) -> Array:
        """(N,) m driven up to each image."""
        steps = np.linalg.norm(np.diff(self.map_from_base[:, :2, 3], axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])


def cache_drive(
    drive: CrossViewDrive, folder: Path, image_px: tuple[int, int], view: str = "resized", progress: Progress | None = None
) -> CachedDrive:
    """The drive with its images as a network takes them, laid down in `folder`; what an interrupted call has done already is kept.

    Args:
        folder: of this drive alone.
        image_px: (height, width) of the network's images.
        view: "level" or "resized", as of `CVLNet.Config`.
        progress: called with (images done, images in all).

    Raises:
        DataError: an image without a true pose, one that can't be read, or a folder that holds another drive.
    """
    sequence = drive.sequence
    poses = _true_poses(drive)
    for done in _write_images(sequence, folder, image_px, view):
        if progress is not None:
            progress(done, len(sequence))
    frame = network_frame(sequence.frame(0), image_px, view)
    with atomic_path(folder / "drive.npz") as temporary:
        np.savez(
            temporary,
            name=drive.name,
            map_from_base=poses,
            mask=np.ones(image_px, bool) if frame.mask is None else frame.mask,
            camera_model=frame.camera.model,
            camera_params=frame.camera.params,
            base_from_camera=frame.base_from_camera.matrix,
            queries=np.arange(len(sequence)) if drive.queries is None else np.asarray(drive.queries),
            tile_centres_m=np.zeros((0, 2)) if drive.tile_centres_m is None else drive.tile_centres_m,
        )
    return load_drive(folder, drive.imagery)


def is_cached(folder: Path) -> bool:
    """Whether `cache_drive` has come to its end there."""
    return (folder / "drive.npz").is_file()


def load_drive(folder: Path, imagery: Imagery) -> CachedDrive:
    """What `cache_drive` wrote; raises DataError when it is damaged."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        with np.load(folder / "drive.npz") as stored:
            tiles = stored["tile_centres_m"]
            return CachedDrive(
                name=str(stored["name"]),
                imagery=imagery,
                images=images,
                mask=stored["mask"],
                map_from_base=stored["map_from_base"],
                camera=Camera(str(stored["camera_model"]), images.shape[2], images.shape[1], tuple(stored["camera_params"])),
                base_from_camera=Pose.from_matrix(stored["base_from_camera"]),
                queries=stored["queries"],
                tile_centres_m=tiles if len(tiles) else None,
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{folder}: is no cached drive, or damaged ({error}); remove the folder") from error


def _true_poses(drive: CrossViewDrive) -> Array:
    poses = [pose.matrix for pose in drive.sequence.map_from_base if pose is not None]
    if len(poses) < len(drive.sequence):
        raise DataError(f"{drive.name}: {len(drive.sequence) - len(poses)} images have no true pose; train on those that have one")
    return np.stack(poses)


def _write_images(sequence: ImageSequence, folder: Path, image_px: tuple[int, int], view: str) -> Iterator[int]:
    """Converts and writes what is not written yet, and says after each how many are."""
    state, file, count = folder / "state.json", folder / "images.npy", len(sequence)
    about = {"size": list(image_px), "view": view, "count": count, "first": sequence.names[0], "last": sequence.names[-1]}
    done = _images_done(state, about)
    folder.mkdir(parents=True, exist_ok=True)
    if done < count:
        images = np.lib.format.open_memmap(file, "r+" if done else "w+", np.uint8, (count, *image_px, 3))
        for i in range(done, count):
            images[i] = network_frame(sequence.frame(i), image_px, view).image
            if i + 1 == count or (i + 1) % _FLUSH_EVERY == 0:
                images.flush()
                _write_state(state, {**about, "images_done": i + 1})
            yield i + 1
    yield count


def _write_state(path: Path, state: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(state))


def _images_done(path: Path, about: dict[str, Any]) -> int:
    if not path.exists() or not (path.parent / "images.npy").exists():
        return 0
    try:
        state = json.loads(read_text(path, "state of a cached drive"))
        done = int(state.pop("images_done"))
        if state == about:
            return done
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    raise DataError(f"{path.parent}: holds the images of another drive or size; remove the folder or give another --cache")
