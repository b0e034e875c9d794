"""Bundle adjustment whose camera poses have 6-DoF priors, and which finds a constant error of the camera's mounting.

pycolmap's priors are positions only: on KITTI that lets rotations wander by 0.3 deg from the surveyed ones (docs/results.md). Here each
image has a prior of its whole pose, and one rotation shared by all of them, the mounting error between the surveyed body and the camera, is
estimated as well. Points are eliminated by the Schur complement, the rest is solved by sparse factorization (Triggs et al., "Bundle
Adjustment - A Modern Synthesis", section 6.1); robust weights by iterative reweighting (section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from ros2_loc.core.pose import Array, Pose, skew, so3_exp, so3_log

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class AdjustmentConfig:
    """Noise assumed of the given poses and of keypoints."""

    # The errors of surveyed trajectories are smooth over seconds; what counts here is the part in which neighbours differ,
    # which is millimetres for positions (tight priors keep the map from drifting away from the survey) and more for rotations.
    prior_sigma_m: float = 0.003  # of each given position, per axis
    prior_sigma_deg: float = 0.05  # of each given rotation, per axis
    mount_sigma_deg: float = 0.3  # of the shared mounting rotation; 0 trusts the given mounting
    robust_px: float = 1.0  # Cauchy scale of the reprojection error
    max_iterations: int = 20
    min_relative_decrease: float = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is adjusted.

    Attributes:
        camera_from_map: pose of each of C images.
        points_m: (N, 3) in the map.
        image_index, point_index: (M,) which image sees which point.
        rays: (M, 2) undistorted normalized image coordinates of each observation.
        focal_px: scale from normalized coordinates to pixels.
        prior: the given camera_from_map of each image, or None for images without one (at least one must have one).
    """

    camera_from_map: list[Pose]
    points_m: Array
    image_index: IntArray
    point_index: IntArray
    rays: Array
    focal_px: float
    prior: list[Pose | None]


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """The result: poses, points, the mounting rotation (camera_true_from_camera_given) and the costs before and after."""

    camera_from_map: list[Pose]
    points_m: Array
    mount_rotation: Array
    initial_cost: float
    final_cost: float
    iterations: int


def adjust(problem: Problem, config: AdjustmentConfig, on_iteration: Callable[[int, float], None] = lambda i, c: None) -> Adjusted:
    """Minimize robust reprojection errors plus priors by Levenberg-Marquardt."""
    state = _State.of(problem)
    cost = initial = _cost(problem, state, config)
    damping, iteration = 1e-4, 0
    for iteration in range(1, config.max_iterations + 1):
        candidate = state.moved(*_step(problem, state, config, damping))
        new_cost = _cost(problem, candidate, config)
        on_iteration(iteration, min(cost, new_cost))
        if new_cost >= cost:
            damping *= 10.0
            if damping > 1e6:
                break
            continue
        done = cost - new_cost < config.min_relative_decrease * cost
        state, cost, damping = candidate, new_cost, max(damping * 0.1, 1e-9)
        if done:
            break
    poses = [Pose.from_matrix(np.column_stack([r, t])) for r, t in zip(state.rotation, state.translation, strict=True)]
    return Adjusted(poses, state.points_m, so3_exp(state.mount_rad), initial, cost, iteration)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    rotation: Array  # (C, 3, 3)
    translation: Array  # (C, 3)
    points_m: Array  # (N, 3)
    mount_rad: Array  # (3,)

    @staticmethod
    def of(problem: Problem) -> _State:
        rotation = np.stack([p.rotation for p in problem.camera_from_map])
        translation = np.stack([p.translation for p in problem.camera_from_map])
        return _State(rotation, translation, problem.points_m.copy(), np.zeros(3))

    def moved(self, cameras: Array, points: Array, mount: Array) -> _State:
        turn = np.stack([so3_exp(w) for w in cameras[:, :3]])
        translation = np.einsum("cij,cj->ci", turn, self.translation) + cameras[:, 3:]
        return _State(turn @ self.rotation, translation, self.points_m + points, self.mount_rad + mount)


