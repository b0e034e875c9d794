"""Camera intrinsics in COLMAP's models, and what happens to them when the image is resized or cropped.

The distortion mathematics is pycolmap's. Pixel coordinates have the centre of the first pixel at (0.5, 0.5), as COLMAP and this package;
ROS and OpenCV intrinsics put it at (0, 0): `from_ros` and `ros_matrix` are the only places that know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import ArrayLike, NDArray

from ros2_loc.errors import GeometryError

Array = NDArray[np.float64]

# number of leading parameters that are focal lengths, and the index of (cx, cy) behind them
_FOCALS = {
    "SIMPLE_PINHOLE": 1,
    "PINHOLE": 2,
    "SIMPLE_RADIAL": 1,
    "RADIAL": 1,
    "OPENCV": 2,
    "FULL_OPENCV": 2,
    "OPENCV_FISHEYE": 2,
    "SIMPLE_RADIAL_FISHEYE": 1,
    "RADIAL_FISHEYE": 1,
}
_NUM_PARAMS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "FULL_OPENCV": 12,
    "OPENCV_FISHEYE": 8,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
}
_WITH_TWO_FOCALS = {
    "SIMPLE_PINHOLE": "PINHOLE",
    "SIMPLE_RADIAL": "OPENCV",
    "RADIAL": "OPENCV",
    "SIMPLE_RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "RADIAL_FISHEYE": "OPENCV_FISHEYE",
}


@dataclass(frozen=True, slots=True)
class Camera:
    """Intrinsics of one camera.

    Attributes:
        model: a COLMAP model name, for instance PINHOLE, OPENCV, OPENCV_FISHEYE.
        width, height: image size, px.
        params: the model's parameters in COLMAP's order, principal point in the (0.5, 0.5) convention.

    Raises:
        GeometryError: unknown model, wrong number of parameters, a size or focal length not positive, or a value not finite.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", tuple(float(p) for p in self.params))
        if self.model not in _FOCALS:
            raise GeometryError(f"camera model {self.model!r} is unknown; use one of {', '.join(sorted(_FOCALS))}")
        if len(self.params) != _NUM_PARAMS[self.model]:
            raise GeometryError(f"camera model {self.model} has {_NUM_PARAMS[self.model]} parameters, got {len(self.params)}")
        if self.width <= 0 or self.height <= 0 or not np.isfinite(self.params).all() or min(self.focal_px) <= 0:
            raise GeometryError(f"camera {self.width}x{self.height} with parameters {self.params} is not valid: is it calibrated?")

    @staticmethod
    def pinhole(width: int, height: int, fx_px: float, fy_px: float, cx_px: float, cy_px: float) -> Camera:
        """A PINHOLE camera; cx, cy in the (0.5, 0.5) convention."""
        return Camera("PINHOLE", width, height, (fx_px, fy_px, cx_px, cy_px))

    @staticmethod
    def from_ros(width: int, height: int, k: ArrayLike, distortion_model: str = "", d: ArrayLike = ()) -> Camera:
        """From the fields of sensor_msgs/CameraInfo: K (9,) or (3, 3); `plumb_bob`, `rational_polynomial`, `equidistant`/`fisheye` or none.

        Raises:
            GeometryError: an uncalibrated K, an unknown model, or too many coefficients.
        """
        k3 = np.asarray(k, dtype=np.float64).reshape(3, 3)
        intrinsics = (k3[0, 0], k3[1, 1], k3[0, 2] + 0.5, k3[1, 2] + 0.5)
        coefficients = np.asarray(d, dtype=np.float64).ravel()
        if coefficients.size == 0 or not coefficients.any():
            if distortion_model in ("equidistant", "fisheye"):
                return Camera("OPENCV_FISHEYE", width, height, intrinsics + (0.0,) * 4)
            return Camera("PINHOLE", width, height, intrinsics)
        if distortion_model in ("equidistant", "fisheye") and coefficients.size == 4:
            return Camera("OPENCV_FISHEYE", width, height, intrinsics + tuple(coefficients))
        if distortion_model in ("plumb_bob", "rational_polynomial") and coefficients.size in (4, 5, 8):
            full = np.zeros(8)
            full[: coefficients.size] = coefficients
            if not full[4:].any():
                return Camera("OPENCV", width, height, intrinsics + tuple(full[:4]))
            return Camera("FULL_OPENCV", width, height, intrinsics + tuple(full))
        raise GeometryError(
            f"distortion model {distortion_model!r} with {coefficients.size} coefficients is not supported; "
            "use plumb_bob (4 or 5), rational_polynomial (8) or equidistant (4)"
        )

    @property
    def focal_px(self) -> tuple[float, float]:
        """(fx, fy) in px."""
        return (self.params[0], self.params[_FOCALS[self.model] - 1])

    @property
    def principal_point_px(self) -> tuple[float, float]:
        """(cx, cy) in px, (0.5, 0.5) convention."""
        i = _FOCALS[self.model]
        return (self.params[i], self.params[i + 1])

    @property
    def distortion(self) -> tuple[float, ...]:
        """The parameters behind focal lengths and principal point."""
        return self.params[_FOCALS[self.model] + 2 :]

    @property
    def matrix(self) -> Array:
        """K (3, 3) in the (0.5, 0.5) convention."""
        (fx, fy), (cx, cy) = self.focal_px, self.principal_point_px
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])

    def to_ros(self) -> tuple[Array, str, list[float]]:
        """(K (3, 3) with the first pixel's centre at (0, 0), distortion_model, d) as sensor_msgs/CameraInfo wants them.

        Raises:
            GeometryError: the model has no ROS name.
        """
        k = self.matrix
        k[:2, 2] -= 0.5
        dist = list(self.distortion)
        if self.model in ("SIMPLE_PINHOLE", "PINHOLE"):
            return k, "plumb_bob", [0.0] * 5
        if self.model in ("SIMPLE_RADIAL", "RADIAL"):
            return k, "plumb_bob", [*dist, 0.0][:2] + [0.0] * 3
        if self.model == "OPENCV":
            return k, "plumb_bob", [*dist, 0.0]
        if self.model == "FULL_OPENCV":
            return k, "rational_polynomial", dist
        if self.model == "OPENCV_FISHEYE":
            return k, "equidistant", dist
        raise GeometryError(f"camera model {self.model} has no counterpart in sensor_msgs/CameraInfo; use OPENCV_FISHEYE")

    def to_colmap(self) -> Any:
        """The `pycolmap.Camera` of this camera (a new one: theirs is mutable)."""
        return pycolmap.Camera(model=self.model, width=self.width, height=self.height, params=list(self.params))

    def project(self, points_in_camera_m: ArrayLike) -> Array:
        """(N, 3) m in the optical frame -> (N, 2) px; NaN for points behind the camera."""
        points = np.asarray(points_in_camera_m, dtype=np.float64).reshape(-1, 3)
        pixels = np.full((len(points), 2), np.nan)
        front = points[:, 2] > 1e-9
        if front.any():
            pixels[front] = _colmap_camera(self).img_from_cam(points[front])
        return pixels

    def unproject(self, pixels: ArrayLike) -> Array:
        """(N, 2) px -> (N, 2) normalized coordinates (x/z, y/z); NaN where the model can't be inverted."""
        px = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        return np.asarray(_colmap_camera(self).cam_from_img(px), dtype=np.float64).reshape(-1, 2)

    def rays(self, pixels: ArrayLike) -> Array:
        """(N, 2) px -> (N, 3) unit directions in the optical frame."""
        xy = self.unproject(pixels)
        directions = np.column_stack([xy, np.ones(len(xy))])
        return directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def contains(self, pixels: ArrayLike) -> NDArray[np.bool_]:
        """(N,) True where (N, 2) px lie in the image."""
        px = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        with np.errstate(invalid="ignore"):
            return (px >= 0).all(axis=1) & (px[:, 0] < self.width) & (px[:, 1] < self.height)

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the image resized to width x height; in the (0.5, 0.5) convention every length just scales."""
        sx, sy = width / self.width, height / self.height
        (fx, fy), (cx, cy) = self.focal_px, self.principal_point_px
        model, n = self.model, _FOCALS[self.model]
        if n == 1 and abs(sx - sy) > 1e-3 * sx:
            raise GeometryError(f"{model} has one focal length and can't be stretched from {self.width}x{self.height} to {width}x{height}")
        focals = (fx * sx, fy * sy)[:n]
        return Camera(model, width, height, (*focals, cx * sx, cy * sy, *self.distortion))

    def cropped(self, x0: int, y0: int, width: int, height: int) -> Camera:
        """The camera of the window of width x height px whose first pixel is (x0, y0)."""
        (cx, cy), n = self.principal_point_px, _FOCALS[self.model]
        return Camera(self.model, width, height, (*self.params[:n], cx - x0, cy - y0, *self.distortion))

    def with_two_focals(self) -> Camera:
        """The same camera in a model with fx and fy, which `resized` can stretch."""
        model = _WITH_TWO_FOCALS.get(self.model, self.model)
        missing = _NUM_PARAMS[model] - 4 - len(self.distortion)
        return Camera(model, self.width, self.height, (*self.focal_px, *self.principal_point_px, *self.distortion, *(0.0,) * missing))

    def undistorted(self) -> Camera:
        """The PINHOLE camera with the same size, focal lengths and principal point."""
        return Camera("PINHOLE", self.width, self.height, self.focal_px + self.principal_point_px)


@lru_cache(maxsize=32)
def _colmap_camera(camera: Camera) -> Any:
    return camera.to_colmap()
