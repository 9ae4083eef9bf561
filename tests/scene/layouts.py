"""Files written byte by byte from the formats' public layouts, without the code under test."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from gs_ssd.scene import Gaussians

SCENES = Path(__file__).parents[3] / "shared" / "scenes"
REST = {0: 0, 1: 9, 2: 24, 3: 45}


def inria_columns(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """The columns of an Inria .ply, [N] each, in the order of the original writer."""
    n = len(gaussians)
    columns = {name: gaussians.means[:, i].numpy() for i, name in enumerate("xyz")}
    columns |= {name: np.zeros(n, dtype=np.float32) for name in ("nx", "ny", "nz")}
    columns |= {f"f_dc_{c}": gaussians.sh0[:, 0, c].numpy() for c in range(3)}
    per_channel = gaussians.shN.shape[1]
    for channel in range(3):
        for k in range(per_channel):
            columns[f"f_rest_{channel * per_channel + k}"] = gaussians.shN[:, k, channel].numpy()
    columns["opacity"] = gaussians.opacities.numpy()
    columns |= {f"scale_{i}": gaussians.scales[:, i].numpy() for i in range(3)}
    columns |= {f"rot_{i}": gaussians.quats[:, i].numpy() for i in range(4)}
    return columns


def ply_bytes(
    columns: dict[str, np.ndarray], kind: str = "binary_little_endian", dtype: str = "float"
) -> bytes:
    """A .ply with one vertex element of `columns`."""
    n = len(next(iter(columns.values())))
    header = ["ply", f"format {kind} 1.0", f"element vertex {n}"]
    header += [f"property {dtype} {name}" for name in columns] + ["end_header", ""]
    table = np.stack(list(columns.values()), axis=1)
    if kind == "ascii":
        body = "\n".join(" ".join(repr(float(value)) for value in row) for row in table).encode() + b"\n"
    else:
        order = "<" if kind == "binary_little_endian" else ">"
        body = table.astype(order + {"float": "f4", "double": "f8"}[dtype]).tobytes()
    return "\n".join(header).encode() + body


def splat_bytes(gaussians: Gaussians) -> bytes:
    """A .splat, record by record."""
    records = []
    for i in range(len(gaussians)):
        q = gaussians.quats[i] / gaussians.quats[i].norm()
        alpha = 1 / (1 + float(np.exp(-gaussians.opacities[i].item())))
        rgba = [round(255 * value) for value in (*gaussians.rgb[i].tolist(), alpha)]
        rotation = [min(round(128 * value + 128), 255) for value in q.tolist()]
        floats = [*gaussians.means[i].tolist(), *gaussians.scales[i].exp().tolist()]
        records.append(struct.pack("<6f8B", *floats, *rgba, *rotation))
    return b"".join(records)


def colmap_text(folder: Path, cameras: list[str], images: list[str]) -> None:
    """cameras.txt and images.txt with COLMAP's header comments; every image has an empty line of points."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text("\n".join(["# Camera list", *cameras, ""]))
    (folder / "images.txt").write_text("\n".join(["# Image list", *(f"{line}\n" for line in images), ""]))


def transforms(frames: list[np.ndarray], **values: object) -> bytes:
    """A transforms.json of OpenGL camera-to-world matrices."""
    listed = [{"file_path": f"{i}.png", "transform_matrix": pose.tolist()} for i, pose in enumerate(frames)]
    return json.dumps({**values, "frames": listed}).encode()


def extended_spz(data: bytes, *extensions: tuple[int, bytes]) -> bytes:
    """A .spz of version 4 with extensions (kind, content) between its header and its table."""
    records = b"".join(struct.pack("<II", kind, len(content)) + content for kind, content in extensions)
    table = struct.pack("<I", 32 + len(records))
    return data[:14] + bytes([data[14] | 2]) + data[15:16] + table + data[20:32] + records + data[32:]
