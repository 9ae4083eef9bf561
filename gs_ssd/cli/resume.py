"""An interrupted run goes on with `resume=<its folder>`: what the front doors share of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gs_ssd.cli.app import check_alone
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gs_ssd.cli.progress import Outcome
    from gs_ssd.session.run import Run

_KINDS = {"edit": "scene", "image": "image", "generate": "image"}  # of edit, by door


def asked(argv: Sequence[str]) -> str | None:
    """The run's folder that `resume=` names; None where nothing is to be resumed."""
    paths = [argument.partition("=")[2] for argument in argv if argument.startswith("resume=")]
    return paths[-1] if paths else None


@dataclass(frozen=True)
class Kept:
    """What a checkpoint holds for a front door: the run's folder, its settings and command, and where it stood."""

    folder: Path
    cfg: DictConfig
    command: list[str]
    state: dict[str, Any]
    about: dict[str, Any]


def recall(path: str, typed: Sequence[str], *, door: str) -> Kept:
    """The interrupted run that `resume=<path>` names.

    Raises UserError for settings beside it, and for a checkpoint that another door or no command has written.
    """
    from gs_ssd.session.checkpoints import checkpoint_path, load_checkpoint
    from gs_ssd.session.config import recalled

    if door != "edit":
        check_alone(door)
    others = [argument for argument in typed if not argument.startswith("resume=")]
    if others:
        raise UserError(f"{others[0]}: a resumed run keeps its own settings; give resume= alone")
    folder = checkpoint_path(path).parent
    state, about = load_checkpoint(path, kind=_KINDS[door])
    if about.get("config") is None:
        made_by = "SceneEdit" if door == "edit" else "ImageEdit"
        raise UserError(f"{path} was not written by this command; use gs_ssd.{made_by}.resume, which made it")
    own = "edit" if door == "edit" else "image" if "image" in about["config"] else "generate"
    if own != door:
        raise UserError(f"{path} is a run of gs-ssd {own}; resume it there: gs-ssd {own} resume={path}")
    return Kept(folder, recalled(about["config"]), about["command"], state, about)


class Checkpoints:
    """The checkpoints of a run at a front door: written while it runs and where it stops, gone when it is finished.

    Args:
        config, command: of the run, for who resumes it.
        beside: what else the checkpoint holds.
    """

    def __init__(
        self,
        edit: Run,
        folder: Path,
        *,
        config: dict[str, Any],
        command: Sequence[str],
        every: int | None = None,
        beside: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        from gs_ssd.session.checkpoints import Keeper

        self.edit, self.keeper, self.beside = edit, Keeper(folder, every=every), beside
        self.own = {"config": config, "command": list(command)}

    def __call__(self, report: object) -> None:
        """After each step."""
        if self.edit.step < self.edit.num_steps and self.keeper.due(self.edit.step):
            self._keep()

    def stop(self, outcome: Outcome) -> None:
        """When the steps have ended; the last checkpoint is kept where some are left to do."""
        if outcome.stopped and self.edit.step < self.edit.num_steps:
            self._keep()

    def finish(self, outcome: Outcome) -> None:
        """When the results are written."""
        if not outcome.stopped:
            self.keeper.discard()

    def _keep(self) -> None:
        self.keeper.keep(self.edit.state_dict() | self.beside(), self.edit.about() | self.own)
