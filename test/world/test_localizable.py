"""The town is good for what it is made for: pictures of one drive find their pose in another, in another light and lane."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ros2_loc.core.pose import Pose, rotation_angle_rad
from ros2_loc.world.demo import DemoDrives, demo_drives, demo_town
from ros2_loc.world.recording import Recording


def _match(query: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mutual nearest RootSIFT pairs that pass the ratio test, (M, 2) px each."""
    sift = cv2.SIFT_create(2000)  # type: ignore[attr-defined]
    (kq, dq), (kr, dr) = (sift.detectAndCompute(image, None) for image in (query, reference))
    dq, dr = (np.sqrt(d / d.sum(axis=1, keepdims=True)) for d in (dq, dr))
    similarity = dq @ dr.T
    best, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
    second, first = np.sqrt(2 - 2 * np.clip(np.sort(similarity, axis=1)[:, -2:], 0, 1)).T
    good = (back[best] == np.arange(len(best))) & (first < 0.85 * second)
    return np.array([k.pt for k in kq])[good] + 0.5, np.array([kr[j].pt for j in best[good]]) + 0.5


def _locate(query: Recording, i: int, reference: Recording, j: int) -> tuple[Pose, int, int]:
    """map_from_base of the query's image i from the reference's image j and its depth; inliers; matches with depth."""
    view = reference.view(j)
    pq, pr = _match(query.view(i).rgb, view.rgb)
    depth = view.depth_m[pr[:, 1].astype(int), pr[:, 0].astype(int)].astype(float)
    pq, pr, depth = (a[np.isfinite(depth)] for a in (pq, pr, depth))
    points = np.column_stack([reference.camera.unproject(pr), np.ones(len(pr))]) * depth[:, None]
    map_from_camera = reference.drive.at(int(reference.stamps_ns[j])) @ reference.base_from_camera
    _, r, t, inliers = cv2.solvePnPRansac(
        map_from_camera.apply(points), pq, query.camera.matrix, None, reprojectionError=2.5, iterationsCount=2000, confidence=0.9999
    )
    if inliers is None:
        return Pose.identity(), 0, len(pq)
    camera_from_map = Pose.from_matrix(np.column_stack([cv2.Rodrigues(r)[0], t]))
    return camera_from_map.inverse() @ query.base_from_camera.inverse(), len(inliers), len(pq)


def _nearest(recording: Recording, pose: Pose) -> int:
    poses = [recording.drive.at(int(s)) for s in recording.stamps_ns]
    return int(
        np.argmin([np.linalg.norm(p.translation - pose.translation) + 10 * rotation_angle_rad(p.rotation.T @ pose.rotation) for p in poses])
    )


@pytest.fixture(scope="module")
def drives() -> DemoDrives:
    return demo_drives(demo_town(0))


def _before_the_way_around(drives: DemoDrives) -> int:
    """How many images of the second drive see streets of the first."""
    places = np.array([drives.localization.drive.at(int(s)).translation for s in drives.localization.stamps_ns])
    driven_m = np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))
    return int(np.searchsorted(driven_m, drives.around_m[0] - 20.0))


@pytest.mark.slow
def test_images_of_the_second_drive_are_located_to_centimetres(drives: DemoDrives) -> None:
    query, reference = drives.localization, drives.mapping
    errors = []
    for i in range(2, _before_the_way_around(drives), 5):
        truth = query.drive.at(int(query.stamps_ns[i]))
        pose, inliers, matches = _locate(query, i, reference, _nearest(reference, truth))
        assert inliers > 60 and inliers / matches > 0.5
        errors.append((np.linalg.norm(pose.translation - truth.translation), rotation_angle_rad(pose.rotation.T @ truth.rotation)))
    translation_m, rotation_rad = np.array(errors).T
    assert np.median(translation_m) < 0.03 and translation_m.max() < 0.10
    assert np.degrees(np.median(rotation_rad)) < 0.1 and np.degrees(rotation_rad.max()) < 0.3


@pytest.mark.slow
def test_places_can_be_told_apart(drives: DemoDrives) -> None:
    query, reference = drives.localization, drives.mapping
    i = _before_the_way_around(drives) // 2
    truth = query.drive.at(int(query.stamps_ns[i]))
    right = _nearest(reference, truth)
    wrong = [j for j in range(3, len(reference.stamps_ns), 14) if abs(j - right) > 8]
    positions = [reference.drive.at(int(reference.stamps_ns[j])).translation for j in wrong]
    assert min(np.linalg.norm(p - truth.translation) for p in positions) > 15
    found = _locate(query, i, reference, right)[1]
    assert all(_locate(query, i, reference, j)[1] < found / 4 for j in wrong)
