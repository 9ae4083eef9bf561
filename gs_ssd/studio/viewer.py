"""The page beside a run of the command line, which pulls the edit itself: `python train.py ... viewer=true`.

Browsers may come, look, pause, stop and go; the edit needs none of them. They are shown copies, and nothing here takes
part in a step: what comes of the edit is the same to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gs_ssd.session.config import as_opened
from gs_ssd.session.edit import SceneEdit
from gs_ssd.studio.gate import Gate
from gs_ssd.studio.history import Settings
from gs_ssd.studio.server import Studio
from gs_ssd.studio.status import INFO
from gs_ssd.studio.workspace import Workspace


@contextmanager
def beside(
    edit: SceneEdit, cfg: Any, gate: Gate, folder: Path
) -> Iterator[Callable[[Callable[[], bool]], bool]]:
    """The studio's page on an edit that the settings `cfg` describe and the caller pulls.

    Yields what the caller calls after every step, with what tells whether it was interrupted itself; it waits while
    somebody pauses the edit, and returns whether to go on. What is downloaded from the page is written into
    `folder`/studio.
    """
    scene = replace(edit.scene, editable=edit.editable.cpu())
    workspace = Workspace((), folder=folder / "studio", given=as_opened(cfg, scene))
    started = Settings(
        source=edit.prompts.source or "",
        target=edit.prompts.target,
        negative=edit.prompts.negative,
        method=edit.guidance.name if edit.guidance.name in workspace.methods else "ssd",
        steps=edit.num_steps,
        seed=edit.seed,
    )
    runner = workspace.follow(edit)
    studio = Studio(workspace, gate, started=started)

    def go_on(interrupted: Callable[[], bool]) -> bool:
        more = runner.observe(interrupted) and not interrupted()
        if not more or edit.step == edit.num_steps:
            runner.finish()
            workspace.say(
                INFO, f"writing {folder}; the page ends then. Go on with gs-ssd studio scene={folder}"
            )
        return more

    try:
        yield go_on
    finally:
        studio.close()
        with contextlib.suppress(OSError):
            workspace.session.rmdir()  # unless something was downloaded
