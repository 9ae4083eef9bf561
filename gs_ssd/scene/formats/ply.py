"""The .ply layout of the original 3D Gaussian Splatting code, SH degree 0 to 3.

One `vertex` row per Gaussian: x y z nx ny nz f_dc_0..2 f_rest_0..3(K-1)-1 opacity scale_0..2 rot_0..3, all
float32 and unactivated. `f_rest` is channel-major: all red coefficients, then all green, then all blue.

Files of another layout (more columns, another order, comments, more elements) keep it through load and save, see
`gs_ssd.scene.extra`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement

from gs_ssd.errors import UserError
from gs_ssd.scene.extra import Extra, is_antialiased, tagged
from gs_ssd.scene.formats.header import PlyHeader, read_header
from gs_ssd.scene.gaussians import Gaussians

_POSITION = ("x", "y", "z")
_NORMAL = ("nx", "ny", "nz")
_COLOUR = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_REQUIRED = (*_POSITION, *_COLOUR, "opacity", *_SCALE, *_ROTATION)
_REST_COUNTS = {0: 0, 9: 3, 24: 8, 45: 15}  # number of f_rest properties -> K-1
_BLOCK = 1 << 14  # rows gathered at a time, so that they stay in the cache over all columns


def read(path: Path) -> Gaussians:
    """Read a .ply in any byte order or as text, properties in any order."""
    header = read_header(path)
    names = header.names("vertex")
    _check_properties(names, header.names("face"), path)
    if any("list" in element.types.values() and element.count for element in header.elements.values()):
        raise UserError(f"{path}: has list properties, which a Gaussian .ply never has; export it again")

    parsed = _parsed(path, header)
    vertex = parsed["vertex"].data

    def columns(*wanted: str) -> torch.Tensor:
        return torch.from_numpy(_table(vertex, wanted))

    n, rest = len(vertex), _rest_names(sum(name.startswith("f_rest_") for name in names))
    return Gaussians(
        means=columns(*_POSITION),
        scales=columns(*_SCALE),
        quats=columns(*_ROTATION),
        opacities=columns("opacity")[:, 0],
        sh0=columns(*_COLOUR)[:, None],
        shN=columns(*rest).reshape(n, 3, len(rest) // 3).transpose(1, 2).contiguous(),
        antialiased=is_antialiased(header.comments),
        extra=_extra(parsed, header),
    )


def write(gaussians: Gaussians, path: Path) -> None:
    """Write binary little-endian: the file's own layout where it has one, else the original code's.

    The latter is float32 without header comments, the form every viewer opens.
    """
    rest = gaussians.shN.transpose(1, 2).reshape(len(gaussians), 3 * gaussians.shN.shape[1])
    columns = [
        gaussians.means,
        torch.zeros_like(gaussians.means),
        gaussians.sh0[:, 0],
        rest,
        gaussians.opacities[:, None],
        gaussians.scales,
        gaussians.quats,
    ]
    table = torch.cat(columns, dim=1).float().numpy()
    names = _standard(rest.shape[1])
    rows = np.ascontiguousarray(table, dtype="<f4").view([(name, "<f4") for name in names])[:, 0]
    before: list[PlyElement] = []
    after: list[PlyElement] = []
    if gaussians.extra is not None:
        rows = _laid_out(rows, gaussians.extra)
        before = [PlyElement.describe(array, name) for name, array in gaussians.extra.before]
        after = [PlyElement.describe(array, name) for name, array in gaussians.extra.after]
    elements = [*before, PlyElement.describe(rows, "vertex"), *after]
    lines = PlyData(elements, byte_order="<").header.split("\n")
    lines[2:2] = tagged(gaussians.extra.header if gaussians.extra else (), gaussians.antialiased)
    with path.open("wb") as file:  # plyfile's own writer refuses comments beyond ASCII
        file.write("\n".join([*lines, ""]).encode("latin-1"))
        for element in elements:
            np.ascontiguousarray(element.data).tofile(file)


def unknown(extra: Extra) -> list[str]:
    """The columns of `extra` that mean something to others: all but the six tensors' and empty normals."""
    names = [name for name in extra.names if name not in _REQUIRED and not name.startswith("f_rest_")]
    return [name for name in names if name not in _NORMAL or extra.column(name).any()]


def _standard(num_rest: int) -> tuple[str, ...]:
    """The properties of the original layout, in order."""
    return (*_POSITION, *_NORMAL, *_COLOUR, *_rest_names(num_rest), "opacity", *_SCALE, *_ROTATION)


