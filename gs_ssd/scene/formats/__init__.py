"""Reading and writing scenes: one module per format, each with `read(path)` and `write(gaussians, path)`.

A file is recognised by its first bytes where the format has a signature, else by its suffix. To add a format,
write its module and add it to the table below.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import ModuleType

import torch

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.scene.formats import checkpoint, compressed_ply, ply, sog, splat, spz
from gs_ssd.scene.formats.header import read_header
from gs_ssd.scene.formats.validation import cleaned
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.source import check_file, kind_of

FORMATS: dict[str, ModuleType] = {  # the longest matching suffix wins
    ".compressed.ply": compressed_ply,
    ".ply": ply,
    ".splat": splat,
    ".spz": spz,
    ".sog": sog,
    ".pt": checkpoint,
    ".pth": checkpoint,
    ".ckpt": checkpoint,
}


def load_gaussians(path: str | os.PathLike, *, spz_axes: str = "RUB") -> Gaussians:
    """Read a scene of any known format, float32 on the CPU.

    `spz_axes` are those of a .spz that names none: "RUB", as Niantic has it, or "RDF", as SuperSplat has it.
    Rows that can't be rendered are repaired or dropped with a warning. Raises UserError for anything but
    a scene.
    """
    path = Path(path)
    head = _head(path)
    try:
        module = _format_of(path, head)
        return cleaned(module.read(path, **_options(module, spz_axes)), path)
    except UserError:
        raise
    except Exception as error:  # parsers meet arbitrary bytes here: whatever they raise is the file's fault
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path}: damaged or not a scene ({type(error).__name__}: {reason}); export it again"
        ) from error


def save_gaussians(gaussians: Gaussians, path: str | os.PathLike, *, spz_axes: str = "RUB") -> None:
    """Write a scene in the format of the suffix; the file appears complete or not at all.

    `spz_axes` are those that a .spz is written in; other formats have but one.
    """
    path = Path(path)
    module = _by_suffix(path)
    if len(gaussians) == 0:
        raise UserError(f"{path}: there are no Gaussians to save")
    _warn_of_losses(gaussians, module, path)
    with atomic_path(path) as temporary, torch.no_grad():
        module.write(gaussians.map(torch.Tensor.detach).to("cpu"), temporary, **_options(module, spz_axes))


def _options(module: ModuleType, spz_axes: str) -> dict[str, str]:
    return {"axes": spz_axes} if module is spz else {}


def _warn_of_losses(gaussians: Gaussians, module: ModuleType, path: Path) -> None:
    """Warn about what the format has no place for."""
    lost = []
    if module is splat and gaussians.sh_degree:
        lost.append(f"view-dependent colour: SH degree {gaussians.sh_degree} becomes 0")
    if module is splat and gaussians.antialiased:
        lost.append("tag of antialiased scenes: viewers will draw it thicker than it is")
    if module is not ply and gaussians.extra is not None and (columns := ply.unknown(gaussians.extra)):
        lost.append(f"columns {', '.join(columns)}; save a .ply to keep them")
    for what in lost:
        warnings.warn(f"{path.suffix} holds no {what}", stacklevel=3)


def _by_suffix(path: Path) -> ModuleType:
    name = path.name.lower()
    for suffix in sorted(FORMATS, key=len, reverse=True):
        if name.endswith(suffix):
            return FORMATS[suffix]
    raise UserError(
        f"{path}: unknown scene format {path.suffix or '(no suffix)'!r}; known are {', '.join(FORMATS)}; "
        "convert other formats (.ksplat) to .ply first"
    )


def _format_of(path: Path, head: bytes) -> ModuleType:
    if head.startswith((b"ply\n", b"ply\r")):
        return compressed_ply if compressed_ply.is_compressed(read_header(path)) else ply
    module = _by_suffix(path)
    if _is_text(head):
        raise UserError(f"{path}: is a text file{_guess(head)}, not a scene")
    if module in (ply, compressed_ply):
        raise UserError(
            f"{path}: doesn't start with 'ply', so it is not a .ply file; check what was downloaded"
        )
    return module


def _head(path: Path) -> bytes:
    """The first bytes of a readable, non-empty file."""
    if kind_of(path) == "a folder":
        raise UserError(f"{path}: is a folder; give the scene file inside it ({', '.join(FORMATS)})")
    check_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path}: is empty")
    return head


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)


def _guess(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return " (a Git LFS pointer: run `git lfs pull`)"
    if b"<html" in head.lower() or b"<!doctype" in head.lower():
        return " (a web page: the download went wrong)"
    return ""
