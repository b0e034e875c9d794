"""Satellite tiles through real nodes: a field without a network, and a town with a map, a bag and random weights."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from ros2_loc.core.geodesy import GeoOrigin, ecef_from_geodetic, enu_from_geodetic
from ros2_loc.core.pose import Pose

ORIGIN = GeoOrigin(48.0, 9.0)
BASE_FROM_CAMERA = Pose(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.array([0.2, 0.0, 1.5]))
EVERY = 3  # of the drive's poses, which are 1 m apart, one is an image


@pytest.fixture(scope="module")
def plugin(checkout: Path) -> ModuleType:
    path = checkout / "test" / "ros" / "field_plugin.py"
    spec = importlib.util.spec_from_file_location("field_plugin", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["field_plugin"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def field(plugin: ModuleType, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiles and a pipeline; the encoder is a plugin of another package, as far as the nodes' processes can tell."""
    announced = tmp_path / "packages" / "field_plugin-1.0.dist-info"
    announced.mkdir(parents=True)
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: field-plugin\nVersion: 1.0\n")
    (announced / "entry_points.txt").write_text("[ros2_loc.cross_view]\nfield = field_plugin:FieldVideo\n")
    paths = [str(announced.parent), str(checkout / "test" / "ros"), os.environ["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    plugin.world().tiles().save(tmp_path / "tiles")
    (tmp_path / "pipeline.yaml").write_text(plugin.PIPELINE)
    (tmp_path / "other.yaml").write_text("encoder: {name: field, seed: 7}\n")
    return tmp_path


class Vehicle:
    """Drives over the field, and hears what the nodes say."""

    def __init__(self, observer: Any, plugin: ModuleType) -> None:
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from nav_msgs.msg import OccupancyGrid, Odometry
        from ros2_loc.msg import LocalizationStatus
        from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
        from visualization_msgs.msg import MarkerArray

        from ros2_loc.ros import qos
        from ros2_loc.ros.tf import StaticTransformBroadcaster

        self.observer, self.plugin, node = observer, plugin, observer.node
        self.drive = plugin.field.Drive(plugin.field.wander(200.0, 3, 90), start_ns=1_700_000_000_000_000_000)
        self.odometry_poses = list(self.drive.odometry())
        self.images = node.create_publisher(Image, "camera/image_raw", qos.image_qos())
        self.infos = node.create_publisher(CameraInfo, "camera/camera_info", qos.image_qos())
        self.odometry = node.create_publisher(Odometry, "odom", qos.odometry_qos())
        self.imu = node.create_publisher(Imu, "imu/data", qos.odometry_qos())
        self.mountings = StaticTransformBroadcaster(node)
        self.heard: dict[str, list[Any]] = {}
        for kind, topic, profile in (
            (PoseWithCovarianceStamped, "localization/cross_view_pose", qos.RESULT),
            (LocalizationStatus, "localization/cross_view_status", qos.RESULT),
            (NavSatFix, "localization/cross_view_fix", qos.RESULT),
            (NavSatFix, "localization/fix", qos.RESULT),
            (OccupancyGrid, "localization/belief", qos.LATCHED),
            (MarkerArray, "localization/belief_modes", qos.LATCHED),
            (Image, "localization/overhead_image", qos.image_qos()),
            (PointCloud2, "map/mosaic", qos.LATCHED),
        ):
            self.heard[topic] = []
            node.create_subscription(kind, topic, self.heard[topic].append, profile)

    def is_heard(self) -> bool:
        publishers = (self.images, self.infos, self.odometry, self.imu)
        return all(p.get_subscription_count() for p in publishers) and "cross_view_localizer: input" in self.observer.diagnostics

    def set_out(self) -> None:
        from sensor_msgs.msg import CameraInfo

        from ros2_loc.ros import conversions

        frames = {"camera": BASE_FROM_CAMERA, "imu": Pose.identity()}
        self.mountings.sendTransform([conversions.transform_stamped(pose, 0, "base_link", frame) for frame, pose in frames.items()])
        camera = self.plugin.field.CAMERA
        k, model, d = camera.to_ros()
        info = CameraInfo(width=camera.width, height=camera.height, distortion_model=model, d=d, k=k.ravel())
        info.header.frame_id = "camera"
        self.infos.publish(info)
        self.observer.until(lambda: False, timeout_s=1.0)

    def go(self, first: int, last: int) -> None:
        from nav_msgs.msg import Odometry
        from sensor_msgs.msg import Imu

        from ros2_loc.ros import conversions

        for i in range(first, last, EVERY):
            stamp_ns = self.drive.stamp_ns(i)
            odometry = Odometry(header=conversions.header(stamp_ns, "odom"), child_frame_id="base_link")
            odometry.pose.pose = conversions.pose_to_message(self.odometry_poses[i])
            self.odometry.publish(odometry)
            imu = Imu(header=conversions.header(stamp_ns, "imu"))
            imu.orientation = conversions.pose_to_message(self.drive.truth(i)).orientation
            self.imu.publish(imu)
            image = self.plugin.image_of(*self.drive.poses[i])
            self.images.publish(conversions.image_from_rgb(image, stamp_ns, "camera"))
            self.observer.until(lambda: False, timeout_s=0.25)

    def errors_m(self, messages: list[Any]) -> np.ndarray:
        from ros2_loc.ros import conversions

        index = {self.drive.stamp_ns(i): i for i in range(len(self.drive))}
        pairs = [(m, self.drive.truth(index[conversions.ns_from_stamp(m.header.stamp)])) for m in messages]
        return np.array([np.linalg.norm((conversions.pose_from_message(m.pose.pose).translation - t.translation)[:2]) for m, t in pairs])


@pytest.fixture
def vehicle(observe: Callable[..., Any], plugin: ModuleType) -> Iterator[Vehicle]:
    yield Vehicle(observe(None), plugin)


@pytest.mark.parametrize("container", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_a_drive_over_tiles_ends_in_a_place_on_the_earth(
    container: str, field: Path, vehicle: Vehicle, run_graph: Callable[..., Any]
) -> None:
    from ros2_loc.ros import conversions

    observer = vehicle.observer
    run = run_graph(tiles=field / "tiles", cross_view_pipeline=field / "pipeline.yaml", container=container)
    assert observer.until(vehicle.is_heard, 60.0), "the nodes do not start"
    vehicle.set_out()
    vehicle.go(0, 75)
    poses, statuses = vehicle.heard["localization/cross_view_pose"], vehicle.heard["localization/cross_view_status"]
    assert observer.until(lambda: bool(observer.poses) and bool(vehicle.heard["localization/fix"]))
    assert statuses[0].rejection_reason == "ambiguous" and statuses[-1].accepted and statuses[-1].source == "cross_view_localizer"
    assert len(poses) >= 3 and vehicle.errors_m(poses).max() < 5.0 and vehicle.errors_m(observer.poses).max() < 5.0
    assert observer.state == observer.states[-1].TRACKING
    assert ("map", "odom") in {(t.header.frame_id, t.child_frame_id) for t in observer.tf}
    fix = vehicle.heard["localization/fix"][-1]
    enu = enu_from_geodetic(ORIGIN, fix.latitude, fix.longitude, fix.altitude)
    index = round((conversions.ns_from_stamp(fix.header.stamp) - vehicle.drive.start_ns) / 1e8)
    assert np.linalg.norm(enu[:2] - vehicle.drive.truth(index).translation[:2]) < 5.0
    earth = observer.transforms.pose("earth", "map")
    assert np.allclose(earth.translation, ecef_from_geodetic(48.0, 9.0, 0.0))
    assert vehicle.heard["map/mosaic"][-1].width > 1000 and max(vehicle.heard["localization/belief"][-1].data) == 100
    assert len(vehicle.heard["localization/belief_modes"][-1].markers) >= 3 and vehicle.heard["localization/overhead_image"]
    said = observer.diagnostics["cross_view_localizer: localization"]
    assert {"belief: entropy (nats)", "belief: modes", "stage match (s)"} <= {v.key for v in said.values}
    assert "no errors" in observer.diagnostics["cross_view_localizer: errors"].message
    assert run.is_running and run.stop() == 0 and "Traceback" not in run.log


@pytest.mark.slow
def test_tiles_of_another_encoder_and_a_folder_without_tiles_end_the_run_in_one_line(field: Path, run_graph: Callable[..., Any]) -> None:
    run = run_graph(tiles=field / "tiles", cross_view_pipeline=field / "other.yaml")
    assert run.process.wait(60) == 1
    lines = [line for line in run.log.splitlines() if line.startswith("[ERROR]")]
    assert any("were encoded by field-0, the pipeline has field-7: run `ros2-loc tiles encode`" in line for line in lines)
    assert "Traceback" not in run.log and "cross_view_localizer died: exit code 1" in run.log
    run = run_graph(tiles=field / "packages", cross_view_pipeline=field / "pipeline.yaml")
    assert run.process.wait(60) == 1 and "holds no tiles" in run.log


def tiles_of_the_town(town: Any, folder: Path) -> Path:
    """The street's town from above, described by a small network of random weights."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch torchvision timm safetensors tensorboard")
    from ros2_loc import registry
    from ros2_loc.mapping.mosaic import store
    from ros2_loc.mapping.tile_build import build_tiles
    from ros2_loc.mapping.tile_database import TileDatabase
    from ros2_loc.models.cvlnet.network import CVLNet
    from ros2_loc.models.weights import save_model
    from ros2_loc.world.imagery import town_mosaic

    torch.manual_seed(0)
    weights = folder / "random.safetensors"
    save_model(weights, CVLNet(CVLNet.Config()), {"recipe": "random", "seed": 0, "licence": "none"})
    (folder / "cross_view.yaml").write_text(f"encoder: {{name: cvlnet, weights: {weights}}}\n")
    encoder = registry.create("cross_view", {"name": "cvlnet", "weights": str(weights)}, "cpu")
    mosaic = town_mosaic(town.recording.town, encoder.grid.coverage_m / encoder.tile_px)
    layout = TileDatabase.Layout(encoder.grid.coverage_m / encoder.tile_px, encoder.tile_px, 10.0)
    origin = town.recording.town.origin
    build_tiles(
        folder / "tiles", lambda path: store(mosaic, path, origin), origin, layout, {"source": "town"}, encoder, show_progress=False
    )
    return folder / "tiles"


@pytest.mark.slow
def test_both_localizers_with_a_map_a_bag_and_a_network_that_knows_nothing(
    street: Any, observe: Callable[..., Any], run_graph: Callable[..., Any], tmp_path: Path
) -> None:
    """Random weights are no evidence: never a pose from the tiles that is far off, and the map's are as good as without them."""
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from nav_msgs.msg import OccupancyGrid
    from ros2_loc.msg import LocalizationStatus
    from sensor_msgs.msg import PointCloud2

    from ros2_loc.ros import qos

    tiles, observer = tiles_of_the_town(street, tmp_path), observe(street)
    heard: dict[str, list[Any]] = {}
    for kind, topic, profile in (
        (PoseWithCovarianceStamped, "localization/cross_view_pose", qos.RESULT),
        (LocalizationStatus, "localization/cross_view_status", qos.RESULT),
        (OccupancyGrid, "localization/belief", qos.LATCHED),
        (PointCloud2, "map/mosaic", qos.LATCHED),
    ):
        heard[topic] = []
        observer.node.create_subscription(kind, topic, heard[topic].append, profile)
    of_tiles = {"tiles": tiles, "cross_view_pipeline": tmp_path / "cross_view.yaml"}
    run = run_graph(**street.arguments, **of_tiles, bag=street.bag, image_transport="compressed", rate=0.3)
    assert observer.until(lambda: not run.is_running, timeout_s=120.0), "the run does not end with its bag"
    assert run.process.returncode == 0 and "died" not in run.log and "Traceback" not in run.log, run.log
    assert len(observer.estimates) >= 4 and observer.errors_m(observer.poses).max() < 0.5
    statuses = heard["localization/cross_view_status"]
    reasons = {s.rejection_reason for s in statuses}
    assert statuses and reasons <= {"", "ambiguous", "outside_tiles", "no_odometry", "no_heading"} and "ambiguous" in reasons
    assert not heard["localization/cross_view_pose"] or observer.errors_m(heard["localization/cross_view_pose"]).max() < 20.0
    assert heard["localization/belief"] and heard["map/mosaic"][-1].width > 1000


@pytest.mark.slow
def test_the_heading_of_an_odometry_is_set_in_the_nodes_file(
    field: Path, vehicle: Vehicle, run_graph: Callable[..., Any], checkout: Path
) -> None:
    settings = field / "nodes"
    shutil.copytree(checkout / "config" / "nodes", settings)
    document = yaml.safe_load((settings / "cross_view_localizer.yaml").read_text())
    offset_rad = vehicle.drive.truth(0).yaw_rad - vehicle.odometry_poses[0].yaw_rad
    document["/**/cross_view_localizer"]["ros__parameters"]["heading_offset_rad"] = float(offset_rad)
    (settings / "cross_view_localizer.yaml").write_text(yaml.safe_dump(document))
    run = run_graph(tiles=field / "tiles", cross_view_pipeline=field / "pipeline.yaml", heading="odometry", node_config=settings)
    publishers = (vehicle.images, vehicle.infos, vehicle.odometry)
    assert vehicle.observer.until(lambda: all(p.get_subscription_count() for p in publishers), 60.0)
    time.sleep(1.0)
    vehicle.set_out()
    vehicle.go(0, 60)
    poses = vehicle.heard["localization/cross_view_pose"]
    assert vehicle.observer.until(lambda: bool(poses)) and vehicle.errors_m(poses).max() < 5.0
    assert run.stop() == 0 and "Traceback" not in run.log
