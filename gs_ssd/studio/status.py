"""What the workspace tells: lines for the user, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass

from gs_ssd.studio.runner import OVER

INFO, WARNING, ERROR = "info", "warning", "error"


@dataclass(frozen=True)
class Message:
    """A line for the user; `number` rises."""

    number: int
    level: str
    text: str


@dataclass(frozen=True)
class Status:
    """What the page says of the workspace at a moment; all of it cheap to tell."""

    state: str
    step: int
    num_steps: int
    seconds_left: float | None
    busy: str
    share: float
    scene: str
    gaussians: int
    selected: int
    edits: tuple[str, ...]
    position: int
    strength: float
    version: int

    @property
    def running(self) -> bool:
        return self.state not in ("idle", OVER)
