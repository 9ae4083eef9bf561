"""A run's folder: where it lies, that it can be written, and that it never mixes two runs.

What a run writes has fixed names, FILES. A folder may be used again. A run's start checks that it can be written and
sweeps away what a killed run left half-written; it touches no result. Once the new scene is complete on the disk,
`clear` removes the older run's files, `run.json` first; the new ones follow, `run.json` last. So a folder that has a
run.json holds exactly one whole run, and a folder without one holds no file of two.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.files import check_writable

MANIFEST = "run.json"
FILES = (
    MANIFEST,
    "report.html",
    "metrics.json",
    "cameras.json",
    "origin.npy",
    "parts.npy",
    "turntable.mp4",
    "before_after.mp4",
    "before_after.png",
    "loss.png",
    "progress.png",
    "decomposition.png",
    "before.png",
    "after.png",
    "image.png",
    "edited.ply",
)
_NAME_BYTES = 100  # of one folder's name; file systems allow 255


def make_output_dir(
    folder: str | os.PathLike | None,
    *,
    scene: str,
    prompt: str,
    inputs: Iterable[str | os.PathLike | None] = (),
) -> Path:
    """Create the run's folder, outputs/<scene>/<prompt>/<time> unless given, and see that it can be written.

    `scene` and `prompt` are names and never lead out of outputs/; a "/" in them makes a subfolder. `inputs` are the
    files and folders that the run reads; None stands for an input that is not there. No existing result is touched.

    Raises UserError before any work is done: a folder that can't be written, or one whose results would overwrite an
    input.
    """
    check_output_dir(folder, inputs)
    path = Path("outputs", *_parts(scene), *_parts(prompt)) if folder is None else Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if folder is None:
            path = unused(path, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        _sweep(path)
    except OSError as error:
        raise UserError(
            f"output_dir {path} can't be written: {error.strerror}; choose another folder"
        ) from error
    return path


def check_output_dir(
    folder: str | os.PathLike | None, inputs: Iterable[str | os.PathLike | None] = ()
) -> None:
    """Raise UserError unless results can go to `folder` (None: a new one in outputs/) without overwriting an input.

    It is tried, and leaves nothing behind; so a door can ask before it loads anything.
    """
    check_writable("outputs" if folder is None else folder, "output_dir")
    for source in inputs:
        if folder is not None and source is not None:
            here, there = (Path(os.path.expanduser(path)) for path in (folder, source))
            if _overwrites(here, there):
                raise UserError(
                    f"output_dir {here} holds the input {source}, which the results would overwrite; "
                    "choose another folder"
                )


def clear(folder: Path, *, keep: Iterable[str] = ()) -> None:
    """Remove an earlier run's files from `folder`, its manifest first; `keep` names those that stay."""
    kept = set(keep)
    for name in FILES:
        if name not in kept:
            (folder / name).unlink(missing_ok=True)


def unused(parent: Path, name: str) -> Path:
    """A folder in `parent` called `name`, made here so that two runs of the same second get two folders."""
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}_{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1


def slug(text: object, limit: int = 60) -> str:
    """A name for `text`: its letters and digits, of any script, in lower case and joined by dashes.

    Text without any (emoji) gives a short hash, so that two prompts never share a folder for want of letters.
    """
    plain = unicodedata.normalize("NFC", str(text)).lower()
    joined = "".join(c if unicodedata.category(c)[0] in "LNM" else "-" for c in plain)
    name = re.sub("-+", "-", joined).strip("-")[:limit].strip("-")
    return name or hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _parts(name: str) -> list[str]:
    """The folders that `name` stands for: relative, no "..", nothing that a file system refuses."""
    parts = []
    for part in re.split(r"[/\\]", str(name)):
        part = "".join("-" if c in '<>:"|?*' or not c.isprintable() else c for c in part)
        while len(os.fsencode(part)) > _NAME_BYTES:
            part = part[:-1]
        part = part.strip(" .")
        if part:
            parts.append(part)
    return parts or ["unnamed"]


def _overwrites(folder: Path, source: Path) -> bool:
    """Whether a run into `folder` writes over `source`, under whatever path or link either is named."""
    if not os.path.isdir(folder) or not os.path.exists(source):
        return False
    targets = [folder, *(folder / name for name in FILES)]
    return any(target.exists() and target.samefile(source) for target in targets)


def _sweep(folder: Path) -> None:
    """Remove what a killed run left of its unfinished files (see `gs_ssd.files.atomic_path`)."""
    names = "|".join(re.escape(Path(name).stem) for name in FILES)
    unfinished = re.compile(rf"\.{{1,2}}({names})(-[a-z0-9_]{{8}}){{1,2}}\.\w+")
    for path in folder.iterdir():
        if unfinished.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
