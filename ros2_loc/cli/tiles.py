"""`ros2-loc tiles`: build satellite tiles, describe them, say what is in them, check them, show them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ros2_loc.cli.arguments import Parser, progress_wanted

if TYPE_CHECKING:
    from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig
    from ros2_loc.mapping.tile_database import TileDatabase

EXAMPLE = "ros2-loc tiles build orthophoto.tif --out city_tiles --map city_map\n  ros2-loc tiles check city_tiles"
_LONG_CRS = 60
_BUILD = (
    "ros2-loc tiles build orthophoto_1.tif orthophoto_2.tif --out city_tiles --map city_map\n"
    "  ros2-loc tiles build drawing.png --crs EPSG:25832 --out site_tiles --origin 48.982 8.390 115\n"
    "  ros2-loc tiles build 'https://tiles.example.org/{z}/{x}/{y}.jpg' --bounds 48.97 8.38 48.99 8.41 --out city_tiles\n"
    "  ros2-loc tiles build town:7:district --out town_tiles"
)


def add_arguments(parser: Parser) -> None:
    """`build`, `encode`, `info`, `check`, `show`."""
    verbs = parser.add_verbs(
        {
            "build": ("build tiles from GeoTIFF, MBTiles, folders or servers of XYZ tiles, or a synthetic town", _BUILD),
            "encode": ("describe tiles anew, for another pipeline or other weights", "ros2-loc tiles encode city_tiles"),
            "info": ("say what is in a folder of tiles", "ros2-loc tiles info city_tiles"),
            "check": ("compare tiles with their checksums and find what is wrong", "ros2-loc tiles check city_tiles --map city_map"),
            "show": ("draw the tile at a place, or all of the area", "ros2-loc tiles show city_tiles 48.9825 8.3904 --out tile.png"),
        }
    )
    _add_build(verbs["build"])
    for name in ("encode", "info", "check", "show"):
        verbs[name].add_argument("tiles", type=Path, help="folder of the tiles")
    for name in ("build", "encode", "check"):
        _add_encoder(verbs[name], None if name == "check" else "cross_view")
    verbs["check"].add_argument("--map", type=Path, metavar="MAP", help="compare the origin with that of a visual map")
    show = verbs["show"]
    show.add_argument("place", type=float, nargs="*", metavar="LAT LON", help="latitude and longitude; none: the whole area")
    show.add_argument("--enu", type=float, nargs=2, metavar=("EAST", "NORTH"), help="the place in metres of the tiles' frame instead")
    show.add_argument("--heading", type=float, metavar="DEG", help="which direction is up, 0 = east, counter-clockwise (default: north)")
    show.add_argument("--out", type=Path, metavar="PNG", help="file to write (default: tile_ID.png or tiles.png)")


def _add_build(build: Parser) -> None:
    build.add_argument("source", nargs="+", help="files, folders, URLs with {z}/{x}/{y}, or town:SEED; the first lies on top")
    words = "folder to write; an interrupted build is taken up where it was"
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help=words)
    build.add_argument("--overwrite", action="store_true", help="replace tiles that are there, once the new ones are whole")
    place = build.add_argument_group("which place")
    origin = place.add_mutually_exclusive_group()
    origin.add_argument("--map", type=Path, metavar="MAP", help="take the origin of this visual map, so that both have one frame")
    words = "latitude, longitude and altitude of the frame's origin (default: the middle of the imagery)"
    origin.add_argument("--origin", type=float, nargs="+", metavar="DEG", help=words)
    box = place.add_mutually_exclusive_group()
    box.add_argument("--bounds", type=float, nargs=4, metavar=("SOUTH", "WEST", "NORTH", "EAST"), help="where tiles shall lie, in degrees")
    box.add_argument(
        "--bounds-enu", type=float, nargs=4, metavar=("WEST", "SOUTH", "EAST", "NORTH"), help="where tiles shall lie, m from the origin"
    )
    cut = build.add_argument_group("how it is cut (default: as the pipeline's encoder wants it)")
    cut.add_argument("--spacing", type=float, metavar="M", help="between the centres of tiles")
    cut.add_argument("--size", type=int, metavar="PX", help="side of a tile")
    cut.add_argument("--metres-per-px", type=float, metavar="M", help="ground size of a tile's pixel")
    cut.add_argument("--min-valid", type=float, metavar="SHARE", help="leave out tiles of which less is known")
    imagery = build.add_argument_group("what the imagery does not say itself")
    words = "of files without one: EPSG:25832, a PROJ string, or enu:LAT,LON (metres east, north)"
    imagery.add_argument("--crs", metavar="CRS", help=words)
    imagery.add_argument("--bands", metavar="R,G,B", help="which bands are red, green and blue, counted from 1")
    imagery.add_argument("--zoom", type=int, metavar="Z", help="of tile folders and servers (default: as fine as the tiles)")
    imagery.add_argument("--attribution", default="", metavar="TEXT", help="whom the imagery is owed to and under which licence")
    imagery.add_argument("--cache", type=Path, metavar="DIR", help="where tiles of servers are kept (default: ~/.cache/ros2_loc/tiles)")
    imagery.add_argument("--rate-hz", type=float, default=5.0, metavar="HZ", help="requests per second to a server (default: 5)")


def _add_encoder(parser: Parser, default: str | None) -> None:
    group = parser.add_argument_group("encoder")
    said = default or "none: the encoder is not compared"
    group.add_argument("--pipeline", default=default, metavar="NAME", help=f"cross-view pipeline or YAML file (default: {said})")
    words = "override, for instance encoder.weights=FILE"
    group.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=words)
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    if parser.prog.endswith("build"):
        group.add_argument("--no-descriptors", action="store_true", help="cut tiles only; `tiles encode` can describe them later")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen one."""
    return {"build": _build, "encode": _encode, "info": _info, "check": _check, "show": _show}[arguments.action](arguments)


