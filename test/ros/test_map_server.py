"""The map as RViz gets it: points with colours, places, its place on the earth, reloading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tf2_msgs", reason="needs rclpy and the compiled messages: pip install .")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoOrigin, ecef_from_geodetic, enu_from_geodetic, geodetic_from_ecef, geodetic_from_enu
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.mapping.sparse_map import ErrorModel, Place, SparseMap
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.ros import map_server_node
from ros2_loc.ros.map_messages import earth_from_map, mosaic_points, place_markers, point_cloud
from ros2_loc.ros.qos import LATCHED
from ros2_loc.ros.tf import TransformReader

BASE_FROM_CAMERA = Pose(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([0.5, 0, 1.6]))


def small_map(origin: GeoOrigin | None = None, num_places: int = 3) -> SparseMap:
    """Places along x, 2 m apart, looking along x."""
    poses = [Pose.exp([2.0 * i, 0, 0, 0, 0, 0]) for i in range(num_places)]
    nothing: Any = None
    places = tuple(Place(f"{i:06d}.png", i, p, p @ BASE_FROM_CAMERA, nothing, np.empty(0, np.int64)) for i, p in enumerate(poses))
    return SparseMap(
        folder=Path("/maps/small"),
        camera=Camera.pinhole(640, 480, 320.0, 320.0, 320.0, 240.0),
        base_from_camera=BASE_FROM_CAMERA,
        mount_rotation=np.eye(3),
        places=places,
        points_m=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        point_covariances=np.tile(np.eye(3, dtype=np.float32), (2, 1, 1)),
        point_colors=np.array([[255, 128, 1], [0, 0, 200]], np.uint8),
        index=nothing,
        encoder_state={},
        evidence=None,
        origin=origin,
        enu_from_map=Pose.exp([3, 4, 0, 0, 0, 0.5]),
        metric=True,
        error_model=ErrorModel(1.0, np.zeros((6, 6)), 0.0, 0),
        provenance={},
    )


def test_points_carry_their_colours_as_pcl_packs_them() -> None:
    made = small_map()
    cloud = point_cloud(made.points_m, made.point_colors, 5, "map")
    assert (cloud.width, cloud.height, cloud.point_step, cloud.row_step, len(cloud.data)) == (2, 1, 16, 32, 32)
    assert [(f.name, f.offset, f.datatype) for f in cloud.fields] == [(n, 4 * i, 7) for i, n in enumerate(("x", "y", "z", "rgb"))]
    values = np.frombuffer(cloud.data, np.float32).reshape(2, 4)
    np.testing.assert_array_equal(values[:, :3], made.points_m)
    packed = np.frombuffer(cloud.data, np.uint32).reshape(2, 4)[:, 3]
    assert packed.tolist() == [255 << 16 | 128 << 8 | 1, 200]


def test_a_map_without_points_is_an_empty_cloud() -> None:
    cloud = point_cloud(np.empty((0, 3)), np.empty((0, 3), np.uint8), 5, "map")
    assert cloud.width == 0 and len(cloud.data) == 0


def test_frustums_open_where_the_camera_looks() -> None:
    first, frustums, way, *arrows = place_markers(small_map(), 5, "map").markers
    assert first.action == Marker.DELETEALL and len(arrows) == 3 and {m.header.frame_id for m in (frustums, way, *arrows)} == {"map"}
    corners = np.array([[p.x, p.y, p.z] for p in frustums.points]).reshape(3, 16, 3)
    np.testing.assert_allclose(corners[1, 0], [2.5, 0, 1.6])  # the apex is the second camera
    np.testing.assert_allclose(corners[1, 1], [3.5, 1.0, 2.35])  # top left of the image, 1 m ahead: left is y, up is z
    assert [p.x for p in way.points] == [0, 2, 4] and arrows[2].pose.position.x == 4.0 and arrows[0].scale.x == 1.0
    assert place_markers(small_map(num_places=1), 5, "map").markers[1].points


def test_the_map_lies_where_its_origin_says() -> None:
    origin = GeoOrigin(49.01, 8.42, 115.0)
    pose = earth_from_map(origin, Pose.identity())
    np.testing.assert_allclose(pose.translation, ecef_from_geodetic(49.01, 8.42, 115.0))
    lat, lon, alt = geodetic_from_ecef(pose.apply([0.0, 100.0, 0.0]))
    assert lat > 49.0105 and lon == pytest.approx(8.42, abs=1e-9) and alt == pytest.approx(115.0, abs=0.01)


def small_mosaic() -> Mosaic:
    """40 m x 30 m at 0.5 m; red grows eastward, green northward, the north-western corner is unknown."""
    rows, columns = np.mgrid[0:60, 0:80]
    rgb = np.stack([columns * 3, (59 - rows) * 4, np.full_like(rows, 7)], axis=-1).astype(np.uint8)
    valid = np.ones((60, 80), dtype=bool)
    valid[:10, :10] = False
    return Mosaic(rgb, valid, 100.0, 230.0, 0.5)


def small_tiles(origin: GeoOrigin) -> TileDatabase:
    return TileDatabase.build(small_mosaic(), origin, TileDatabase.Layout(0.5, 40, 10.0), {"source": "test"})


def test_the_imagery_becomes_points_where_it_lies_and_not_too_many() -> None:
    points, colours, side_m = mosaic_points(small_mosaic(), 1.0, 10_000)
    assert side_m == 1.0 and len(points) == 40 * 30 - 25 and (points[:, 2] == 0).all()
    assert points[:, :2].min(axis=0).tolist() == [100.5, 200.5] and points[:, :2].max(axis=0).tolist() == [139.5, 229.5]
    np.testing.assert_allclose(colours[:, 0], (points[:, 0] - 100.0) * 6.0 - 1.5, atol=1.0)
    np.testing.assert_allclose(colours[:, 1], (points[:, 1] - 200.0) * 8.0 - 2.0, atol=1.0)
    few, _, side_m = mosaic_points(small_mosaic(), 1.0, 100)
    assert len(few) <= 100 and side_m == 3.5
    assert len(mosaic_points(small_mosaic(), 1e9, 100)[0]) == 1


@pytest.fixture
def server(domain: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A map server whose maps come from `server.maps`, by folder."""
    maps: dict[str, SparseMap] = {"/maps/small": small_map(GeoOrigin(49.0, 8.4, 100.0))}

    def load(folder: Path, verify: bool = True) -> SparseMap:
        if str(folder) not in maps:
            raise DataError(f"{folder}: is not a map")
        return maps[str(folder)]

    monkeypatch.setattr(map_server_node.SparseMap, "load", staticmethod(load))
    node = map_server_node.MapServer(parameter_overrides=[Parameter("map", value="/maps/small")])
    node.maps = maps  # type: ignore[attr-defined]
    yield node
    node.stop()
    node.destroy_node()


