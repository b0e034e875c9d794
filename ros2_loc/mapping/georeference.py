"""Where a map lies on the earth, and how long its metre is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ros2_loc.core.alignment import Similarity, align, align_yaw
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic
from ros2_loc.core.pose import Array, Pose
from ros2_loc.errors import GeometryError
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.mapping.sfm import Structure

MIN_FIXES = 5
MAX_GAP_NS = 200_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Georeference:
    """ENU origin and the map's frame in it; `metric` is False when nothing fixed the scale."""

    origin: GeoOrigin | None
    enu_from_map: Pose
    metric: bool

    @staticmethod
    def none(metric: bool = True) -> Georeference:
        """A map that does not know where on earth it is."""
        return Georeference(None, Pose.identity(), metric)


def positions_in_enu(sequence: ImageSequence) -> tuple[GeoOrigin, Array, Array] | None:
    """Origin (the first fix), images (K,) that have a fix within 0.2 s, and their ENU positions (K, 3); None with fewer than 5."""
    if len(sequence.fixes) < MIN_FIXES:
        return None
    first = sequence.fixes[0]
    origin = GeoOrigin(first.lat_deg, first.lon_deg, first.alt_m)
    stamps = np.array([f.stamp_ns for f in sequence.fixes], dtype=np.int64)
    enu = np.stack([enu_from_geodetic(origin, f.lat_deg, f.lon_deg, f.alt_m) for f in sequence.fixes])
    order = np.argsort(stamps, kind="stable")
    stamps, enu = stamps[order], enu[order]
    after = np.clip(np.searchsorted(stamps, sequence.stamps_ns), 1, len(stamps) - 1)
    near = (sequence.stamps_ns >= stamps[0]) & (sequence.stamps_ns <= stamps[-1]) & (stamps[after] - stamps[after - 1] <= 10 * MAX_GAP_NS)
    if near.sum() < MIN_FIXES:
        return None
    span = np.maximum(stamps[after] - stamps[after - 1], 1)
    fraction = ((sequence.stamps_ns - stamps[after - 1]) / span)[:, None]
    interpolated = (1.0 - fraction) * enu[after - 1] + fraction * enu[after]
    return origin, np.flatnonzero(near), interpolated[near]


def locate_posed_map(sequence: ImageSequence) -> Georeference:
    """For a map in the frame of its given poses: the rigid transform to ENU that fits the fixes, the frame itself unchanged."""
    found = positions_in_enu(sequence)
    if found is None:
        return Georeference.none()
    origin, images, enu = found
    # the antenna sits somewhere on the vehicle, and its height shows: without it the map would lie that much too high
    antenna = np.asarray(sequence.fixes[0].antenna_in_base_m)
    own = np.array([sequence.map_from_base[i].apply(antenna) for i in images])  # type: ignore[union-attr]
    try:
        return Georeference(origin, align_yaw(own, enu), True)
    except GeometryError:  # a vehicle that stood still: its heading is open
        return Georeference.none()


def place_free_structure(sequence: ImageSequence, structure: Structure) -> tuple[Georeference, Structure]:
    """For structure from motion: scale and frame from the fixes (then the map is ENU), else from odometry, else arbitrary."""
    centres = {int(i): pose.inverse().translation for i, pose in zip(structure.images, structure.camera_from_map, strict=True)}
    found = positions_in_enu(sequence)
    if found is not None:
        origin, images, enu = found
        common = [k for k, i in enumerate(images) if int(i) in centres]
        own = np.array([centres[int(images[k])] for k in common])
        fitted = _fit(enu[common], own)
        if fitted is not None:
            return Georeference(origin, Pose.identity(), True), _moved(structure, fitted)
    posed = [i for i in centres if sequence.odom_from_base[i] is not None]
    if len(posed) >= MIN_FIXES:
        own = np.array([centres[i] for i in posed])
        odom = np.array([(sequence.odom_from_base[i] @ sequence.base_from_camera).translation for i in posed])  # type: ignore[operator]
        fitted = _fit(odom, own)
        if fitted is not None:
            return Georeference.none(), _moved(structure, fitted)
    return Georeference.none(metric=False), structure


def _fit(target_m: Array, source_m: Array) -> Similarity | None:
    """Scale and frame of the structure; None where the way was straight or too short to fix them."""
    try:
        return align(source_m, target_m, with_scale=True)
    except GeometryError:
        return None


def _moved(structure: Structure, target_from_map: Similarity) -> Structure:
    poses = [target_from_map.apply_to_pose(pose.inverse()).inverse() for pose in structure.camera_from_map]
    return replace(structure, camera_from_map=poses, points_m=target_from_map.apply(structure.points_m))
