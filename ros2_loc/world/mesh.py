"""Textured surfaces: each is a flat polygon of the map with an affine map from metres to texels of the atlas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.world.atlas import Atlas
from ros2_loc.world.canvas import Image, Pane

Vector = NDArray[np.float64]
Up = np.array([0.0, 0.0, 1.0])
THING, PLANT, LEAF = 0, 1, 2  # kinds of surfaces: of hedges and woods, of crowns, of all else


class Texture(NamedTuple):
    """A picture of the builder: its number, its resolution and its size in metres."""

    number: int
    px_per_m: float
    width_m: float
    height_m: float


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles of flat surfaces.

    Attributes:
        triangles_m: (T, 3, 3) float32 corners, map frame.
        surface: (T,) int32, the surface that the triangle belongs to.
        normals: (S, 3) float32 unit normals of the surfaces (either side).
        shading: (S, 3) float32 unit normals that the light sees; those of leaves are smoothed over the crown.
        texels: (S, 2, 4) float32: texel (x, y) of a map point p is texels @ (p, 1).
        px_per_m: (S,) float32 texels per metre on the surface.
        kind: (S,) uint8 of THING, PLANT, LEAF.
        car: (S,) int32 number of the parked car that the surface belongs to, from 1; 0 of all else.
    """

    triangles_m: NDArray[np.float32]
    surface: NDArray[np.int32]
    normals: NDArray[np.float32]
    shading: NDArray[np.float32]
    texels: NDArray[np.float32]
    px_per_m: NDArray[np.float32]
    kind: NDArray[np.uint8]
    car: NDArray[np.int32]

    def joined(self, other: Mesh) -> Mesh:
        """The surfaces of both, which share an atlas."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("normals", "shading", "texels", "px_per_m", "kind", "car"))
        surface = np.concatenate([self.surface, other.surface + np.int32(len(self.normals))])
        return Mesh(np.concatenate([self.triangles_m, other.triangles_m]), surface, *(np.concatenate(pair) for pair in pairs))


class _Picture(NamedTuple):
    image: Image
    panes: tuple[Pane, ...]
    plant: bool


class MeshBuilder:
    """Collects pictures and surfaces; `build` packs them."""

    def __init__(self, pictures: list[_Picture] | None = None) -> None:
        self._count = 0
        self._pictures: list[_Picture] = [] if pictures is None else pictures
        self._triangles: list[NDArray] = []
        self._surface: list[NDArray] = []
        self._normals: list[NDArray] = []
        self._shading: list[NDArray] = []
        self._texels: list[NDArray] = []
        self._density: list[float] = []
        self._picture_of: list[int] = []
        self._is_leaf: list[NDArray[np.bool_]] = []
        self._car: list[NDArray[np.int32]] = []
        self.number = 0  # of the car whose surfaces are being added

    def picture(self, image: Image, px_per_m: float, *, panes: Sequence[Pane] = (), plant: bool = False) -> Texture:
        """Adds a picture, with the panes of glass in it (m from its lower left corner); `plant`: of what is green in summer only."""
        height = image.shape[0] / px_per_m
        texels = [Pane(x0 * px_per_m, (height - y1) * px_per_m, x1 * px_per_m, (height - y0) * px_per_m, n) for x0, y0, x1, y1, n in panes]
        self._pictures.append(_Picture(image, tuple(texels), plant))
        return Texture(len(self._pictures) - 1, px_per_m, image.shape[1] / px_per_m, image.shape[0] / px_per_m)

    def polygon(
        self,
        corners_m: ArrayLike,
        texture: Texture,
        *,
        along: ArrayLike | None = None,
        start: ArrayLike | None = None,
        offset_m: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """A flat convex polygon.

        Args:
            corners_m: (K, 3), first two corners along the picture's lower edge unless `along` is given.
            texture: its picture.
            along: direction of the picture's x axis; its y axis is normal to it in the surface, up or with the winding.
            start: the point that shows the picture's lower left corner; the first corner by default.
            offset_m: shift of that corner in the picture, (right, up).
        """
        p = np.asarray(corners_m, np.float64)
        normal = _unit(_cross(p[1] - p[0], p[2] - p[0]))
        right = _unit(p[1] - p[0] if along is None else np.asarray(along, np.float64))
        up = _cross(normal, right)
        origin = p[0] if start is None else np.asarray(start, np.float64)
        axes = np.stack([right, -up]) * texture.px_per_m
        corner = np.array([offset_m[0], texture.height_m - offset_m[1]]) * texture.px_per_m
        fan = np.array([[p[0], p[k], p[k + 1]] for k in range(1, len(p) - 1)])
        texels = np.column_stack([axes, corner - axes @ origin])
        self._add(fan, np.zeros(len(fan), np.int32), normal[None], normal[None], texels[None], texture)

    def wall(
        self, a: ArrayLike, b: ArrayLike, bottom_m: float, top_m: float, texture: Texture, offset_m: tuple[float, float] = (0, 0)
    ) -> None:
        """An upright rectangle from a to b (map x, y), seen from the side that has a on the left."""
        a3, b3 = (np.append(np.asarray(q, np.float64)[:2], bottom_m) for q in (a, b))
        rise = Up * (top_m - bottom_m)
        self.polygon([a3, b3, b3 + rise, a3 + rise], texture, offset_m=offset_m)

    def box(
        self, centre: ArrayLike, forward: ArrayLike, size_m: tuple[float, float, float], textures: Sequence[Texture], bottom_m: float = 0.0
    ) -> None:
        """A box on the ground: size (length along forward, width, height), textures (sides, ends, top)."""
        f = _unit(np.asarray(forward, np.float64)[:2])
        left = np.array([-f[1], f[0]])
        c, (length, width, height) = np.asarray(centre, np.float64)[:2], size_m
        ring = [c + sx * f * length / 2 + sy * left * width / 2 for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        for k in range(4):
            self.wall(ring[k], ring[(k + 1) % 4], bottom_m, bottom_m + height, textures[k % 2])
        self.polygon([np.append(q, bottom_m + height) for q in ring], textures[2])

    def plan(self, ring_m: Iterable[ArrayLike], z_m: float, texture: Texture, origin_m: ArrayLike) -> None:
        """A level polygon under a picture that is a map: north up, its lower left corner at origin_m (x, y)."""
        ring = np.array([[*np.asarray(q)[:2], z_m] for q in ring_m])
        self.polygon(ring, texture, along=[1, 0, 0], start=[*np.asarray(origin_m)[:2], z_m])

    def scatter(self, triangles_m: NDArray, texture: Texture, shading: NDArray, rng: np.random.Generator) -> None:
        """Single triangles (N, 3, 3), each with a random window of the picture (leaves); shading (N, 3) unit normals."""
        p, n = np.asarray(triangles_m, np.float64), len(triangles_m)
        right, other = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
        normal = np.cross(right, other)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        right = right / np.linalg.norm(right, axis=1, keepdims=True)
        axes = np.stack([right, -np.cross(normal, right)], axis=1) * texture.px_per_m
        span = np.linalg.norm(p - p[:, :1], axis=2).max()
        window = rng.uniform(span, np.maximum([texture.width_m - span, texture.height_m - span], span + 1e-6), (n, 2)) * texture.px_per_m
        shift = window - np.einsum("nij,nj->ni", axes, p[:, 0])
        self._add(p, np.arange(n), normal, np.asarray(shading), np.concatenate([axes, shift[:, :, None]], axis=2), texture, leaf=True)

    def part(self) -> MeshBuilder:
        """An empty builder with the same pictures, for a thing that is to be placed many times."""
        return MeshBuilder(self._pictures)

    def place(self, part: MeshBuilder, at_m: ArrayLike, yaw_rad: ArrayLike, scale: ArrayLike = 1.0, cars: ArrayLike = 0) -> None:
        """Copies of a part's surfaces: turned by yaw (N,) about its z axis, scaled (N,), its origin moved to at_m (N, 3).

        `cars` are the numbers of the parked cars that they are, 0 of none.
        """
        at = np.asarray(at_m, np.float64).reshape(-1, 3)
        yaw, size = (np.broadcast_to(np.asarray(v, np.float64), len(at)) for v in (yaw_rad, scale))
        turn = np.zeros((len(at), 3, 3))
        turn[:, 0, 0] = turn[:, 1, 1] = np.cos(yaw)
        turn[:, 1, 0], turn[:, 0, 1], turn[:, 2, 2] = np.sin(yaw), -np.sin(yaw), 1.0
        triangles, normals, shading, texels = (np.concatenate(a) for a in (part._triangles, part._normals, part._shading, part._texels))
        placed = np.einsum("nij,tkj->ntki", turn * size[:, None, None], triangles) + at[:, None, None]
        axes = np.einsum("sij,nkj->nsik", texels[:, :, :3], turn) / size[:, None, None, None]
        shift = texels[None, :, :, 3] - np.einsum("nsij,nj->nsi", axes, at)
        surface = np.concatenate(part._surface)[None] + np.arange(len(at))[:, None] * part._count
        self._triangles.append(placed.reshape(-1, 3, 3))
        self._surface.append(surface.ravel() + self._count)
        self._normals.append(np.einsum("nij,sj->nsi", turn, normals).reshape(-1, 3))
        self._shading.append(np.einsum("nij,sj->nsi", turn, shading).reshape(-1, 3))
        self._texels.append(np.concatenate([axes, shift[..., None]], axis=3).reshape(-1, 2, 4))
        self._picture_of += part._picture_of * len(at)
        self._is_leaf += part._is_leaf * len(at)
        self._car.append(np.repeat(np.broadcast_to(np.asarray(cars, np.int32), len(at)), part._count))
        self._density += (np.array(part._density)[None] / size[:, None]).ravel().tolist()
        self._count += part._count * len(at)

    def build(self) -> tuple[Mesh, Atlas]:
        """The mesh and its atlas."""
        atlas, corners = self.pack()
        return self.mesh(corners), atlas

    def pack(self) -> tuple[Atlas, NDArray[np.float32]]:
        """The atlas of all pictures, and where in it each of them lies, (N, 2) texels."""
        return Atlas.pack([p.image for p in self._pictures], [p.panes for p in self._pictures])

    def mesh(self, corners: NDArray[np.float32]) -> Mesh:
        """The surfaces, given where in an atlas the pictures lie (N, 2)."""
        texels = np.concatenate(self._texels)
        texels[:, :, 3] += corners[self._picture_of]
        plant = np.array([p.plant for p in self._pictures])[self._picture_of]
        return Mesh(
            np.concatenate(self._triangles).astype(np.float32),
            np.concatenate(self._surface).astype(np.int32),
            np.concatenate(self._normals).astype(np.float32),
            np.concatenate(self._shading).astype(np.float32),
            texels.astype(np.float32),
            np.array(self._density, np.float32),
            np.where(np.concatenate(self._is_leaf), LEAF, np.where(plant, PLANT, THING)).astype(np.uint8),
            np.concatenate(self._car),
        )

    def _add(
        self,
        triangles: NDArray,
        surface: NDArray,
        normals: NDArray,
        shading: NDArray,
        texels: NDArray,
        texture: Texture,
        leaf: bool = False,
    ) -> None:
        self._triangles.append(triangles)
        self._surface.append(surface + self._count)
        self._normals.append(normals)
        self._shading.append(shading)
        self._texels.append(texels)
        self._picture_of += [texture.number] * len(normals)
        self._density += [texture.px_per_m] * len(normals)
        self._is_leaf.append(np.full(len(normals), leaf))
        self._car.append(np.full(len(normals), self.number, np.int32))
        self._count += len(normals)


def _unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)


def _cross(a: Vector, b: Vector) -> Vector:
    """np.cross of two (3,) vectors, twenty times as fast."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
