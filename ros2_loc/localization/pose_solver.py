"""From 2D-3D matches to a pose whose covariance can be trusted, or to a reason why there is none.

RANSAC with P3P and local optimization is PoseLib's. The refinement is ours because each match weighs by what is known of it: the keypoint's
scale and the covariance of its map point (Hartley and Zisserman, "Multiple View Geometry", section 5.2). The covariance is the inverse of
the information at the optimum, scaled by the residuals' variance where these are larger than assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import poselib
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Array, Pose, skew
from ros2_loc.core.types import RejectionReason

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Correspondences:
    """2D-3D matches, best first: pixels (M, 2), scales (M,) px, points_m (M, 3), point_covariances (M, 3, 3) m^2."""

    pixels: Array
    scales: Array
    points_m: Array
    point_covariances: Array

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, which: NDArray) -> Correspondences:
        """Those at these indices or under this mask."""
        return Correspondences(self.pixels[which], self.scales[which], self.points_m[which], self.point_covariances[which])


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A pose with evidence.

    Attributes:
        map_from_camera: pose of the optical frame.
        covariance: (6, 6) of map_from_camera in ROS order, map axes; keypoint and point noise only, not what all points have in common.
        inliers: (M,) bool.
        residuals_px: (M,) reprojection errors.
    """

    map_from_camera: Pose
    covariance: Array
    inliers: BoolArray
    residuals_px: Array


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no pose."""

    reason: RejectionReason
    detail: str


class PoseSolver:
    """Caps the work, refuses weak evidence (see `Config`), never guesses."""

    @dataclass(frozen=True)
    class Config:
        """Gates and noise. With 4 true inliers in 100 a P3P RANSAC "succeeds" every time, with 10 and more it was never wrong."""

        max_error_px: float = 4.0
        max_matches: int = 1000
        max_trials: int = 3000
        min_matches: int = 15
        min_inliers: int = 15
        min_inlier_ratio: float = 0.12
        min_cells: int = 3  # of a 4 x 4 grid over the image that must hold an inlier
        keypoint_sigma_px: float = 0.3  # at the finest scale
        keypoint_sigma_per_scale: float = 0.05  # px more per px of the keypoint's scale
        robust_sigmas: float = 2.0  # Cauchy
        refine_iterations: int = 10

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def min_inliers(self) -> int:
        """Fewer correspondences are no evidence."""
        return self._config.min_inliers

    def solve(self, camera: Camera, matches: Correspondences) -> Solution | Failure:
        """Pose from scratch: RANSAC, refinement, gates."""
        config = self._config
        matches = matches.select(np.arange(min(len(matches), config.max_matches)))
        if len(matches) < config.min_matches:
            return Failure(RejectionReason.TOO_FEW_MATCHES, f"{len(matches)} matches, {config.min_matches} are needed")
        ideal = camera.undistorted()
        pixels = _ideal_pixels(camera, matches.pixels)
        pose, info = poselib.estimate_absolute_pose(
            pixels,
            matches.points_m,
            {"model": "PINHOLE", "width": ideal.width, "height": ideal.height, "params": list(ideal.params)},
            {"max_reproj_error": config.max_error_px, "max_iterations": config.max_trials, "progressive_sampling": True, "seed": 0},
            {"loss_type": "CAUCHY", "loss_scale": 1.0},
        )
        inliers = np.asarray(info["inliers"], dtype=bool)
        camera_from_map = np.column_stack([pose.R, pose.t])
        if inliers.sum() < config.min_inliers or not np.isfinite(camera_from_map).all():
            detail = f"{int(inliers.sum())} inliers of {len(matches)} matches, {config.min_inliers} are needed"
            return Failure(RejectionReason.TOO_FEW_INLIERS, detail)
        return self.refine(camera, matches, Pose.from_matrix(camera_from_map).inverse())

    def refine(self, camera: Camera, matches: Correspondences, map_from_camera: Pose) -> Solution | Failure:
        """Pose from a good start: weighted robust least squares, gates."""
        pixels = _ideal_pixels(camera, matches.pixels)
        pose = map_from_camera
        for _ in range(self._config.refine_iterations):
            residual, jacobian, variance = self._linearize(camera, pixels, matches, pose)
            step, _ = self._normal_equations(residual, jacobian, variance * self._variance_factor(residual, variance))
            pose = pose.perturbed(step)
            if not np.isfinite(step).all() or np.linalg.norm(step[:3]) > 100.0:
                return Failure(RejectionReason.SOLVER_FAILED, "the refinement diverged")
            if np.linalg.norm(step[:3]) < 1e-5 and np.linalg.norm(step[3:]) < 1e-6:
                break
        return self._judge(camera, pixels, matches, pose)

    def _judge(self, camera: Camera, pixels: Array, matches: Correspondences, pose: Pose) -> Solution | Failure:
        config = self._config
        residual, jacobian, variance = self._linearize(camera, pixels, matches, pose)
        error_px = np.linalg.norm(residual, axis=1)
        # a match whose point is uncertain may miss by more than max_error_px and still agree
        allowed = np.maximum(config.max_error_px, 3.0 * np.sqrt(np.maximum(variance[:, 0, 0], variance[:, 1, 1])))
        inliers = error_px < np.minimum(allowed, 3.0 * config.max_error_px)
        count, total = int(inliers.sum()), len(matches)
        if count < config.min_inliers:
            return Failure(RejectionReason.TOO_FEW_INLIERS, f"{count} inliers of {total} matches, {config.min_inliers} are needed")
        if count < config.min_inlier_ratio * total:
            return Failure(
                RejectionReason.LOW_INLIER_RATIO, f"{count} inliers of {total} matches, a share of {config.min_inlier_ratio:.2f} is needed"
            )
        cells = occupied_cells(matches.pixels[inliers], camera)
        if cells < config.min_cells:
            return Failure(RejectionReason.POOR_SPREAD, f"inliers in {cells} of 16 cells of the image, {config.min_cells} are needed")
        residual, jacobian, variance = residual[inliers], jacobian[inliers], variance[inliers]
        _, information = self._normal_equations(residual, jacobian, variance * self._variance_factor(residual, variance))
        if np.linalg.cond(information) > 1e14:
            return Failure(RejectionReason.SOLVER_FAILED, "the matches leave the pose undetermined")
        covariance = np.linalg.inv(information)
        return Solution(pose, 0.5 * (covariance + covariance.T), inliers, error_px)

    def _linearize(self, camera: Camera, pixels: Array, matches: Correspondences, pose: Pose) -> tuple[Array, Array, Array]:
        """Residuals (M, 2) px, Jacobians (M, 2, 6) of the projection in the ROS order of map_from_camera, variances (M, 2, 2) px^2."""
        arm = matches.points_m - pose.translation
        in_camera = arm @ pose.rotation
        z = np.where(in_camera[:, 2] > 0.05, in_camera[:, 2], np.inf)  # behind the camera: no influence
        (fx, fy), (cx, cy) = camera.focal_px, camera.principal_point_px
        focal = np.array([fx, fy])
        projected = focal * in_camera[:, :2] / z[:, None] + [cx, cy]
        residual = np.where(np.isfinite(z)[:, None], pixels - projected, 1e6)
        d_camera = np.zeros((len(z), 2, 3))
        d_camera[:, 0, 0], d_camera[:, 1, 1] = fx / z, fy / z
        d_camera[:, :, 2] = -focal * in_camera[:, :2] / np.where(np.isfinite(z), z**2, np.inf)[:, None]
        d_map = d_camera @ pose.rotation.T
        # x_camera = R' (X - t); t + dt and Exp(dtheta) R move it by R' (skew(X - t) dtheta - dt)
        jacobian = np.concatenate([-d_map, d_map @ skew(arm)], axis=2)
        sigma = self._config.keypoint_sigma_px + self._config.keypoint_sigma_per_scale * matches.scales
        variance = d_map @ matches.point_covariances @ d_map.transpose(0, 2, 1) + (sigma**2)[:, None, None] * np.eye(2)
        return residual, jacobian, variance

    def _normal_equations(self, residual: Array, jacobian: Array, variance: Array) -> tuple[Array, Array]:
        weight = np.linalg.inv(variance)
        squared = np.einsum("mi,mij,mj->m", residual, weight, residual)
        weight = weight / (1.0 + squared / (2.0 * self._config.robust_sigmas**2))[:, None, None]
        information = np.einsum("mia,mij,mjb->ab", jacobian, weight, jacobian)
        gradient = np.einsum("mia,mij,mj->a", jacobian, weight, residual)
        return np.linalg.solve(information + 1e-9 * np.eye(6), gradient), information

    def _variance_factor(self, residual: Array, variance: Array) -> float:
        """How much larger than assumed the residuals are, at least 1: robust, the median of chi-square with 2 degrees of freedom is 2 ln 2.

        Taken into the variances before the robust weights, which would else take noisy keypoints for outliers and count the noise twice.
        """
        near = np.linalg.norm(residual, axis=1) < self._config.max_error_px
        if near.sum() < 4:
            return 1.0
        squared = np.einsum("mi,mij,mj->m", residual[near], np.linalg.inv(variance[near]), residual[near])
        return max(1.0, float(np.median(squared)) / (2.0 * np.log(2.0)))


def occupied_cells(pixels: Array, camera: Camera, grid: int = 4) -> int:
    """How many of grid x grid cells of the image hold one of the (M, 2) pixels."""
    cell = np.clip(np.floor(pixels * grid / [camera.width, camera.height]), 0, grid - 1).astype(int)
    return len(np.unique(cell[:, 0] * grid + cell[:, 1]))


def _ideal_pixels(camera: Camera, pixels: Array) -> Array:
    """Pixels of the same camera without distortion."""
    (fx, fy), (cx, cy) = camera.focal_px, camera.principal_point_px
    if camera.model in ("PINHOLE", "SIMPLE_PINHOLE"):
        return np.asarray(pixels, dtype=np.float64)
    return camera.unproject(pixels) * [fx, fy] + [cx, cy]
