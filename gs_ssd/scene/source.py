"""Files that others give us, looked at before they are opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gs_ssd.errors import UserError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(path: Path, *, missing: str = "no such file") -> str:
    """ "a file", "a folder", "a device" ...; links are followed. Raises UserError where there is nothing to see."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise UserError(f"{path}: {missing}") from error
    except (OSError, ValueError) as error:  # a name too long, a loop of links; a zero byte in the name
        raise UserError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def check_file(path: str | os.PathLike, *, most: int | None = None) -> Path:
    """`path` if it is an ordinary file of at most `most` bytes: reading a pipe or a device might never end."""
    path = Path(path)
    kind = kind_of(path)
    if kind != "a file":
        raise UserError(f"{path}: is {kind}, not a file; give the file itself")
    size = path.stat().st_size
    if most is not None and size > most:
        raise UserError(f"{path}: {size:,} bytes are too many, at most {most:,} make sense; check what it is")
    return path