def _in_camera(problem: Problem, state: _State) -> Array:
    r, t = state.rotation[problem.image_index], state.translation[problem.image_index]
    return np.einsum("mij,mj->mi", r, state.points_m[problem.point_index]) + t


def _residuals_px(problem: Problem, in_camera: Array) -> Array:
    z = np.maximum(in_camera[:, 2:], 1e-3)
    return problem.focal_px * (in_camera[:, :2] / z - problem.rays)


def _prior_residuals(problem: Problem, state: _State, config: AdjustmentConfig) -> tuple[IntArray, Array]:
    """Images with a prior, and (K, 6) whitened residuals: rotation less the mount, then position of the camera in its own axes."""
    index = np.array([i for i, p in enumerate(problem.prior) if p is not None], dtype=np.int64)
    rows = []
    for i in index:
        given = problem.prior[i]
        assert given is not None
        turn = so3_log(state.rotation[i] @ given.rotation.T) - state.mount_rad
        position = state.rotation[i] @ given.inverse().translation + state.translation[i]  # the given centre seen from the camera
        rows.append(np.concatenate([turn / np.radians(config.prior_sigma_deg), position / config.prior_sigma_m]))
    return index, np.array(rows).reshape(-1, 6)


def _cost(problem: Problem, state: _State, config: AdjustmentConfig) -> float:
    squared = (_residuals_px(problem, _in_camera(problem, state)) ** 2).sum(1) / config.robust_px**2
    prior = (_prior_residuals(problem, state, config)[1] ** 2).sum()
    mount = (state.mount_rad**2).sum() / np.radians(max(config.mount_sigma_deg, 1e-9)) ** 2
    return float(config.robust_px**2 * np.log1p(squared).sum() + prior + mount)


def _jacobians(problem: Problem, state: _State, config: AdjustmentConfig) -> tuple[Array, Array, Array]:
    """Weighted residuals (M, 2), camera Jacobians (M, 2, 6) (rotation first, left perturbation) and point Jacobians (M, 2, 3)."""
    in_camera = _in_camera(problem, state)
    residual = _residuals_px(problem, in_camera)
    z = np.maximum(in_camera[:, 2], 1e-3)
    d_camera = np.zeros((len(z), 2, 3))
    d_camera[:, 0, 0] = d_camera[:, 1, 1] = problem.focal_px / z
    d_camera[:, :, 2] = -problem.focal_px * in_camera[:, :2] / z[:, None] ** 2
    j_cam = np.concatenate([-d_camera @ skew(in_camera), d_camera], axis=2)
    j_point = d_camera @ state.rotation[problem.image_index]
    weight = 1.0 / np.sqrt(1.0 + (residual**2).sum(1) / config.robust_px**2)
    return residual * weight[:, None], j_cam * weight[:, None, None], j_point * weight[:, None, None]


def _step(problem: Problem, state: _State, config: AdjustmentConfig, damping: float) -> tuple[Array, Array, Array]:
    """The Levenberg-Marquardt step of cameras (C, 6), points (N, 3) and mount (3,)."""
    num_images, num_points = len(problem.prior), len(problem.points_m)
    residual, j_cam, j_point = _jacobians(problem, state, config)
    v = np.zeros((num_points, 3, 3))
    np.add.at(v, problem.point_index, np.einsum("mki,mkj->mij", j_point, j_point))
    v += (damping * np.trace(v, axis1=1, axis2=2) / 3.0 + 1e-9)[:, None, None] * np.eye(3)
    v_inv = np.linalg.inv(v)
    g_point = np.zeros((num_points, 3))
    np.add.at(g_point, problem.point_index, np.einsum("mki,mk->mi", j_point, residual))

    big_c = _scatter(j_cam, problem.image_index, num_images)
    big_p = _scatter(j_point, problem.point_index, num_points)
    w = big_c.T @ big_p
    hessian = big_c.T @ big_c
    gradient = big_c.T @ residual.ravel()
    w_v = w @ _block_diagonal(v_inv)
    reduced = sparse.block_diag([hessian - w_v @ w.T, sparse.csr_matrix((3, 3))], format="csr")
    right = np.concatenate([gradient - w_v @ g_point.ravel(), np.zeros(3)])
    prior_hessian, prior_gradient = _prior_system(problem, state, config)
    reduced, right = reduced + prior_hessian, right + prior_gradient
    reduced = reduced + damping * sparse.diags(reduced.diagonal()) + 1e-9 * sparse.identity(reduced.shape[0])
    solution = splu(reduced.tocsc()).solve(-right)
    cameras = solution[:-3]
    points = -np.einsum("nij,nj->ni", v_inv, g_point + (w.T @ cameras).reshape(-1, 3))
    return cameras.reshape(-1, 6), points, solution[-3:]


