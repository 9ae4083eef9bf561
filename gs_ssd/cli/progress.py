"""Progress: a bar with an ETA on a terminal, a line every tenth of the way elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from gs_ssd.cli.signals import Signals
from gs_ssd.errors import NonFiniteError

if TYPE_CHECKING:
    from gs_ssd.edit.loop import StepReport

STOPPING = "stopping after this step, then writing the results; press Ctrl-C again to quit without them"
WRITING = "finishing the results first; press Ctrl-C again to quit without them"


@dataclass
class Outcome:
    """What ended the steps: the error, or a signal, or nothing but their number."""

    error: NonFiniteError | None = None
    stopped: bool = False


def follow(
    steps: Iterable[StepReport],
    *,
    done: int,
    total: int,
    name: str,
    signals: Signals,
    each: Callable[[StepReport], None] = lambda report: None,
) -> Outcome:
    """Run `steps`, show how far they are and call `each` after every one, until they end or a signal comes."""
    outcome = Outcome()
    signals.finish_first(STOPPING)
    show = _bar if sys.stderr.isatty() else _lines
    with show(done, total, name) as step_shown:
        try:
            for report in steps:
                each(report)
                step_shown(report)
                if signals.requested:
                    outcome.stopped = True
                    break
        except NonFiniteError as error:
            outcome.error = error
    signals.finish_first(WRITING)
    return outcome


class _bar:
    """tqdm's."""

    def __init__(self, done: int, total: int, name: str) -> None:
        self.bar = tqdm(total=total, initial=done, desc=name, unit="step")

    def __enter__(self) -> Callable[[StepReport], None]:
        return self._show

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def _show(self, report: StepReport) -> None:
        self.bar.update()
        if report.step % 10 == 0:
            self.bar.set_postfix(t=report.t, loss=f"{report.loss:.3g}")


class _lines:
    """For a log: no carriage returns."""

    def __init__(self, done: int, total: int, name: str) -> None:
        self.done, self.total, self.name = done, total, name
        self.shown = -1  # the first step gets a line: it compiles what later ones use
        self.begun = time.perf_counter()
        self.first = done

    def __enter__(self) -> Callable[[StepReport], None]:
        return self._show

    def __exit__(self, *exception: object) -> None:
        return None

    def _show(self, report: StepReport) -> None:
        self.done = report.step + 1
        tenth = self.done * 10 // self.total
        if tenth == self.shown:
            return
        self.shown = tenth
        spent = time.perf_counter() - self.begun
        left = spent / max(self.done - self.first, 1) * (self.total - self.done)
        print(
            f"{self.name}: {10 * tenth} % ({self.done} of {self.total} steps), {left:.0f} s left, "
            f"t {report.t}, loss {report.loss:.3g}",
            file=sys.stderr,
            flush=True,
        )