def _parsed(path: Path, header: PlyHeader) -> PlyData:
    """The file as plyfile reads it; it refuses comments beyond ASCII, so it gets those files without comments."""
    if all(line.isascii() for line in header.comments):
        return PlyData.read(str(path))
    data = path.read_bytes()
    lines = data[: header.offset].split(b"\n")
    plain = b"\n".join(line for line in lines if line.split()[:1] not in ([b"comment"], [b"obj_info"]))
    return PlyData.read(io.BytesIO(plain + data[header.offset :]))


def _extra(parsed: PlyData, header: PlyHeader) -> Extra | None:
    """What the six tensors don't hold; None for a file of the original layout and nothing else."""
    vertex = parsed["vertex"].data
    types = {name: vertex.dtype[name].newbyteorder("<").str for name in vertex.dtype.names}
    num_rest = sum(name.startswith("f_rest_") for name in types)
    standard = _standard(num_rest)
    known = {*standard} - {*_NORMAL}
    kept = [(name, kind) for name, kind in types.items() if name not in known or kind != "<f4"]
    others = [
        (element.name, _little(element.data)) for element in parsed.elements if element.name != "vertex"
    ]
    plain = tuple(types) == standard and {*types.values()} == {"<f4"} and not others and not header.comments
    if plain and not any(vertex[name].any() for name in _NORMAL):
        return None
    rows = np.empty(len(vertex), dtype=kept)
    width = rows.dtype.itemsize
    for name, _ in kept:
        rows[name] = vertex[name]
    place = [element.name for element in parsed.elements].index("vertex")
    return Extra(
        rows=torch.from_numpy(np.frombuffer(bytearray(rows.tobytes()), np.uint8).reshape(len(vertex), width)),
        columns=rows.dtype,
        properties=tuple(types.items()),
        header=header.comments,
        before=tuple(others[:place]),
        after=tuple(others[place:]),
    )


def _little(array: np.ndarray) -> np.ndarray:
    """A copy in little-endian byte order (plyfile maps the file)."""
    return array.astype(array.dtype.newbyteorder("<"))


def _laid_out(rows: np.ndarray, extra: Extra) -> np.ndarray:
    """The standard `rows` [N] in the layout of `extra`, its columns among them.

    A value that the file held in more precision is written as it was, unless it has changed.
    """
    if not extra.properties:
        return rows
    known = {name: rows[name] for name in rows.dtype.names or () if name not in _NORMAL}
    properties = {name: kind for name, kind in extra.properties if name in known or name in extra.names}
    properties |= {name: "<f4" for name in known if name not in properties}  # of another SH degree
    laid_out = np.empty(len(rows), dtype=list(properties.items()))
    for name in properties:
        if name not in known:
            laid_out[name] = extra.column(name)
        elif name in extra.names:
            exact = extra.column(name)
            same = exact.astype(np.float32) == known[name]
            laid_out[name] = np.where(same, exact, known[name].astype(exact.dtype))
        else:
            laid_out[name] = known[name]
    return laid_out


def _table(vertex: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The named properties as float32 [N, len(names)]."""
    table = np.empty((len(vertex), len(names)), dtype=np.float32)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which the validation handles
        for start in range(0, len(vertex), _BLOCK):
            for column, name in enumerate(names):
                table[start : start + _BLOCK, column] = vertex[name][start : start + _BLOCK]
    return table


def _rest_names(count: int) -> list[str]:
    return [f"f_rest_{i}" for i in range(count)]


def _check_properties(names: set[str], face_names: set[str], path: Path) -> None:
    if not names:
        raise UserError(f"{path}: has no vertex element, so no Gaussians")
    missing = [name for name in _REQUIRED if name not in names]
    if missing and names.isdisjoint({*_COLOUR, *_SCALE, *_ROTATION}):
        what = "a mesh" if face_names else "a point cloud"
        raise UserError(
            f"{path}: is {what}, not a 3D Gaussian Splatting scene (no {', '.join(missing[:3])}, ...); "
            "train a splat from it first, or choose the trainer's point_cloud.ply"
        )
    if missing:
        raise UserError(f"{path}: lacks the properties {', '.join(missing)} of a Gaussian .ply")
    rest = {name for name in names if name.startswith("f_rest_")}
    if len(rest) not in _REST_COUNTS or rest != set(_rest_names(len(rest))):
        raise UserError(
            f"{path}: {len(rest)} f_rest properties fit no SH degree; "
            "expected f_rest_0 onwards with 0, 9, 24 or 45 of them (degree 0 to 3)"
        )
