"""A recording for the Rerun viewer (rerun.io): camera, map, path, truth, covariance, places and state on one time line."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, quaternion_xyzw_from_rotation
from ros2_loc.core.types import PoseEstimate, Rejection
from ros2_loc.errors import MissingDependencyError
from ros2_loc.io.files import atomic_path
from ros2_loc.visualization.colors import AMBER, BLUE, GREEN, LIGHT_GRAY, RED, STATE_COLORS, Color

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

_MAP, _PLACES, _VEHICLE, _CAMERA = "map/points", "map/places", "map/vehicle", "map/vehicle/camera"
_EPOCH_NS = 10**17  # stamps above are dates, below are seconds since the start of a recording or simulation
_SIGMAS = 3.0
_STRIP = 100


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise MissingDependencyError("a Rerun recording needs rerun-sdk: pip install 'ros2_loc[rerun]'") from error
    return rerun


class RerunLog:
    """Writes a recording to a file: `with RerunLog("drive.rrd") as log: …`; the file is there, whole, when the block ends well.

    Args:
        path: where to.
        title: shown by the viewer.

    Raises:
        MissingDependencyError: rerun-sdk is not installed.
    """

    def __init__(self, path: Path | str, title: str = "ros2_loc") -> None:
        self._rr = _rerun()
        self._path, self._title = Path(path), title
        self._resources = ExitStack()
        self._estimated_m: list[Array] = []
        self._true_m: list[Array] = []
        self._recording: Any = None

    def __enter__(self) -> RerunLog:
        temporary = self._resources.enter_context(atomic_path(self._path))
        self._recording = self._rr.RecordingStream(self._title)
        self._recording.save(str(temporary))
        self._recording.log("map", self._rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._recording.send_blueprint(self._blueprint())
        self._recording.flush()
        self._recording.disconnect()
        self._resources.__exit__(kind, error, trace)

    def log_map(self, points_m: Array, colors: Image | None = None, places_m: Array | None = None) -> None:
        """The map, for the whole recording: points (N, 3) with RGB colours (N, 3) uint8, and positions of places (P, 3), m in the map."""
        rr = self._rr
        drawn = LIGHT_GRAY if colors is None else colors
        self._recording.log(_MAP, rr.Points3D(points_m, colors=drawn, radii=rr.Radius.ui_points(1.5)), static=True)
        if places_m is not None and len(places_m):
            radii = rr.Radius.ui_points(3.5)
            self._recording.log(_PLACES, rr.Points3D(places_m, colors=LIGHT_GRAY, radii=radii), static=True)

    def log_frame(
        self,
        stamp_ns: int,
        result: PoseEstimate | Rejection,
        image: Image | None = None,
        truth: Pose | None = None,
        state: str = "",
        camera: Camera | None = None,
        base_from_camera: Pose | None = None,
    ) -> None:
        """One frame at its stamp.

        Args:
            result: of the localizer or the fusion; a rejection leaves the vehicle where it was and is written in the text log.
            image: (H, W, 3) uint8 RGB, for instance with its overlay.
            truth: map_from_base where it is known.
            state: value of a `FusionState`.
            camera, base_from_camera: draw the camera's cone on the vehicle.
        """
        self._set_time(stamp_ns)
        if image is not None:
            self._recording.log("camera", self._rr.Image(image).compress(jpeg_quality=85))
        if truth is not None:
            self._extend("map/truth", self._true_m, truth.translation, AMBER)
        if isinstance(result, PoseEstimate):
            self._log_estimate(result, camera, base_from_camera)
        self._log_result(result, state, truth)

    def _set_time(self, stamp_ns: int) -> None:
        if stamp_ns >= _EPOCH_NS:
            self._recording.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))
        else:
            self._recording.set_time("stamp", duration=np.timedelta64(stamp_ns, "ns"))

    def _log_estimate(self, estimate: PoseEstimate, camera: Camera | None, base_from_camera: Pose | None) -> None:
        rr, pose = self._rr, estimate.map_from_base
        self._extend("map/path", self._estimated_m, pose.translation, BLUE)
        self._recording.log(_VEHICLE, _transform(rr, pose), rr.TransformAxes3D(2.0))
        variances, axes = np.linalg.eigh(estimate.covariance[:3, :3])
        axes = axes * np.sign(np.linalg.det(axes))
        quaternion = quaternion_xyzw_from_rotation(axes)
        ellipsoid = rr.Ellipsoids3D(
            half_sizes=[_SIGMAS * np.sqrt(variances)],
            centers=[pose.translation],
            quaternions=[rr.Quaternion(xyzw=quaternion)],
            colors=[GREEN],
        )
        self._recording.log("map/covariance", ellipsoid)
        if camera is not None and base_from_camera is not None:
            self._recording.log(_CAMERA, _transform(rr, base_from_camera), _pinhole(rr, camera))

    def _log_result(self, result: PoseEstimate | Rejection, state: str, truth: Pose | None) -> None:
        rr = self._rr
        color = STATE_COLORS.get(state, RED if isinstance(result, Rejection) else GREEN)
        if isinstance(result, Rejection):
            text = f"no pose: {result.reason.value} {result.detail}".strip()
            self._recording.log("plots/inliers", rr.Scalars(0.0))
        else:
            text = f"{result.num_inliers} inliers, sigma {result.sigma_m:.3f} m, {np.degrees(result.sigma_rad):.2f} deg"
            self._recording.log("plots/inliers", rr.Scalars(float(result.num_inliers)))
            self._recording.log("plots/sigma_m", rr.Scalars(result.sigma_m))
            if truth is not None:
                error_m = float(np.linalg.norm(result.map_from_base.translation - truth.translation))
                self._recording.log("plots/error_m", rr.Scalars(error_m))
        level = "WARN" if isinstance(result, Rejection) else "INFO"
        self._recording.log("state", rr.TextLog(f"{state}: {text}" if state else text, level=level, color=color))

    def _extend(self, entity: str, path_m: list[Array], position_m: Array, color: Color) -> None:
        """Continues a line in strips of limited length: logging all of it each time would grow with the square of the drive."""
        path_m.append(position_m)
        strip = (len(path_m) - 1) // _STRIP
        points = path_m[max(strip * _STRIP - 1, 0) :]
        if len(points) > 1:
            line = self._rr.LineStrips3D([np.array(points)], colors=[color], radii=self._rr.Radius.ui_points(1.8))
            self._recording.log(f"{entity}/{strip}", line)

    def _blueprint(self) -> Any:
        from rerun import blueprint as rrb

        side = rrb.Vertical(
            rrb.Spatial2DView(origin="camera", name="camera"),
            rrb.TimeSeriesView(contents=["plots/error_m", "plots/sigma_m"], name="error and sigma [m]"),
            rrb.TimeSeriesView(contents=["plots/inliers"], name="inliers"),
            rrb.TextLogView(origin="state", name="state"),
            row_shares=[3, 2, 2, 2],
        )
        world = rrb.Spatial3DView(origin="map", name="map", eye_controls=self._eye(rrb))
        time = rrb.TimePanel(state="collapsed", timeline="stamp", play_state="following")
        return rrb.Blueprint(rrb.Horizontal(world, side, column_shares=[3, 2]), time, collapse_panels=True)

    def _eye(self, rrb: Any) -> Any:
        """Over the whole path, from the south-west."""
        path = np.array(self._estimated_m + self._true_m or [np.zeros(3)])
        low, high = path.min(axis=0), path.max(axis=0)
        distance_m = max(float(np.linalg.norm(high - low)), 10.0)
        centre = 0.5 * (low + high)
        return rrb.EyeControls3D(position=centre + distance_m * np.array([-0.3, -0.65, 0.5]), look_target=centre, eye_up=(0.0, 0.0, 1.0))


def _transform(rr: Any, pose: Pose) -> Any:
    return rr.Transform3D(translation=pose.translation, mat3x3=pose.rotation)


def _pinhole(rr: Any, camera: Camera) -> Any:
    return rr.Pinhole(image_from_camera=camera.matrix, resolution=[camera.width, camera.height], image_plane_distance=1.5)