def _build(arguments: argparse.Namespace) -> int:
    import time

    from ros2_loc.cli.tile_sources import plan_build
    from ros2_loc.io.files import require_absent
    from ros2_loc.mapping.tile_build import build_tiles

    begin = time.perf_counter()
    if not arguments.overwrite:
        require_absent(arguments.out)
    pipeline = _pipeline(arguments)
    encoder = None if arguments.no_descriptors else _encoder(pipeline, arguments)
    plan = plan_build(arguments, pipeline, encoder)
    for line in plan.notes:
        print(f"note: {line}")
    tiles = build_tiles(
        arguments.out,
        plan.draw,
        plan.origin,
        plan.layout,
        plan.provenance,
        encoder,
        area_m=plan.area_m,
        overwrite=arguments.overwrite,
        show_progress=progress_wanted(),
    )
    _print_info(arguments.out, tiles, time.perf_counter() - begin)
    return 0


def _encode(arguments: argparse.Namespace) -> int:
    import shutil
    import time

    from ros2_loc.mapping.tile_build import encode_tiles
    from ros2_loc.mapping.tile_database import TileDatabase

    begin = time.perf_counter()
    tiles = TileDatabase.load(arguments.tiles)
    work = arguments.tiles.parent / f".{arguments.tiles.name}.encoding"
    encode_tiles(tiles, _encoder(_pipeline(arguments), arguments), work, progress_wanted()).save(arguments.tiles, overwrite=True)
    shutil.rmtree(work, ignore_errors=True)
    _print_info(arguments.tiles, TileDatabase.load(arguments.tiles, verify=False), time.perf_counter() - begin)
    return 0


def _pipeline(arguments: argparse.Namespace) -> CrossViewPipelineConfig:
    from ros2_loc.localization.cross_view_pipeline import load_cross_view_pipeline

    return load_cross_view_pipeline(arguments.pipeline, arguments.overrides)


def _encoder(pipeline: CrossViewPipelineConfig, arguments: argparse.Namespace) -> Any:
    from ros2_loc import registry

    return registry.create("cross_view", pipeline.encoder, arguments.device)


def _info(arguments: argparse.Namespace) -> int:
    from ros2_loc.mapping.tile_database import TileDatabase

    _print_info(arguments.tiles, TileDatabase.load(arguments.tiles, verify=False), None)
    return 0