@pytest.fixture
def make_server(domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A server of a map and tiles that lie in memory."""
    made: list[Any] = []

    def make(shown: SparseMap | None, tiles: TileDatabase) -> Any:
        monkeypatch.setattr(map_server_node.SparseMap, "load", staticmethod(lambda folder, verify=True: shown))
        monkeypatch.setattr(map_server_node.TileDatabase, "load", staticmethod(lambda folder, verify=True: tiles))
        given = {"tiles": "/tiles", **({"map": "/maps/small"} if shown is not None else {}), "mosaic_height_m": 0.0}
        made.append(map_server_node.MapServer(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()]))
        return made[-1]

    yield make
    for node in made:
        node.stop()
        node.destroy_node()


@pytest.mark.parametrize("with_map", [False, True])
def test_tiles_are_shown_in_the_frame_of_the_map_and_say_where_it_lies(
    make_server: Callable[..., Any], make_node: Callable[..., Any], spin_until: Callable[..., bool], with_map: bool
) -> None:
    """The map lies 115 m east and 210 m north of the tiles' origin, on the ground of its places."""
    origin = GeoOrigin(49.0, 8.4, 100.0)
    lat, lon, alt = (float(v) for v in geodetic_from_enu(origin, [115.0, 210.0, 30.0]))
    shown = small_map(GeoOrigin(lat, lon, alt)) if with_map else None
    server = make_server(shown, small_tiles(origin))
    assert server.start()
    node, clouds = make_node("rviz"), []
    node.create_subscription(PointCloud2, "/map/mosaic", clouds.append, LATCHED)
    reader = TransformReader(node)
    assert spin_until(lambda: bool(clouds and reader.buffer.all_frames_as_string()), node, server)
    values = np.frombuffer(clouds[0].data, np.float32).reshape(-1, 4)
    in_map = values[:, :3].astype(float)
    assert np.abs(in_map[:, 2]).max() < 1e-2  # where the places are, although they lie 30 m above the plane
    earth = reader.pose("earth", "map")
    lat, lon, _ = geodetic_from_ecef(earth.apply(in_map))
    enu = enu_from_geodetic(origin, lat, lon, np.full(len(lat), 100.0))
    np.testing.assert_allclose(enu[:, :2].min(axis=0), [100.5, 200.5], atol=2e-3)
    np.testing.assert_allclose(enu[:, :2].max(axis=0), [139.5, 229.5], atol=2e-3)
    report = server._diagnose()
    assert report.values["tiles"] == len(small_tiles(origin)) and report.values["encoder of the tiles"] == "none"
    reader.close()


@pytest.mark.parametrize(
    ("origin", "words"), [(None, "is not georeferenced"), (GeoOrigin(49.02, 8.4, 100.0), "the nearest is 20")]
)
def test_tiles_and_map_that_do_not_belong_together_are_refused_in_one_line(
    make_server: Callable[..., Any], origin: GeoOrigin | None, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server = make_server(small_map(origin), small_tiles(GeoOrigin(49.0, 8.4, 100.0)))
    assert not server.start()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "ERROR" in line]
    assert words in line


def test_neither_map_nor_tiles_is_refused(domain: int, capfd: pytest.CaptureFixture[str]) -> None:
    server = map_server_node.MapServer()
    assert not server.start()
    server.destroy_node()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "ERROR" in line]
    assert "parameters 'map' and 'tiles' are empty" in line


