"""`gs-ssd studio scene=face`: edit in the browser."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gs_ssd.checks import number, whole
from gs_ssd.cli.app import guarded
from gs_ssd.cli.settings import parse, setting, usage
from gs_ssd.cli.signals import Signals
from gs_ssd.errors import UserError
from gs_ssd.files import check_writable

if TYPE_CHECKING:
    from gs_ssd.studio.gate import Gate
    from gs_ssd.studio.history import Settings
    from gs_ssd.studio.server import Studio
    from gs_ssd.studio.workspace import Workspace

HEADER = """Edit in the browser: gs-ssd studio scene=face

  gs-ssd studio scene=my.ply port=8081
  gs-ssd studio scene=face prompt=clown steps=100 guidance=ssd     what the page starts with
  gs-ssd studio scene=face host=0.0.0.0                            for other machines: with a token in the URL

Settings of `gs-ssd edit` hold for every edit of the page. The studio's own:"""

# What the page has boxes for.
ASKED = (
    "prompt",
    "prompt.source",
    "prompt.target",
    "prompt.negative",
    "guidance",
    "diffusion",
    "steps",
    "seed",
)


@dataclass(frozen=True)
class StudioSettings:
    """Where the page is, and what it takes."""

    port: int = setting("of the page; 0 takes any free one", 8080)
    host: str = setting(
        "the address that is listened on; one that others reach asks for a token", "127.0.0.1"
    )
    upload_mb: float = setting("the largest file that the page takes, in megabytes", 1000.0)
    output_dir: str = setting("where sessions are kept", "outputs/studio")

    def __post_init__(self) -> None:
        whole("port", self.port, 0, 65535)
        number("upload_mb", self.upload_mb, above=0, most=100_000)


def main(argv: Sequence[str]) -> int:
    """Serve the page until it is stopped; returns the exit code."""
    if any(argument in ("-h", "--help") for argument in argv):
        print(usage(StudioSettings, HEADER))
        return 0
    return guarded(lambda signals: run(list(argv)))


def run(argv: list[str]) -> None:
    own = {field.name for field in fields(StudioSettings)}
    settings = parse(StudioSettings, [word for word in argv if word.partition("=")[0] in own])
    studio = open_studio(settings, [word for word in argv if word.partition("=")[0] not in own])
    print(f"studio   {studio.url}", flush=True)
    if not studio.gate.local:
        print(
            "warning: other machines can open this page; whoever has the URL can edit, upload and download. It is not "
            "encrypted: use it in a network that you trust",
            file=sys.stderr,
            flush=True,
        )
    with Signals() as signals:  # only now: libraries that are loaded on the way bring handlers of their own
        signals.finish_first("closing the studio; press Ctrl-C again to quit at once")
        try:
            while not signals.requested:
                time.sleep(0.2)
        finally:
            studio.close()
            print(f"session  {studio.workspace.session}")


def open_gate(host: str, port: int, setting: str = "port") -> Gate:
    """Where the page will be; taken before any work is done. Raises UserError where it can't be."""
    try:
        from gs_ssd.studio import server  # noqa: F401  which needs viser
        from gs_ssd.studio.gate import Gate
    except ModuleNotFoundError as error:
        if error.name not in ("viser", "websockets"):
            raise
        raise UserError('the studio needs viser: pip install "gs_ssd[studio]"') from error
    return Gate(host, port, setting)


def open_studio(settings: StudioSettings, words: list[str]) -> Studio:
    """The studio that what was typed describes."""
    check_writable(settings.output_dir, "output_dir")  # before anything is loaded
    from gs_ssd.session.config import compose
    from gs_ssd.session.shorthands import chosen

    cfg = compose(words)  # what is mistyped is answered first
    whole("steps", cfg.steps, least=1)
    whole("seed", cfg.seed, least=0, most=2**64 - 1)
    gate = open_gate(settings.host, settings.port)
    from gs_ssd.studio.server import Studio
    from gs_ssd.studio.workspace import Workspace

    scene = [word for word in words if word.partition("=")[0].split(".")[0] == "scene"]
    asked = [word for word in words if word.partition("=")[0] in ASKED]
    further = [word for word in words if word not in scene and word not in asked]
    workspace = Workspace(
        scene or ["scene=face"],
        folder=Path(settings.output_dir),
        further=further,
        prior=chosen(asked, "diffusion"),
    )
    warnings.simplefilter("always")
    printed = warnings.showwarning

    def shown(message: Any, *place: Any, **more: Any) -> None:
        workspace.say("warning", str(message))
        printed(message, *place, **more)

    warnings.showwarning = shown
    return Studio(
        workspace,
        gate,
        upload_mb=settings.upload_mb,
        started=started(asked, workspace),
    )


def started(words: list[str], workspace: Workspace) -> Settings:
    """What the page's boxes say at first."""
    from gs_ssd.session.shorthands import chosen
    from gs_ssd.studio.history import Settings

    said = {name: chosen(words, name) for name in ASKED}
    steps, ready = said["steps"], workspace.targets.get(said["prompt"] or "", "")
    return Settings(
        source=said["prompt.source"] or workspace.shown_words or "",
        target=said["prompt.target"] or ready,
        negative=said["prompt.negative"],
        method=said["guidance"] or "ssd",
        prior=said["diffusion"] or "auto",
        steps=None if steps in (None, "null") else int(steps),
        seed=int(said["seed"] or 0),
    )
