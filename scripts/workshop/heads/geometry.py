"""Busts as oriented discs (surfels) on a MakeHuman mesh.

Frame: x to the figure's left, y up, z out of the face; units decimetres; the origin is the centroid of the head.
Every disc keeps its *canonical* position, the place it has on the reference head, whatever the identity: paint is
written in canonical coordinates and follows the identity by itself.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Array = NDArray[np.floating]

BASIS = Path(__file__).with_name("head_basis.npz")
BOTTOM = -3.2  # dm: lower discs are out of the frame in every view
SHOULDER = np.array([1.62, -2.35, -0.35])  # joint of the figure's left arm
LABEL_BODY, LABEL_EYE_L, LABEL_EYE_R = 0, 1, 2


def smoothstep(a: float, b: float, x: Array) -> Array:
    """Hermite step from 0 at a to 1 at b (a > b steps down)."""
    t = np.clip((x - a) / (b - a), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def unit(v: Array) -> Array:
    """Rows scaled to length one."""
    return v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-12)


def lower_arms(vertices: Array) -> Array:
    """Turn the arms of the A-pose down about the shoulder joints: [V, 3] -> [V, 3]."""
    side = np.sign(vertices[:, 0])
    local = vertices * np.stack([side, np.ones_like(side), np.ones_like(side)], 1) - SHOULDER
    angle = -np.radians(42.0) * smoothstep(-0.35, 0.75, local[:, 0] - 0.45 * local[:, 1])
    c, s = np.cos(angle), np.sin(angle)
    turned = np.stack([c * local[:, 0] - s * local[:, 1], s * local[:, 0] + c * local[:, 1], local[:, 2]], 1)
    turned += SHOULDER
    turned[:, 0] *= side
    return turned


@dataclass(frozen=True)
class Template:
    """Discs of the reference bust and the blendshapes that move them.

    canonical [N, 3] place on the reference head; sigma [N] disc radius (standard deviation, dm); part [N] body or
    eye; corner [N, 3] and weight [N, 3] carry vertex quantities to discs; names and basis [K, V, 3] the blendshapes.
    """

    canonical: Array
    normal: Array
    sigma: Array
    part: NDArray[np.uint8]
    vertices: Array
    triangles: NDArray[np.int64]
    to_vertex: csr_matrix
    to_disc: csr_matrix
    names: tuple[str, ...]
    basis: Array

    def pose(self, weights: dict[str, float]) -> tuple[Array, Array]:
        """Blend an identity: `{blendshape: weight}` -> positions and normals of the discs, both [N, 3]."""
        w = np.zeros(len(self.names), np.float32)
        for name, value in weights.items():
            w[self.names.index(name)] = value
        vertices = lower_arms(self.vertices + np.tensordot(w, self.basis, 1))
        return self.to_disc @ vertices, unit(
            self.to_disc @ vertex_normals(vertices, self.triangles, self.to_vertex)
        )


def vertex_normals(vertices: Array, triangles: NDArray[np.int64], to_vertex: csr_matrix) -> Array:
    """Area-weighted normals [V, 3]."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return unit(to_vertex @ np.cross(b - a, c - a))


def spacing(canonical: Array) -> Array:
    """Wanted distance between discs (dm) at canonical places [M, 3]: fine on the face, coarse on the chest."""
    _, y, z = canonical.T
    face = smoothstep(0.15, 0.6, z) * smoothstep(-1.35, -1.15, y)
    head = smoothstep(-2.1, -1.6, y)
    return 0.075 - 0.04 * head - 0.0125 * face


@lru_cache(maxsize=4)
def load_template(detail: float = 1.0) -> Template:
    """Sample the discs; `detail` multiplies their number."""
    data = np.load(BASIS)
    vertices, triangles, part = data["vertices"], data["triangles"].astype(np.int64), data["part"]
    posed = lower_arms(vertices)
    corners = posed[triangles]
    keep = (corners[..., 1] > BOTTOM).all(1)
    area = 0.5 * np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    area *= np.where(part > 0, 3.0, 1.0) * keep  # eyeballs are small and matter
    centre = corners.mean(1)
    step = spacing(centre)
    count = area / step**2 * detail
    # Systematic sampling along a spatial order spreads the discs evenly over the small triangles.
    order = np.lexsort((centre[:, 0], centre[:, 2].round(1), centre[:, 1].round(1)))
    edges = np.cumsum(count[order])
    pick = order[np.searchsorted(edges, np.arange(int(edges[-1])) + 0.5)]
    r2 = np.arange(len(pick))[:, None] * np.array([0.7548776662, 0.5698402910]) % 1.0
    root = np.sqrt(r2[:, :1])
    bary = np.concatenate([1 - root, root * (1 - r2[:, 1:]), root * r2[:, 1:]], 1)
    rows = np.repeat(np.arange(len(pick)), 3)
    shape = (len(pick), len(vertices))
    to_disc = csr_matrix((bary.ravel().astype(np.float32), (rows, triangles[pick].ravel())), shape)
    flat = np.arange(triangles.size) // 3
    ones = np.ones(triangles.size, np.float32)
    to_vertex = csr_matrix((ones, (triangles.ravel(), flat)), (len(vertices), len(triangles)))
    normal = unit(to_disc @ vertex_normals(posed, triangles, to_vertex))
    sigma = step[pick] / np.sqrt(detail * np.where(part[pick] > 0, 3.0, 1.0)) * 0.85
    return Template(
        canonical=to_disc @ posed,
        normal=normal,
        sigma=sigma,
        part=part[pick],
        vertices=vertices,
        triangles=triangles,
        to_vertex=to_vertex,
        to_disc=to_disc,
        names=tuple(str(n) for n in data["names"]),
        basis=data["basis"].astype(np.float32),
    )
