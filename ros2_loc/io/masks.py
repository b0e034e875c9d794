"""Masks of many images in one HDF5 file, a bit for a pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.image_sequence import ImageSequence


def append_mask(path: Path, name: str, mask: NDArray[np.bool_]) -> None:
    """Add the mask (H, W) of one image; `io.features.stored_names` says which are there."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        group = file.create_group(name)
        group.attrs["size"] = mask.shape[::-1]
        group.create_dataset("bits", data=np.packbits(mask), compression="gzip")
        group.attrs["complete"] = True


def read_mask(path: Path, name: str) -> NDArray[np.bool_]:
    """(H, W) mask of the image `name`.

    Raises:
        DataError: not such a file, or the image is missing in it.
    """
    try:
        with h5py.File(path, "r") as file:
            group = file[name]
            width, height = (int(side) for side in group.attrs["size"])
            return np.unpackbits(group["bits"][()], count=width * height).reshape(height, width).astype(bool)
    except KeyError as error:
        raise DataError(f"{path}: has no mask of {name}: make the masks again") from error
    except OSError as error:
        raise DataError(f"{path}: missing, damaged or cut short: make the masks again") from error


def with_masks(sequence: ImageSequence, path: Path) -> ImageSequence:
    """The same images with the masks of a file, which must have one for each name."""
    return replace(sequence, load_mask=lambda i: read_mask(path, sequence.names[i]))


def masked_share(sequence: ImageSequence) -> float:
    """The mean share of its images' pixels that is masked, 0 without masks."""
    load = sequence.load_mask
    return 0.0 if load is None else float(np.mean([1.0 - load(i).mean() for i in range(len(sequence))]))
