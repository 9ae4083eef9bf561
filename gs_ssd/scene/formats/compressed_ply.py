"""SuperSplat's compressed .ply: chunks of 256 Gaussians, 16 bytes each and one more per SH coefficient.

    chunk   18 float: bounds of the positions, log scales and colours of 256 Gaussians in a row
    vertex  4 uint: position 11-10-11 bits, rotation 2-10-10-10, log scale 11-10-11, colour and opacity 8-8-8-8
    sh      uchar per coefficient, channel-major, from -4 to 4

Positions, scales and colours (degree 0, as rgb) are shares of their chunk's bounds. A rotation names its largest
component and lists the other three, each within ±√½.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene.extra import Extra, is_antialiased, tagged
from gs_ssd.scene.formats.header import PlyHeader, read_header
from gs_ssd.scene.gaussians import SH_C0, Gaussians

_AXES = (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
_BOUNDS = [f"{side}_{axis}" for axes in _AXES for side in ("min", "max") for axis in axes]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_CHUNK = 256
_LARGEST_LOG_SCALE = 20.0  # the format's own limit
_OPAQUE = 1e-6  # an opacity's distance from 0 and 1, where the logit is infinite


def read(path: Path) -> Gaussians:
    """Read a compressed .ply whose chunks hold colour bounds (SuperSplat 1.0 and later)."""
    header = read_header(path)
    _check_layout(header, path)
    counts = {name: element.count for name, element in header.elements.items()}
    n, num_sh = counts["vertex"], len(header.elements["sh"].types) if "sh" in counts else 0
    offset = header.offset
    tables = []
    for kind, rows, width in (
        ("<f4", counts["chunk"], 18),
        ("<u4", n, 4),
        ("u1", n if num_sh else 0, num_sh),
    ):
        tables.append(np.fromfile(path, kind, rows * width, offset=offset).reshape(rows, width))
        offset += tables[-1].nbytes
    chunks, packed, sh = tables
    chunk_of = np.arange(n) // _CHUNK

    def between(values: np.ndarray, first: int) -> torch.Tensor:
        low, high = chunks[chunk_of, first : first + 3], chunks[chunk_of, first + 3 : first + 6]
        return torch.from_numpy(low + values * (high - low))

    colour = _unpacked(packed[:, 3], (8, 8, 8, 8))
    alpha = torch.from_numpy(colour[:, 3]).clamp(_OPAQUE, 1 - _OPAQUE)
    return Gaussians(
        means=between(_unpacked(packed[:, 0], (11, 10, 11)), 0),
        scales=between(_unpacked(packed[:, 2], (11, 10, 11)), 6),
        quats=torch.from_numpy(_unpacked_rotation(packed[:, 1])),
        opacities=alpha.logit(),
        sh0=((between(colour[:, :3], 12) - 0.5) / SH_C0)[:, None],
        shN=_unpacked_sh(sh, n),
        antialiased=is_antialiased(header.comments),
        extra=_comments(header, n),
    )


def write(gaussians: Gaussians, path: Path) -> None:
    """Write a compressed .ply in the Gaussians' own order, its comments kept."""
    n = len(gaussians)
    rgb = 0.5 + SH_C0 * gaussians.sh0[:, 0].float().numpy()
    limited = gaussians.scales.float().numpy().clip(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE)
    starts = np.arange(0, n, _CHUNK)
    bounds, shares = [], []
    for values in (gaussians.means.float().numpy(), limited, rgb):
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        bounds += [low, high]
        low, high = (np.repeat(bound, _CHUNK, axis=0)[:n] for bound in (low, high))
        shares.append((values - low) / np.maximum(high - low, 1e-30))
    alpha = gaussians.opacities.float().sigmoid()[:, None].numpy()
    packed = np.stack(
        [
            _packed(shares[0], (11, 10, 11)),
            _packed_rotation(gaussians.quats.float().numpy()),
            _packed(shares[1], (11, 10, 11)),
            _packed(np.concatenate([shares[2], alpha], axis=1), (8, 8, 8, 8)),
        ],
        axis=1,
    )
    sh = gaussians.shN.float().transpose(1, 2).reshape(n, 3 * gaussians.shN.shape[1]).numpy()
    elements = [("chunk", len(starts), "float", _BOUNDS), ("vertex", n, "uint", _PACKED)]
    if sh.shape[1]:
        elements.append(("sh", n, "uchar", [f"f_rest_{i}" for i in range(sh.shape[1])]))
    header = tagged(gaussians.extra.header if gaussians.extra else (), gaussians.antialiased)
    lines = ["ply", "format binary_little_endian 1.0", *header]
    for name, count, kind, properties in elements:
        lines += [f"element {name} {count}", *(f"property {kind} {p}" for p in properties)]
    with path.open("wb") as file:
        file.write("\n".join([*lines, "end_header", ""]).encode("latin-1"))
        np.concatenate(bounds, axis=1).astype("<f4").tofile(file)
        packed.astype("<u4").tofile(file)
        np.floor((sh / 8 + 0.5) * 256).clip(0, 255).astype("u1").tofile(file)


