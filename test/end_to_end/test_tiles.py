"""Tiles of a real place: rasters drawn from aerial images around KITTI 00, 02 and 09, whose rows run northward."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros2_loc.cli.main import main
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic
from ros2_loc.mapping.tile_database import TileDatabase

ROAD = (0, 0, 255)


def georeferenced(folder: Path, name: str, target: Path) -> tuple[Path, GeoOrigin, dict[str, Any]]:
    """A copy of the raster with a world file in metres east and north of a place, as a user would write it."""
    facts = json.loads((folder / "georef_estimate.json").read_text())[name]
    picture = target / f"{name}.png"
    shutil.copyfile(folder / name / "map_viz.png", picture)
    yaw, metres_per_px = np.radians(facts["rot_deg"]), 1.0 / facts["px_per_m"]
    px_from_enu = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) / metres_per_px
    enu_from_px = np.linalg.inv(px_from_enu)
    corner = enu_from_px @ (np.array([0.5, 0.5]) - facts["origin_px"])
    numbers = (enu_from_px[0, 0], enu_from_px[1, 0], enu_from_px[0, 1], enu_from_px[1, 1], *corner)
    picture.with_suffix(".pgw").write_text("".join(f"{v:.12f}\n" for v in numbers))
    return picture, GeoOrigin(*facts["ref_latlon"]), facts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kitti0", "kitti2", "kitti9"])
def test_a_world_file_puts_a_real_area_into_tiles(shared_data: Path, tmp_path: Path, name: str) -> None:
    picture, origin, facts = georeferenced(shared_data / "aerial" / "kitti_semantic", name, tmp_path)
    place = (str(origin.lat_deg), str(origin.lon_deg))
    words = ["--crs", "enu:" + ",".join(place), "--origin", *place, "--no-descriptors", "--spacing", "20", "--metres-per-px", "0.4"]
    assert main(["tiles", "build", str(picture), "--out", str(tmp_path / "t"), "--size", "256", *words]) == 0
    tiles = TileDatabase.load(tmp_path / "t")
    west, south, east, north = tiles.bounds_m
    width, height = facts["size_px"]
    assert (east - west) * (north - south) == pytest.approx(width * height / facts["px_per_m"] ** 2, rel=0.02)
    assert len(tiles) > 1000
    assert main(["tiles", "check", str(tmp_path / "t")]) == 0


def test_the_vehicle_drives_on_roads(shared_data: Path, tmp_path: Path) -> None:
    """Positions of KITTI 00 by latitude and longitude lie on the raster's roads: rows, columns and scale are right."""
    picture, origin, _ = georeferenced(shared_data / "aerial" / "kitti_semantic", "kitti0", tmp_path)
    place = f"{origin.lat_deg},{origin.lon_deg}"
    elsewhere = ["--origin", "48.98", "8.39", "110"]  # another frame than the raster's: the earth is in between
    elsewhere += ["--bounds-enu", "-50", "200", "250", "450"]
    assert (
        main(["tiles", "build", str(picture), "--crs", f"enu:{place}", "--out", str(tmp_path / "t"), "--no-descriptors", *elsewhere]) == 0
    )
    tiles = TileDatabase.load(tmp_path / "t")
    rows = np.genfromtxt(shared_data / "kitti" / "georef_derived" / "00_latlon.csv", delimiter=",", skip_header=1)[::10]
    positions = enu_from_geodetic(tiles.origin, rows[:, 1], rows[:, 2], tiles.origin.alt_m)[:, :2]
    _, south, _, north = tiles.bounds_m
    inside = (positions > [-50, 200]).all(axis=1) & (positions < [250, 450]).all(axis=1)
    positions = positions[inside]
    assert len(positions) > 50 and tiles.covers(positions).all()
    colours = np.array([tiles.mosaic.crop(p, 1, 0.4)[0][0, 0] for p in positions])
    assert (np.abs(colours.astype(int) - ROAD).max(axis=1) < 100).mean() > 0.99
    mirrored = np.array([tiles.mosaic.crop((p[0], south + north - p[1]), 1, 0.4)[0][0, 0] for p in positions])
    assert (np.abs(mirrored.astype(int) - ROAD).max(axis=1) < 100).mean() < 0.6
