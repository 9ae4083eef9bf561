"""Niantic's .spz, versions 1 to 4: quantised columns, about a tenth of a .ply.

    header  magic NGSP, u32 version, u32 count, u8 SH degree, u8 fractional bits f, u8 flags (1: antialiased,
            2: extensions follow), u8 number of streams (version 4); version 4 also u32 offset of its table, 12 bytes
    columns positions 3 x 24-bit fixed point with f fractional bits (version 1: 3 x float16), opacity u8,
            colours 3 x u8 as 0.15 sh0 + 0.5, log scales 3 x u8 as 16 (s + 10), rotations 4 x u8 (the three smallest
            components in 10 bits each; versions 1 and 2: x y z in 3 x u8), harmonics u8 as 128 (c + 1)

Up to version 3 the whole is one gzip stream; version 4 has a plain header, a table of lengths and a zstd stream per
column; between header and table it may have extensions, records of u32 kind, u32 length and content. The axes are
right-up-back (RUB), where .ply and .splat have right-down-front (RDF), unless an extension names others.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import zstandard

from gs_ssd.checks import choice, whole
from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians

_HEADER = struct.Struct("<4sIIBBBB")
_TABLE_PLACE = struct.Struct("<I12x")  # of version 4, behind the header
_ENTRY = struct.Struct("<QQ")  # packed and unpacked bytes of a stream
_RECORD = struct.Struct("<II")  # kind and bytes of an extension
_REST = {0: 0, 1: 9, 2: 24, 3: 45, 4: 72}  # SH bytes per Gaussian
_READ_REST = 45  # no rasterizer here goes beyond degree 3
_ANTIALIASED, _EXTENDED = 1, 2
_LARGEST_RATIO = 100  # of unpacked to packed bytes; real files have about 2, a crafted one fills the memory
_LARGEST_EXTENSION = 1 << 20  # bytes
_ZSTD_LEVEL = 12  # Niantic's own

_MOST_BITS = 20
_LARGEST = (1 << 23) - 1  # of a 24-bit position
_COLOUR = 0.15 * 255
_OPAQUE = 1e-6  # an opacity's distance from 0 and 1, where the logit is infinite
_COARSE = 0.5  # of a Gaussian's size: beyond it, rounded positions show

# Axes by the number that SPZ_ADOBE_coordinate_system gives them, from 1: left or right, down or up, back or front.
AXES = ("LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF")
_NAMES_AXES = 0xADBE0003
_OURS = "RDF"


def read(path: Path, *, axes: str = "RUB") -> Gaussians:
    """Read a .spz of version 1 to 4; `axes` are those of a file that names none."""
    choice("axes", axes, AXES)
    data = path.read_bytes()
    try:
        version, degree, bits, flags, columns = _version_4(data) if data[:4] == b"NGSP" else _gzipped(data)
    except (ValueError, EOFError, zlib.error, zstandard.ZstdError, struct.error) as error:
        raise UserError(
            f"{path}: truncated or not a .spz of version 1 to 4 ({error}); export it again"
        ) from error
    if version == 4 and flags & _EXTENDED:
        axes = _named_axes(data, path) or axes
    positions, alphas, colours, scales, rotations, sh = columns
    n = len(alphas)
    if version == 1:
        means = positions.view("<f2").astype(np.float32)
    else:
        wide = np.zeros((n, 3, 4), dtype=np.uint8)
        wide[..., 1:] = positions.reshape(n, 3, 3)  # into the upper bytes, so that the sign comes along
        means = (wide.view("<i4")[..., 0] >> 8).astype(np.float32) / np.float32(1 << bits)
    if degree == 4:
        warnings.warn(f"{path}: harmonics of degree 4 are left out", stacklevel=2)
    shN = (sh[:, :_READ_REST].astype(np.float32) - 128) / 128
    alpha = torch.from_numpy(alphas[:, 0].astype(np.float32) / 255).clamp(_OPAQUE, 1 - _OPAQUE)
    gaussians = Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(scales.astype(np.float32) / 16 - 10),
        quats=torch.from_numpy(_three_smallest(rotations) if version >= 3 else _xyz(rotations)),
        opacities=alpha.logit(),
        sh0=torch.from_numpy((colours.astype(np.float32) - 127.5) / _COLOUR)[:, None],
        shN=torch.from_numpy(shN).reshape(n, -1, 3),
        antialiased=bool(flags & _ANTIALIASED),
    )
    return _turned(gaussians, axes)


def write(gaussians: Gaussians, path: Path, *, version: int = 4, axes: str = "RUB") -> None:
    """Write version 4 (or 3, for older viewers), positions as finely as their range allows in 24 bits.

    No extension names the axes: few readers look for it, so others than RUB are for readers known to expect them.
    Warns about what the columns can't hold; raises UserError for positions beyond them.
    """
    whole("version", version, 3, 4)
    choice("axes", axes, AXES)
    turned = _turned(gaussians.map(lambda value: value.float()), axes)
    bits = _fractional_bits(gaussians)
    _warn_of_limits(gaussians, bits)
    n = len(gaussians)
    fixed = np.round(turned.means.double().numpy() * (1 << bits)).astype("<i4")
    columns = [
        fixed.view(np.uint8).reshape(n, 3, 4)[..., :3].tobytes(),
        _bytes(turned.opacities.sigmoid() * 255),
        _bytes(turned.sh0 * _COLOUR + 127.5),
        _bytes((turned.scales + 10) * 16),
        _packed_quats(turned.quats.numpy()),
        _bytes(turned.shN * 128 + 128),
    ]
    columns = [column for column in columns if column]
    flags = _ANTIALIASED if gaussians.antialiased else 0
    fields = (n, gaussians.sh_degree, bits, flags)
    if version == 3:
        compressor = zlib.compressobj(6, wbits=31)
        content = _HEADER.pack(b"NGSP", 3, *fields, 0) + b"".join(columns)
        path.write_bytes(compressor.compress(content) + compressor.flush())
        return
    packed = [zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(column) for column in columns]
    table = b"".join(_ENTRY.pack(len(stream), len(column)) for stream, column in zip(packed, columns))
    header = _HEADER.pack(b"NGSP", 4, *fields, len(columns))
    place = _TABLE_PLACE.pack(_HEADER.size + _TABLE_PLACE.size)
    path.write_bytes(header + place + table + b"".join(packed))


def _widths(version: int, degree: int) -> list[int]:
    """Bytes per Gaussian of the six columns."""
    return [6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3, _REST[degree]]


def _checked(fields: tuple, versions: tuple[int, ...], size: int) -> tuple[int, int, int, int, list[int]]:
    """Version, count, degree, fractional bits and column widths of a header; raises ValueError."""
    magic, version, count, degree, bits, *_ = fields
    if magic != b"NGSP" or version not in versions or degree not in _REST or bits > 24 or not count:
        raise ValueError(f"version {version}, SH degree {degree}, {bits} fractional bits")
    widths = _widths(version, degree)
    if count * sum(widths) > _LARGEST_RATIO * size:
        raise ValueError(f"the header promises {count:,} Gaussians in {size:,} bytes")
    return version, count, degree, bits, widths


def _gzipped(data: bytes) -> tuple[int, int, int, int, list[np.ndarray]]:
    """Version, degree, fractional bits, flags and the six columns [N, width] of versions 1 to 3.

    Raises ValueError or zlib.error unless one gzip stream unpacks to exactly what its header promises.
    """
    stream = zlib.decompressobj(wbits=31)
    start = stream.decompress(data, _HEADER.size)
    fields = _HEADER.unpack(start)
    version, count, degree, bits, widths = _checked(fields, (1, 2, 3), len(data))
    promised = count * sum(widths)
    allowed = promised + (_LARGEST_EXTENSION if fields[5] & _EXTENDED else 0)
    content = stream.decompress(stream.unconsumed_tail, allowed + 1)
    if not promised <= len(content) <= allowed or not stream.eof:
        raise ValueError(f"it doesn't hold the {count:,} Gaussians of its header")
    columns, offset = [], 0
    for width in widths:
        columns.append(np.frombuffer(content, np.uint8, count * width, offset).reshape(count, width))
        offset += count * width
    return version, degree, bits, fields[5], columns


def _version_4(data: bytes) -> tuple[int, int, int, int, list[np.ndarray]]:
    """As `_gzipped`, of version 4."""
    fields = _HEADER.unpack_from(data)
    version, count, degree, bits, widths = _checked(fields, (4,), len(data))
    (table,) = _TABLE_PLACE.unpack_from(data, _HEADER.size)
    expected = [count * width for width in widths if width]
    if fields[6] != len(expected):
        raise ValueError(f"{fields[6]} streams, expected {len(expected)}")
    offset = table + _ENTRY.size * len(expected)
    columns = []
    for number, size in enumerate(expected):
        packed, unpacked = _ENTRY.unpack_from(data, table + _ENTRY.size * number)
        if unpacked != size or offset + packed > len(data):
            raise ValueError(f"stream {number} has {unpacked:,} bytes, expected {size:,}")
        with zstandard.ZstdDecompressor().stream_reader(data[offset : offset + packed]) as stream:
            content = stream.read(size + 1)
        if len(content) != size:
            raise ValueError(f"stream {number} doesn't unpack to {size:,} bytes")
        columns.append(np.frombuffer(content, np.uint8).reshape(count, -1))
        offset += packed
    if not widths[-1]:
        columns.append(np.zeros((count, 0), dtype=np.uint8))
    return version, degree, bits, fields[5], columns


def _named_axes(data: bytes, path: Path) -> str | None:
    """The axes that an extension names; a record that doesn't fit ends the search, as in Niantic's own reader."""
    place = _HEADER.size + _TABLE_PLACE.size
    (table,) = _TABLE_PLACE.unpack_from(data, _HEADER.size)
    end = min(table, place + _LARGEST_EXTENSION)
    while place + _RECORD.size <= end:
        kind, size = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        if kind == _NAMES_AXES and size == 4 and place + size <= end:
            number = int.from_bytes(data[place : place + size], "little")
            if number > len(AXES):
                raise UserError(
                    f"{path}: its axes are number {number}, known are 1 to {len(AXES)} ({', '.join(AXES)}); "
                    "export it with one of these"
                )
            return AXES[number - 1] if number else None
        place += size
    return None


def _xyz(rotations: np.ndarray) -> np.ndarray:
    """Quaternions [N, 4] wxyz of versions 1 and 2."""
    xyz = rotations.astype(np.float32) / 127.5 - 1
    w = np.sqrt(np.maximum(1 - np.square(xyz).sum(axis=1, keepdims=True), 0))
    return np.concatenate([w, xyz], axis=1)


def _three_smallest(rotations: np.ndarray) -> np.ndarray:
    """Quaternions [N, 4] wxyz: 2 bits name the largest of x y z w, the others follow as sign and 9 bits each."""
    words = np.ascontiguousarray(rotations).view("<u4")[:, 0]
    largest = (words >> 30).astype(np.int64)
    parts = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], axis=1)
    sizes = (parts & 511).astype(np.float32) / 511 * np.float32(math.sqrt(0.5))
    others = np.where(parts & 512, -sizes, sizes)
    xyzw = np.empty((len(words), 4), dtype=np.float32)
    np.put_along_axis(xyzw, _OTHERS[largest], others, axis=1)
    rest = np.sqrt(np.maximum(1 - np.square(others).sum(axis=1, keepdims=True), 0))
    np.put_along_axis(xyzw, largest[:, None], rest, axis=1)
    return np.roll(xyzw, 1, axis=1)


_OTHERS = np.array([[column for column in range(4) if column != largest] for largest in range(4)])


def _packed_quats(quats: np.ndarray) -> bytes:
    xyzw = np.roll(quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-30), -1, axis=1)
    largest = np.abs(xyzw).argmax(axis=1)
    xyzw = xyzw * np.where(np.take_along_axis(xyzw, largest[:, None], axis=1) < 0, -1, 1)
    others = np.take_along_axis(xyzw, _OTHERS[largest], axis=1)
    parts = np.round(np.abs(others) / math.sqrt(0.5) * 511).clip(0, 511).astype(np.uint32)
    parts |= (others < 0).astype(np.uint32) << np.uint32(9)
    words = largest.astype(np.uint32) << np.uint32(30)
    for column, shift in enumerate((20, 10, 0)):
        words |= parts[:, column] << np.uint32(shift)
    return words.astype("<u4").tobytes()


def _bytes(values: torch.Tensor) -> bytes:
    return values.round().clamp(0, 255).to(torch.uint8).numpy().tobytes()


def _fractional_bits(gaussians: Gaussians) -> int:
    largest = max(gaussians.means.abs().max().item(), 1e-6)
    bits = min(math.floor(math.log2(_LARGEST / largest)), _MOST_BITS)
    if bits < 1:
        raise UserError(
            f".spz holds positions up to {_LARGEST // 2:,} units, the scene reaches {largest:.3g}; "
            "move it to the origin, or save a .ply"
        )
    return bits


def _warn_of_limits(gaussians: Gaussians, bits: int) -> None:
    """Warn where quantisation would show: the nearest byte is far from the value, or positions jump."""
    step, size = 2.0**-bits, gaussians.scales.exp().median().item()
    if step > _COARSE * size:
        warnings.warn(
            f".spz rounds positions to {step:g} units, while half of the Gaussians are smaller than {size:.2g} "
            "units; the farthest Gaussian sets this grid, so crop the scene or save a .ply",
            stacklevel=3,
        )
    for what, values, low, high in (
        ("log scales", gaussians.scales, -10.0, 255 / 16 - 10),
        ("colours", gaussians.sh0, -127.5 / _COLOUR, 127.5 / _COLOUR),
        ("harmonics", gaussians.shN, -1.0, 127 / 128),
    ):
        margin = 1 / 16  # a little beyond the range is within the rounding
        outside = ((values < low - margin) | (values > high + margin)).flatten(1).any(1)
        if outside.any():
            warnings.warn(
                f".spz holds {what} from {low:.2f} to {high:.2f}, those of {int(outside.sum()):,} Gaussians "
                "are cut; save a .ply to keep them",
                stacklevel=3,
            )


def _turned(gaussians: Gaussians, axes: str) -> Gaussians:
    """From `axes` to ours or back: coordinates change sign, and with them the harmonics that are odd in them."""
    x, y, z = (1.0 if theirs == ours else -1.0 for theirs, ours in zip(axes, _OURS))
    odd = torch.tensor([y, z, x, x * y, y * z, 1, x * z, 1, y, x * y * z, y, z, x, z, x])
    return replace(
        gaussians,
        means=gaussians.means * torch.tensor([x, y, z]),
        quats=gaussians.quats * torch.tensor([1, y * z, x * z, x * y]),
        shN=gaussians.shN * odd[: gaussians.shN.shape[1], None],
    )
