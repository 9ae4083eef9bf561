"""Camera, light, backgrounds and a forward splatter for oriented discs.

`FRAMING` is the orbit of every training image, and the one that edits should use.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from scripts.workshop.heads.geometry import Array, unit


@dataclass(frozen=True)
class Framing:
    """Orbit about a fixed target; lengths in decimetres (the scenes' unit), angles in degrees."""

    fov: float = 40.0  # vertical = horizontal field of view
    distance: float = 5.5
    target: tuple[float, float, float] = (0.0, -0.35, 0.0)  # y up, face along +z


FRAMING = Framing()
NEAR = 0.5  # dm
BLUR = 0.3  # px^2 added to every footprint, as in 3D Gaussian Splatting


@dataclass(frozen=True)
class Camera:
    """Rows of `rotation` are the image's right, down and forward axes; `eye` is the position; `focal` in pixels."""

    rotation: Array
    eye: Array
    focal: float
    size: int


def orbit(
    yaw: float, pitch: float, size: int, distance: float = FRAMING.distance, target=FRAMING.target
) -> Camera:
    """Camera at `yaw` (0 = front, positive = towards the figure's left) and `pitch` (positive = above), in degrees."""
    y, p = math.radians(yaw), math.radians(pitch)
    back = np.array([math.sin(y) * math.cos(p), math.sin(p), math.cos(y) * math.cos(p)])
    right = np.array([math.cos(y), 0.0, -math.sin(y)])
    rotation = np.stack([right, -np.cross(back, right), -back])
    focal = 0.5 * size / math.tan(math.radians(FRAMING.fov) / 2)
    return Camera(rotation, np.asarray(target) + distance * back, focal, size)


@njit(cache=True, fastmath=True)
def _composite(u, v, conic, reach, colour, opacity, order, background):
    h, w = background.shape[:2]
    image = np.zeros((h, w, 3), np.float32)
    light = np.ones((h, w), np.float32)
    for k in range(order.shape[0]):
        i = order[k]
        a, b, c = conic[i, 0], conic[i, 1], conic[i, 2]
        x0, x1 = max(0, math.ceil(u[i] - reach[i, 0])), min(w - 1, math.floor(u[i] + reach[i, 0]))
        y0, y1 = max(0, math.ceil(v[i] - reach[i, 1])), min(h - 1, math.floor(v[i] + reach[i, 1]))
        for y in range(y0, y1 + 1):
            dy = y - v[i]
            for x in range(x0, x1 + 1):
                t = light[y, x]
                if t < 2e-3:
                    continue
                dx = x - u[i]
                alpha = opacity[i] * math.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
                if alpha < 1 / 255:
                    continue
                for k3 in range(3):
                    image[y, x, k3] += alpha * t * colour[i, k3]
                light[y, x] = t * (1 - alpha)
    for y in range(h):
        for x in range(w):
            for k3 in range(3):
                image[y, x, k3] += light[y, x] * background[y, x, k3]
    return image


def splat(
    camera: Camera,
    position: Array,
    normal: Array,
    sigma: Array,
    colour: Array,
    background: Array,
    opacity: float = 0.93,
) -> Array:
    """Composite discs front to back over `background` [H, W, 3]; colours in [0, 1]; returns [H, W, 3].

    A disc of radius sigma and normal n has covariance sigma^2 (I - n n^T); with J the Jacobian of the projection its
    footprint is sigma^2 (J J^T - (J n)(J n)^T) plus the blur. Discs that face away are skipped.
    """
    ray = position - camera.eye
    q = ray @ camera.rotation.T
    facing = (ray * normal).sum(1) < 0.05
    index = np.nonzero(facing & (q[:, 2] > NEAR))[0]
    q, n, s2 = q[index], normal[index] @ camera.rotation.T, sigma[index] ** 2
    x, y, z = q.T
    f = camera.focal
    limit = 1.3 * camera.size / 2 / f  # as in 3D Gaussian Splatting: the Jacobian is no use far off the axis
    a, b = np.clip(x / z, -limit, limit), np.clip(y / z, -limit, limit)
    jn_u, jn_v = f / z * (n[:, 0] - a * n[:, 2]), f / z * (n[:, 1] - b * n[:, 2])
    flat = 0.98  # a little thickness keeps grazing discs from vanishing
    uu = s2 * ((f / z) ** 2 * (1 + a**2) - flat * jn_u**2) + BLUR
    vv = s2 * ((f / z) ** 2 * (1 + b**2) - flat * jn_v**2) + BLUR
    uv = s2 * ((f / z) ** 2 * a * b - flat * jn_u * jn_v)
    det = uu * vv - uv * uv
    conic = np.stack([vv / det, -uv / det, uu / det], 1)
    reach = 2.7 * np.sqrt(np.stack([uu, vv], 1))
    centre = camera.size / 2 - 0.5
    f32 = np.float32
    return _composite(
        (f * x / z + centre).astype(f32),
        (f * y / z + centre).astype(f32),
        conic.astype(f32),
        reach.astype(f32),
        colour[index].astype(f32),
        np.full(len(index), opacity, f32),
        np.argsort(z),
        background.astype(f32),
    )


@dataclass(frozen=True)
class Light:
    """Key light from `direction`, sky-to-ground ambient; all baked, so it stays with the figure in every view."""

    direction: Array
    key: float
    ambient: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Light":
        azimuth, height = rng.uniform(-1.0, 1.0), rng.uniform(0.2, 0.9)
        direction = np.array(
            [math.sin(azimuth) * math.cos(height), math.sin(height), math.cos(azimuth) * math.cos(height)]
        )
        ambient = rng.uniform(0.5, 0.66)
        return cls(direction, 1.06 - ambient, ambient)


def shade(albedo: Array, normal: Array, gloss: Array, light: Light) -> Array:
    """Bake light into colours [N, 3]: hemisphere ambient, Lambert key, Blinn highlight towards the front."""
    sky = 0.86 + 0.14 * normal[:, 1]
    key = light.key * np.clip(0.15 + 0.85 * (normal @ light.direction), 0, 1)
    half = unit(light.direction + np.array([0.0, 0.1, 1.0]))
    shine = gloss * np.clip(normal @ half, 0, 1) ** 24
    return np.clip(albedo * (light.ambient * sky + key)[:, None] + shine[:, None], 0, 1)


def background(rng: np.random.Generator, size: int) -> Array:
    """A plain or softly graded studio wall [size, size, 3]."""
    grey = rng.uniform(0.25, 0.92)
    tint = rng.normal(0, 0.03, 3) if rng.random() < 0.65 else rng.normal(0, 0.09, 3)
    base = np.clip(grey + tint, 0.05, 1)
    if rng.random() < 0.5:
        return np.broadcast_to(base, (size, size, 3)).copy()
    t = np.linspace(-1, 1, size)
    x, y = np.meshgrid(t, t)
    ramp = rng.uniform(-0.16, 0.16) * y - rng.uniform(0, 0.16) * (x**2 + y**2) / 2
    return np.clip(base * (1 + ramp[..., None]), 0, 1)
