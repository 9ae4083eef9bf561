"""What every edit is: steps that can be looked at, stopped, gone on with, saved and resumed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gs_ssd.checks import whole
from gs_ssd.diffusion.fingerprint import fingerprint
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.timesteps import TimestepSampler
from gs_ssd.edit.image import ImageCanvas
from gs_ssd.edit.loop import Canvas, StepReport, distil
from gs_ssd.edit.refit import Refit, refit
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.translate import translate
from gs_ssd.editors.base import Editor
from gs_ssd.errors import UserError
from gs_ssd.guidance.base import Guidance
from gs_ssd.ranks import ALONE, Ranks
from gs_ssd.session.checkpoints import save_checkpoint
from gs_ssd.session.footprints import levers

# What edits: a score's formula, pictures and a refit, or a walk of one picture.
Method = Guidance | Refit | Editor


class Run:
    """The steps of an edit, as an iterator. It prints nothing, reads no configuration and touches no signal.

        for report in edit: ...     # break stops it, another loop goes on

    It has its own random states: neither what else the process draws nor another edit beside it changes a result.
    """

    def __init__(
        self,
        canvas: Canvas,
        *,
        prior: DiffusionPrior,
        guidance: Method,
        timesteps: TimestepSampler | None,
        num_steps: int,
        generator: torch.Generator,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.canvas, self.prior, self.guidance, self.timesteps = canvas, prior, guidance, timesteps
        self.num_steps = whole("steps", num_steps, least=1)
        self.generator, self.seed, self.ranks = generator, seed, ranks
        self.reports: list[StepReport] = []
        self._global = _fresh_states(seed)
        self._steps: Iterator[StepReport] | None = None

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.reports)

    @property
    def device(self) -> torch.device:
        """Where what is edited is."""
        return torch.device(self.prior.device)

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> StepReport:
        """Do one step.

        Raises NonFiniteError where a number broke (what is edited is as it was before the step) and StopIteration at
        the end.
        """
        if self._steps is None:
            self._steps = self._loop()
        try:
            with self._own_random_state():
                report = next(self._steps)
        except torch.OutOfMemoryError as error:
            self._steps = None
            raise UserError(
                f"the GPU is out of memory at step {self.step}; what lowers it: {', '.join(self.levers())}"
            ) from error
        except BaseException:
            self._steps = None  # a generator that raised is over; the next call begins where this step began
            raise
        self.reports.append(report)
        return report

    def _loop(self) -> Iterator[StepReport]:
        """The steps that are left, by the loop of the method's family."""
        common: dict[str, Any] = {
            "num_steps": self.num_steps,
            "generator": self.generator,
            "start": self.step,
        }
        if isinstance(self.guidance, Refit):
            assert isinstance(self.canvas, SplatCanvas)
            return refit(self.canvas, method=self.guidance, **common)
        if isinstance(self.guidance, Editor):
            assert isinstance(self.canvas, ImageCanvas)
            return translate(self.canvas, prior=self.prior, editor=self.guidance, **common)
        assert self.timesteps is not None
        return distil(
            self.canvas,
            prior=self.prior,
            guidance=self.guidance,
            timesteps=self.timesteps,
            ranks=self.ranks,
            **common,
        )

    def levers(self) -> list[str]:
        """The settings that would lower the GPU's memory and are not in use."""
        return levers(self.prior.about(), views=getattr(self.canvas, "views_per_step", 1))

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Swap torch's global random states, from which gsplat's split draws, for this edit's own."""
        outer = _states()
        _set_states(self._global)
        try:
            yield
        finally:
            self._global = _states()
            _set_states(outer)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, and the reports of those done."""
        return {
            "canvas": self.canvas.state_dict(),
            "guidance": self.guidance.state_dict(),
            "generator": self.generator.get_state(),
            "global": self._global,
            "reports": [asdict(report) for report in self.reports],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`: the steps to come are those of the run that wrote it, bit for bit on a CPU."""
        self.canvas.load_state_dict(state["canvas"])
        self.guidance.load_state_dict(state["guidance"])
        self.generator.set_state(state["generator"])
        self._global = dict(state["global"])
        self.reports = [StepReport(**report) for report in state["reports"]]
        self._steps = None

    def check_and_load(self, state: dict[str, Any], about: dict[str, Any], path: str | os.PathLike) -> None:
        """Take over a checkpoint's state; raise UserError where it is another source's or another prior's."""
        self.check_source(about, path)
        prior, own = about["prior"], fingerprint(self.prior)
        if prior["digest"] != own:
            raise UserError(
                f"{path} was made with the prior {prior['name']} ({short(prior['digest'])}), this one is "
                f"{self.prior.name} ({short(own)}); give that one"
            )
        self.load_state_dict(state)

    def check_source(self, about: dict[str, Any], path: str | os.PathLike) -> None:
        """Raise UserError unless the checkpoint at `path` is of what is edited here."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """What a checkpoint says besides the state: the settings, as plain data."""
        raise NotImplementedError

    def save_checkpoint(self, path: str | os.PathLike) -> Path:
        """Write a checkpoint to the file or folder `path`; returns the file."""
        return save_checkpoint(path, self.state_dict(), self.about())


def check_levels(guidance: Method | None, timesteps: TimestepSampler | None) -> None:
    """Raise UserError for timesteps beside a method that walks noise levels of its own."""
    if timesteps is not None and isinstance(guidance, Refit | Editor):
        raise UserError(
            f"timesteps={type(timesteps).__name__} is for methods that distil; {guidance.name} walks noise levels of "
            "its own: leave it out, and set the method's strength"
        )


def short(digest: str | None) -> str:
    """A digest as a person compares it."""
    return "none" if digest is None else digest[:12]


def _states() -> dict[str, Any]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return states


def _set_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        if name != "cpu" and torch.cuda.is_available():
            torch.cuda.set_rng_state(state, name)


def _fresh_states(seed: int) -> dict[str, Any]:
    """The global states as `torch.manual_seed(seed)` leaves them."""
    states = {"cpu": torch.Generator().manual_seed(seed).get_state()}
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            states[f"cuda:{i}"] = torch.Generator(f"cuda:{i}").manual_seed(seed).get_state()
    return states