def _prior_system(problem: Problem, state: _State, config: AdjustmentConfig) -> tuple[sparse.csr_matrix, Array]:
    """Hessian and gradient of the priors over [cameras, mount]."""
    size = 6 * len(problem.prior) + 3
    index, residual = _prior_residuals(problem, state, config)
    s_rot, s_pos = np.radians(config.prior_sigma_deg), config.prior_sigma_m
    scale = np.concatenate([np.full(3, 1.0 / s_rot), np.full(3, 1.0 / s_pos)])
    rows = np.arange(6 * len(index)).reshape(-1, 6)
    columns = 6 * index[:, None] + np.arange(6)
    j = sparse.csr_matrix((np.tile(scale, len(index)), (rows.ravel(), columns.ravel())), shape=(rows.size, size))
    mount_columns = np.tile(size - 3 + np.arange(3), len(index))
    j = j + sparse.csr_matrix((np.full(3 * len(index), -1.0 / s_rot), (rows[:, :3].ravel(), mount_columns)), shape=(rows.size, size))
    mount_weight = 1.0 / np.radians(max(config.mount_sigma_deg, 1e-9)) ** 2
    own = np.zeros(size)
    own[-3:] = mount_weight
    gradient = j.T @ residual.ravel()
    gradient[-3:] += mount_weight * state.mount_rad
    return (j.T @ j + sparse.diags(own)).tocsr(), gradient


def _scatter(blocks: Array, column: IntArray, num_columns: int) -> sparse.csr_matrix:
    """(M, 2, K) blocks, block m in block row m and block column column[m] -> (2M, K num_columns)."""
    m, _, k = blocks.shape
    indptr = np.arange(m + 1)
    return sparse.bsr_matrix((blocks, column, indptr), shape=(2 * m, k * num_columns)).tocsr()


def _block_diagonal(blocks: Array) -> sparse.csr_matrix:
    n, k, _ = blocks.shape
    return sparse.bsr_matrix((blocks, np.arange(n), np.arange(n + 1)), shape=(n * k, n * k)).tocsr()


@dataclass(frozen=True, slots=True, eq=False)
class Linearized:
    """Every observation at the optimum, robustly weighted: residual (M, 2) px, j_point (M, 2, 3), the indices of `Problem`;
    point_information (N, 3, 3) px^2/m^2, the sum of j^T j of each point; variance_px2, the residuals' variance."""

    image_index: IntArray
    point_index: IntArray
    residual: Array
    j_point: Array
    point_information: Array
    variance_px2: float

    @property
    def point_covariances(self) -> Array:
        """(N, 3, 3) m^2 of each point, its cameras taken as exact; a weak prior of 1 km keeps points at infinity finite."""
        return np.linalg.inv(self.point_information / self.variance_px2 + 1e-6 * np.eye(3))


def linearize(problem: Problem, config: AdjustmentConfig) -> Linearized:
    """Residuals and Jacobians at the problem's own poses and points."""
    state = _State.of(problem)
    residual, _, j_point = _jacobians(problem, state, config)
    information = np.zeros((len(problem.points_m), 3, 3))
    np.add.at(information, problem.point_index, np.einsum("mki,mkj->mij", j_point, j_point))
    redundancy = max(1, residual.size - problem.points_m.size - 6 * len(problem.prior))
    variance = max(float((residual**2).sum()) / redundancy, 0.05**2)
    return Linearized(problem.image_index, problem.point_index, residual, j_point, information, variance)


def reprojection_errors_px(problem: Problem) -> Array:
    """(M,) px of each observation at the problem's own poses and points."""
    return np.linalg.norm(_residuals_px(problem, _in_camera(problem, _State.of(problem))), axis=1)
