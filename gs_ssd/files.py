"""Files: digests, and writing so that nothing is ever left half-written."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gs_ssd.errors import UserError


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary sibling of `path` (same suffix) that replaces it when the block ends without an error.

    Raises UserError when the folder can't be written or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of the full 255 bytes has no room for the random part.
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}; choose another place") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike, setting: str) -> None:
    """Raise UserError unless files can be written to `folder`, whether it is there or can be made.

    It is tried, and nothing is left behind. `setting` is what a user gave the folder by.
    """
    made: list[Path] = []
    shown = str(folder) if len(str(folder)) <= 120 else f"{str(folder)[:117]}..."
    try:
        path = Path(folder).expanduser()
        places = (path, *path.parents)
        for file in places:
            if file.exists() and not file.is_dir():
                raise UserError(f"{setting} {shown}: {file} is a file; choose a folder")
        made = [place for place in places if not place.exists()]
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(bytes(4096))
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # no such home: RuntimeError; a null character: ValueError
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{setting} {shown} can't be written: {reason}; choose another folder") from error
    finally:
        for place in made:  # the deepest first; one that somebody else uses by now stays
            with suppress(OSError, ValueError):
                place.rmdir()


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
