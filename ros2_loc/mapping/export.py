"""Maps for other programs: COLMAP's model, and points as PLY."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pycolmap

from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.mapping.sparse_map import SparseMap, read_meta


def export_colmap(folder: str | Path, out: str | Path, as_text: bool = False) -> None:
    """The COLMAP model of a map: poses after adjustment, in the map's frame; images by their own names.

    Raises:
        DataError: no map, its model is damaged, or `out` exists.
    """
    read_meta(Path(folder))
    try:
        model = pycolmap.Reconstruction(str(Path(folder) / "sfm"))
    except (ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{Path(folder) / 'sfm'}: its COLMAP model can't be read: build the map again") from error
    with atomic_path(out, overwrite=False) as temporary:
        if as_text:
            temporary.mkdir()
            model.write_text(str(temporary))
        else:
            shutil.copytree(Path(folder) / "sfm", temporary)


def export_ply(folder: str | Path, out: str | Path) -> int:
    """The points of a map with their colours, binary little-endian PLY; returns how many."""
    sparse_map = SparseMap.load(folder)
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    rows = np.empty(len(sparse_map.points_m), dtype=fields)
    for k, name in enumerate(("x", "y", "z")):
        rows[name] = sparse_map.points_m[:, k]
    for k, name in enumerate(("red", "green", "blue")):
        rows[name] = sparse_map.point_colors[:, k]
    properties = [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header", ""]
    with atomic_path(out) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + rows.tobytes())
    return len(rows)