def is_compressed(header: PlyHeader) -> bool:
    """Whether the header is a compressed .ply's, whatever the file is called."""
    return "chunk" in header.elements or "packed_position" in header.names("vertex")


def _unpacked(words: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Shares in [0, 1], [N, len(bits)] float32, from the highest bits down."""
    shifts = [sum(bits[i + 1 :]) for i in range(len(bits))]
    parts = [(words >> shift & ((1 << width) - 1)) / ((1 << width) - 1) for shift, width in zip(shifts, bits)]
    return np.stack(parts, axis=1).astype(np.float32)


def _packed(shares: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """[N] uint32 from shares [N, len(bits)]."""
    words = np.zeros(len(shares), dtype=np.uint32)
    for column, width in enumerate(bits):
        most = (1 << width) - 1
        part = np.floor(shares[:, column].astype(np.float64) * most + 0.5).clip(0, most).astype(np.uint32)
        words = words << np.uint32(width) | part
    return words


def _unpacked_rotation(words: np.ndarray) -> np.ndarray:
    """Quaternions [N, 4] wxyz."""
    others = (_unpacked(words & ((1 << 30) - 1), (10, 10, 10)) - 0.5) * np.float32(np.sqrt(2))
    largest = (words >> 30).astype(np.int64)
    quats = np.empty((len(words), 4), dtype=np.float32)
    columns = np.array([[c for c in range(4) if c != i] for i in range(4)])[largest]
    np.put_along_axis(quats, columns, others, axis=1)
    rest = np.sqrt(np.maximum(1 - np.square(others).sum(axis=1, keepdims=True), 0))
    np.put_along_axis(quats, largest[:, None], rest, axis=1)
    return quats


def _packed_rotation(quats: np.ndarray) -> np.ndarray:
    """[N] uint32 from quaternions [N, 4] wxyz of any length."""
    quats = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-30)
    largest = np.abs(quats).argmax(axis=1)
    quats = quats * np.where(np.take_along_axis(quats, largest[:, None], axis=1) < 0, -1, 1)
    columns = np.array([[c for c in range(4) if c != i] for i in range(4)])[largest]
    others = np.take_along_axis(quats, columns, axis=1) / np.sqrt(2) + 0.5
    return largest.astype(np.uint32) << np.uint32(30) | _packed(others, (10, 10, 10))


def _unpacked_sh(sh: np.ndarray, n: int) -> torch.Tensor:
    """[N, K-1, 3] from bytes [N, 3(K-1)]; the two extreme bytes are the ends of the range, others cell centres."""
    if not sh.shape[1]:
        return torch.zeros(n, 0, 3)
    shares = np.where(sh == 0, 0, np.where(sh == 255, 1, (sh + np.float32(0.5)) / 256)).astype(np.float32)
    return torch.from_numpy((shares - 0.5) * 8).reshape(n, 3, -1).transpose(1, 2).contiguous()


def _comments(header: PlyHeader, n: int) -> Extra | None:
    if not header.comments:
        return None
    return Extra(torch.zeros(n, 0, dtype=torch.uint8), np.dtype([]), (), header.comments)


def _check_layout(header: PlyHeader, path: Path) -> None:
    layout = [(name, list(element.types)) for name, element in header.elements.items()]
    if header.text or layout[:2] != [("chunk", _BOUNDS), ("vertex", _PACKED)]:
        raise UserError(f"{path}: an unknown compressed .ply layout; save it again from a current SuperSplat")
    chunks, vertices = header.elements["chunk"], header.elements["vertex"]
    sh = header.elements.get("sh")
    kinds = {*chunks.types.values()}, {*vertices.types.values()}, {*sh.types.values()} if sh else {"uchar"}
    if header.big_endian or not (
        kinds[0] <= {"float", "float32"} and kinds[1] <= {"uint", "uint32"} and kinds[2] <= {"uchar", "uint8"}
    ):
        raise UserError(f"{path}: the compressed .ply has unexpected property types; save it again")
    if sh and (len(sh.types) not in (9, 24, 45) or sh.count != vertices.count or layout[2][0] != "sh"):
        raise UserError(
            f"{path}: {len(sh.types)} SH bytes for {sh.count} of {vertices.count} Gaussians fit no degree"
        )
    if vertices.count == 0:
        raise UserError(f"{path}: holds no Gaussians")
    if chunks.count * _CHUNK < vertices.count:
        raise UserError(
            f"{path}: {chunks.count} chunks are too few for {vertices.count} Gaussians; save it again"
        )
