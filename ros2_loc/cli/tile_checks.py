"""Findings of `tiles check`: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.checks import Finding, Mark, bad, good, note
from ros2_loc.errors import Ros2LocError

if TYPE_CHECKING:
    from ros2_loc.core.interfaces import CrossViewEncoder
    from ros2_loc.mapping.tile_database import TileDatabase

_BLACK_SHARE = 0.02  # imagery known, but black: a source without no-data value
_SAMPLES = 200


def check_tiles(folder: Path, encoder: CrossViewEncoder | None = None, map_folder: Path | None = None) -> list[Finding]:
    """Format and checksums, coverage and holes, spacing, descriptors, the pipeline's encoder, a map's origin."""
    from ros2_loc.mapping.tile_database import TileDatabase

    try:
        tiles = TileDatabase.load(folder)
    except Ros2LocError as error:
        return [bad("tiles", str(error))]
    findings = [good("tiles", f"{folder}: {len(tiles)} tiles; checksums are right")]
    findings += [*_imagery(tiles), *_coverage(tiles), *_spacing(tiles), *_descriptors(tiles)]
    if encoder is not None:
        findings.append(_encoder(tiles, encoder))
    if map_folder is not None:
        findings.append(_shared_frame(tiles, map_folder))
    return findings


def _encoder(tiles: TileDatabase, encoder: CrossViewEncoder) -> Finding:
    try:
        tiles.require_encoder(encoder)
        return good("encoder", "the pipeline's is that of the tiles")
    except Ros2LocError as error:
        return bad("encoder", str(error))


def _shared_frame(tiles: TileDatabase, map_folder: Path) -> Finding:
    """Another origin is no hindrance as long as the map lies on the tiles: both lie on the earth."""
    from ros2_loc.mapping.shared_frame import map_from_tiles
    from ros2_loc.mapping.sparse_map import MapFrame

    try:
        frame = MapFrame.load(map_folder)
        map_from_tiles(frame, tiles)
    except Ros2LocError as error:
        return bad("map", str(error))
    try:
        tiles.require_same_origin(frame)
        return good("map", f"{map_folder} lies on the tiles and has their origin")
    except Ros2LocError as error:
        return note("map", str(error))


def verdict(findings: list[Finding]) -> str:
    """One line."""
    wrong = sum(finding.mark is Mark.BAD for finding in findings)
    notes = sum(finding.mark is Mark.NOTE for finding in findings)
    if wrong:
        return f"verdict: not usable, {wrong} thing{'s' * (wrong > 1)} wrong"
    return "verdict: usable" + (f", {notes} note{'s' * (notes > 1)}" if notes else "")


def _imagery(tiles: TileDatabase) -> Iterator[Finding]:
    """A sample of tiles is read: does it open, and is it more than black?"""
    import numpy as np

    black = []
    for index in np.unique(np.linspace(0, len(tiles) - 1, min(_SAMPLES, len(tiles))).astype(int)):
        try:
            rgb, valid = tiles.mosaic.crop(tiles.centres_m[index], 64, tiles.layout.coverage_m / 64)
        except Ros2LocError as error:
            yield bad("imagery", str(error))
            return
        black.append(float((rgb.max(axis=2)[valid] == 0).mean()) if valid.any() else 1.0)
    share = float(np.mean(black))
    if share > _BLACK_SHARE:
        text = f"{share:.0%} of it is black though it counts as known"
        yield note("imagery", text, "set the no-data value of the source (gdal_edit.py -a_nodata 0) and build again")
    else:
        west, south, east, north = tiles.bounds_m
        yield good("imagery", f"{east - west:.0f} x {north - south:.0f} m at {tiles.mosaic.metres_per_px:g} m per pixel")


def _coverage(tiles: TileDatabase) -> Iterator[Finding]:
    import numpy as np
    from scipy.ndimage import binary_fill_holes

    nodes = np.rint(tiles.centres_m / tiles.layout.spacing_m).astype(int)
    lattice = np.zeros(np.ptp(nodes, axis=0) + 1, bool)
    lattice[tuple((nodes - nodes.min(axis=0)).T)] = True
    holes = int((binary_fill_holes(lattice) & ~lattice).sum())
    area_km2 = len(tiles) * tiles.layout.spacing_m**2 / 1e6
    if holes:
        text = f"{area_km2:.3f} km2, with {holes} places inside without a tile"
        yield note("coverage", text, "there is no imagery: add a source")
    else:
        yield good("coverage", f"{area_km2:.3f} km2 without a hole")


def _spacing(tiles: TileDatabase) -> Iterator[Finding]:
    spacing, coverage = tiles.layout.spacing_m, tiles.layout.coverage_m
    if tiles.descriptors is None:
        yield good("spacing", f"{spacing:g} m, tiles of {coverage:.1f} m")
        return
    reach = shift_reach_m(tiles)
    text = f"{spacing:g} m; shifts reach {reach:.1f} m around a tile's centre"
    if spacing / 2 > reach:
        yield bad("spacing", f"{text}: places between tiles are never looked at", f"build with --spacing {2 * reach:.1f} or less")
    else:
        yield good("spacing", text)


def _descriptors(tiles: TileDatabase) -> Iterator[Finding]:
    import numpy as np

    if tiles.descriptors is None:
        yield note("descriptors", "none", "run `ros2-loc tiles encode` on them before localizing")
        return
    length = np.sqrt(np.einsum("tcij,tcij->t", *[tiles.descriptors.features.astype(np.float32)] * 2))
    off = int((np.abs(length - 1.0) > 0.01).sum())
    if off:
        yield bad("descriptors", f"{off} of {len(tiles)} do not have unit length", "encode the tiles again")
    else:
        yield good("descriptors", f"finite and of unit length, by {short_fingerprint(tiles.descriptors.encoder)}")


def shift_reach_m(tiles: TileDatabase) -> float:
    """How far from a tile's centre its shifts look, m along each axis; 0 without descriptors."""
    if tiles.descriptors is None:
        return 0.0
    cells, shifts = tiles.descriptors.features.shape[-1], tiles.descriptors.uncertainty.shape[-1]
    return (shifts - 1) / 2 * tiles.layout.coverage_m / cells


def short_fingerprint(encoder: str) -> str:
    """Name and the first digits of the hash."""
    name, _, digest = encoder.partition(":")
    return f"{name}:{digest[:12]}" if digest else name