def _print_info(folder: Path, tiles: TileDatabase, took_s: float | None) -> None:
    from ros2_loc.cli.console import seconds, table

    west, south, east, north = tiles.bounds_m
    layout, mosaic, origin = tiles.layout, tiles.mosaic, tiles.origin
    imagery_mb = (folder / "imagery.tif").stat().st_size / 1e6 if (folder / "imagery.tif").is_file() else 0.0
    cut = f"{layout.size_px} px of {layout.metres_per_px:g} m, {layout.coverage_m:.1f} m across, every {layout.spacing_m:g} m, north up"
    picture = f"{mosaic.size_px[0]}x{mosaic.size_px[1]} px of {mosaic.metres_per_px:g} m, {imagery_mb:.1f} MB on disk, read by windows"
    rows = [
        ("tiles", f"{folder}: {len(tiles)}"),
        ("layout", cut),
        ("area", f"{(east - west) * (north - south) / 1e6:.3f} km2: east {west:.0f} to {east:.0f}, north {south:.0f} to {north:.0f} m"),
        ("origin", f"{origin.lat_deg:.7f} {origin.lon_deg:.7f} {origin.alt_m:.1f} m"),
        ("imagery", picture),
        ("descriptors", _descriptors(tiles)),
        *(("source", _source(source)) for source in tiles.provenance.get("sources", [])),
        ("attribution", _attribution(tiles.provenance)),
        ("made by", f"ros2_loc {tiles.provenance.get('ros2_loc', '?')}"),
    ]
    print(table(rows + ([("time", seconds(took_s))] if took_s is not None else [])))


def _descriptors(tiles: TileDatabase) -> str:
    from ros2_loc.cli.tile_checks import short_fingerprint

    if tiles.descriptors is None:
        return "none"
    features, uncertainty = tiles.descriptors.features, tiles.descriptors.uncertainty
    each = (features.nbytes + uncertainty.nbytes) / len(tiles)
    shape = "x".join(map(str, features.shape[1:]))
    size = f"{each / 1024:.1f} KB in memory per tile, {each * len(tiles) / 2**20:.1f} MB together"
    return f"{shape} {features.dtype}, {size}, by {short_fingerprint(tiles.descriptors.encoder)}"


def _source(source: dict[str, Any]) -> str:
    zoom = f", zoom {source['zoom']}, {source['tiles']} tiles, {source['missing_tiles']} missing" if "zoom" in source else ""
    crs = str(source.get("crs", ""))
    crs = crs if len(crs) < _LONG_CRS else f"{crs[:_LONG_CRS]}..."
    return f"{source.get('kind', '?')} {source.get('name', '?')}" + (f" ({crs}{zoom})" if crs else "")


def _attribution(provenance: dict[str, Any]) -> str:
    given = [provenance.get("attribution"), *(source.get("attribution") for source in provenance.get("sources", []))]
    return "; ".join(dict.fromkeys(filter(None, given))) or "not stated (--attribution TEXT)"


def _check(arguments: argparse.Namespace) -> int:
    from ros2_loc.cli.checks import Mark, report
    from ros2_loc.cli.tile_checks import check_tiles, verdict

    encoder = None if arguments.pipeline is None else _encoder(_pipeline(arguments), arguments)
    findings = check_tiles(arguments.tiles, encoder, arguments.map)
    print(report(findings))
    print(verdict(findings))
    return 1 if any(finding.mark is Mark.BAD for finding in findings) else 0


def _show(arguments: argparse.Namespace) -> int:
    from ros2_loc.cli.tile_pictures import show_area, show_tile
    from ros2_loc.errors import ConfigError
    from ros2_loc.mapping.tile_database import TileDatabase

    if (arguments.enu and arguments.place) or len(arguments.place) not in (0, 2):
        raise ConfigError("give a place as LAT LON or as --enu EAST NORTH, or none for the whole area")
    tiles = TileDatabase.load(arguments.tiles, verify=False)
    if not arguments.place and not arguments.enu:
        print(show_area(tiles, arguments.out))
        return 0
    print(show_tile(tiles, tuple(arguments.place), arguments.enu, arguments.heading, arguments.out))
    return 0
