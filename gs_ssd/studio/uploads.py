"""Files from the page: limited in size while they arrive, named harmlessly, handed to the hardened loaders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import viser
from viser._messages import FileTransferPart, FileTransferPartAck, FileTransferStartUpload

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.results.folder import slug

_KEPT = 20  # uploaded files of a session that are kept
_OVERHEAD = 64  # parts of at least a megabyte, and a few more


class Uploads:
    """Puts a limit into viser's receiving of files, which has none.

    Args:
        server: viser's; its page must have no upload button of a single client.
        most: bytes of all files that are on their way at a time.
        refused: told the client's id and why.
    """

    def __init__(self, server: viser.ViserServer, *, most: int, refused: Callable[[int, str], None]) -> None:
        self._gui, self.most, self._refused = server.gui, most, refused
        connection: Any = server._websock_server
        for message, theirs, ours in (
            (FileTransferStartUpload, self._gui._handle_file_transfer_start, self._start),
            (FileTransferPart, self._gui._handle_file_transfer_part, self._part),
        ):
            connection.unregister_handler(message, theirs)
            connection.register_handler(message, ours)

    def _start(self, client_id: int, message: FileTransferStartUpload) -> None:
        states = self._gui._current_file_upload_states
        coming = sum(state["total_bytes"] for state in states.values())
        parts = message.size_bytes // 1024 + _OVERHEAD
        if not 0 <= message.size_bytes <= self.most - coming or not 0 <= message.part_count <= parts:
            self._refused(client_id, f"{message.filename}: {too_large(message.size_bytes, self.most)}")
            # The page's button waits until all bytes have arrived, and there is no message that says otherwise.
            whole = max(message.size_bytes, 0)
            self._gui._websock_interface.queue_message(
                FileTransferPartAck(message.source_component_uuid, message.transfer_uuid, whole, whole)
            )
            return
        self._gui._handle_file_transfer_start(client_id, message)  # type: ignore[arg-type]

    def _part(self, client_id: int, message: FileTransferPart) -> None:
        state = self._gui._current_file_upload_states.get(message.transfer_uuid)
        if state is not None and state["transferred_bytes"] + len(message.content) > state["total_bytes"]:
            del self._gui._current_file_upload_states[message.transfer_uuid]  # more than was declared
            self._refused(client_id, "the upload broke off: it sent more than it had declared")
            return
        self._gui._handle_file_transfer_part(client_id, message)  # type: ignore[arg-type]


def too_large(size: int, most: int) -> str:
    return (
        f"not taken: {size / 1e6:,.0f} MB are more than the {most / 1e6:,.0f} MB that the page takes; open the file "
        "with `gs-ssd studio scene=<file>`, or raise upload_mb="
    )


def saved(session: Path, name: str, content: bytes, suffixes: tuple[str, ...]) -> Path:
    """Write an uploaded file into the session's folder under a name of letters, digits and a known suffix.

    Raises UserError for an empty file and for a suffix that none of `suffixes` ends in.
    """
    lower = name.lower()
    suffix = max((known for known in suffixes if lower.endswith(known)), key=len, default=None)
    if suffix is None:
        raise UserError(f"{name}: a file of an unknown kind; known are {', '.join(suffixes)}")
    if not content:
        raise UserError(f"{name}: is empty; did the upload break off?")
    folder = session / "uploads"
    folder.mkdir(exist_ok=True)
    stem = slug(Path(lower.removesuffix(suffix).replace("\\", "/")).name or "file")
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}{suffix}"
    if number > _KEPT or len(list(folder.iterdir())) >= _KEPT:
        oldest = min(folder.iterdir(), key=lambda file: file.stat().st_mtime)
        shutil.rmtree(oldest) if oldest.is_dir() else oldest.unlink()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def forget(button: viser.GuiUploadButtonHandle) -> None:
    """Let go of the file that an upload button holds; it would stay in memory until the next one."""
    button._impl.value = viser.UploadedFile("", b"")
