"""Output that never costs an edit: a closed pipe or terminal, a full disk behind stdout, an ASCII terminal."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class Patient:
    """A text stream whose writes can't fail: once one does, the rest is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, method: str, *arguments: Any) -> None:
        if self._broken:
            return
        try:
            getattr(self._stream, method)(*arguments)
        except (OSError, ValueError):  # a closed pipe, a full disk; a closed file is a ValueError
            self._broken = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def keep_streams_open() -> None:
    """Replace stdout and stderr by streams that can't fail, and show what a terminal has no letters for as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Patient):
            continue
        if stream is None:  # closed before the start
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  it is the stream from now on
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Patient(stream))