def test_a_late_subscriber_gets_the_map(server: Any, make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> None:
    assert server.start()
    node, clouds, markers, health = make_node("rviz"), [], [], []
    node.create_subscription(PointCloud2, "/map/points", clouds.append, LATCHED)
    node.create_subscription(MarkerArray, "/map/places", markers.append, LATCHED)
    node.create_subscription(DiagnosticArray, "/diagnostics", health.append, 10)
    reader = TransformReader(node)
    assert spin_until(lambda: bool(clouds and markers and health and reader.buffer.all_frames_as_string()), node, server)
    assert clouds[0].width == 2 and clouds[0].header.frame_id == "map"
    assert np.linalg.norm(reader.pose("earth", "map").translation) == pytest.approx(6.37e6, rel=0.01)
    status = {s.name: s for s in health[-1].status}["map_server: map"]
    assert status.message == "the map is shown" and {v.key: v.value for v in status.values}["places"] == "3"
    reader.close()


def test_reloading_shows_the_new_map_and_a_bad_one_leaves_the_old(
    server: Any, make_node: Callable[..., Any], spin_until: Callable[..., bool]
) -> None:
    assert server.start()
    node, markers = make_node("rviz"), []
    node.create_subscription(MarkerArray, "/map/places", markers.append, LATCHED)
    client = node.create_client(Trigger, "/map_server/reload")
    assert spin_until(lambda: client.service_is_ready() and bool(markers), node, server)
    server.maps["/maps/small"] = small_map(num_places=5)
    answer = client.call_async(Trigger.Request())
    assert spin_until(lambda: answer.done() and len(markers) == 2, node, server)
    assert answer.result().success and answer.result().message == "5 places, 2 points" and len(markers[1].markers) == 3 + 5
    server.maps.clear()
    answer = client.call_async(Trigger.Request())
    assert spin_until(answer.done, node, server)
    assert not answer.result().success and answer.result().message == "/maps/small: is not a map"
    assert "still shown" in server._diagnose().message


def test_no_map_is_refused_in_one_line(server: Any, capfd: pytest.CaptureFixture[str]) -> None:
    server.maps.clear()
    assert not server.start()
    assert [line.rpartition("]: ")[2] for line in capfd.readouterr().err.splitlines() if "ERROR" in line] == ["/maps/small: is not a map"]
    assert server.count_publishers("/map/points") == 0
