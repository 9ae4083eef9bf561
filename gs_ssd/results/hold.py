"""A folder is written by one run at a time: who writes holds a lock on a file there, and every other run is refused.

The lock is the operating system's (`flock`, on Windows a locked byte). It takes it back when the process ends, however
that comes about: the file of a dead process blocks nobody. On a file system without locks nobody is refused.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from gs_ssd.errors import UserError

NAME = ".in_use"
_TOKEN = uuid.uuid4().hex  # of this process; process numbers repeat, in containers at once
_BEYOND = 1 << 30  # the byte that is locked on Windows: others can read what comes before it
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK))


class Hold:
    """What a run keeps others from writing to; nothing until it takes a folder.

    with Hold() as hold:
        hold.take(folder)
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._path: Path | None = None
        self._made: list[Path] = []

    def take(self, folder: str | os.PathLike | None, setting: str = "output_dir") -> None:
        """Hold `folder`, which is made if it isn't there; None: there is none yet. What is held already stays so.

        Raises UserError where another process holds it, or the folder that it lies in, as the studio holds a session
        with its edits; `setting` is what a user gave it by.
        """
        if folder is None:
            return
        path = Path(folder).expanduser().absolute() / NAME
        if path == self._path:
            return
        assert self._path is None, "a hold takes one folder"
        self._path, self._made = path, [place for place in path.parents if not place.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _locked(path)
            if self._file is None and not _held_by_another(path):  # ours, or its holder has just ended
                self._file = _locked(path)
            if self._file is not None:
                about = {"process": os.getpid(), "token": _TOKEN, "command": shlex.join(sys.argv)}
                os.ftruncate(self._file, 0)
                os.write(self._file, json.dumps(about).encode())
        except OSError as error:
            self.release()
            raise UserError(
                f"{setting} {folder} can't be written: {error.strerror}; choose another folder"
            ) from error
        for place in (path, path.parents[1] / NAME):
            if _held_by_another(place):
                self.release()
                raise UserError(
                    f"{setting} {folder}: {_holder(place)}; choose another folder, or wait for its end"
                )

    def release(self) -> None:
        """Let it go, and remove the folder if it was made for this and is empty."""
        if self._file is not None and self._path is not None:
            if sys.platform == "win32":  # which removes no open file
                os.close(self._file)
                with suppress(OSError):
                    self._path.unlink()
            else:
                with suppress(OSError):
                    self._path.unlink()  # while it is locked: who opened it meanwhile sees that it is gone
                os.close(self._file)
        for place in self._made:
            with suppress(OSError):
                place.rmdir()
        self._file, self._path, self._made = None, None, []

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _locked(path: Path) -> int | None:
    """The open file, locked by this process; None: somebody else's lock is on it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(file):
            os.close(file)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)  # its holder has just removed it


def _held_by_another(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:  # nobody's, or none of ours to ask
        return False
    free = _lock(file)
    os.close(file)
    return not free and _read(path).get("token") != _TOKEN


def _lock(file: int) -> bool:
    """Whether the lock is ours, or there are no locks here."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, _BEYOND, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def _read(path: Path) -> dict:
    """What its holder wrote; nothing where it is not written yet."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _holder(path: Path) -> str:
    about = _read(path)
    if not about:
        return "another run writes there"
    command = " ".join(str(about.get("command")).split())
    command = command if len(command) <= 80 else f"{command[:77]}..."
    return f"process {about.get('process')} writes there ({command})"
