"""An edit that runs: pulled step by step in a thread of its own, paused, stopped, looked at."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from gs_ssd.edit.loop import StepReport
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.session.edit import SceneEdit

PREPARING, RUNNING, PAUSED, STOPPING, OVER = "preparing", "running", "paused", "stopping", "over"


_LOOK = 0.2  # seconds between looks at what may end a pause


@dataclass(frozen=True)
class Snapshot:
    """The scene as it was after a step."""

    gaussians: Gaussians
    step: int


class Runner:
    """One edit on its way.

    Whoever pulls the edit calls `observe` after every step; `start` pulls it in a thread. The scene is copied only
    where somebody asked for a snapshot, between two steps. After the step `stop_after`, if it is given, it stops.
    """

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.state = PREPARING
        self.edit: SceneEdit | None = None
        self.snapshot: Snapshot | None = None
        self.reports: list[StepReport] = []
        self.seconds = 0.0  # spent on steps, pauses left out
        self._first = 0.0  # seconds of the first step
        self._since = time.perf_counter()
        self._go, self._wanted, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._go.set()
        self._thread: threading.Thread | None = None

    def start(
        self, make: Callable[[], SceneEdit], finished: Callable[[SceneEdit | None, str | None], None]
    ) -> None:
        """Pull an edit in a thread.

        Args:
            make: makes the edit; it may take long (a prior is loaded), so the thread calls it.
            finished: called once at the end, with the edit (None where it could not be made) and what went wrong.
        """
        self._thread = threading.Thread(
            target=self._pull, args=(make, finished), name="studio edit", daemon=True
        )
        self._thread.start()

    def pause(self) -> None:
        """Let the step at hand finish, then wait."""
        if self.state not in (PREPARING, RUNNING):
            raise UserError(f"the edit is {self.state}; there is nothing to pause")
        self._go.clear()
        self.state = PAUSED

    def resume(self) -> None:
        if self.state != PAUSED:
            raise UserError(f"the edit is {self.state}, not paused")
        self.state = RUNNING
        self._go.set()

    def stop(self) -> None:
        """Let the step at hand finish, then keep what there is."""
        self._stop.set()
        self.state = STOPPING if self.state != OVER else OVER
        self._go.set()

    def want_snapshot(self) -> None:
        """Ask for a new snapshot after the step at hand."""
        self._wanted.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; returns whether it came."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def num_steps(self) -> int:
        return 0 if self.edit is None else self.edit.num_steps

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before the second step, since the first compiles what later ones use."""
        done = len(self.reports)
        if done < 2 or self.edit is None:
            return None
        return (self.edit.num_steps - done) * (self.seconds - self._first) / (done - 1)

    def begin(self, edit: SceneEdit) -> None:
        """Take over an edit that is about to be pulled."""
        self.edit = edit
        self.reports = edit.reports
        if self.state == PREPARING:
            self.state = RUNNING
        self._since = time.perf_counter()

    def observe(self, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """To be called after each step: takes a snapshot if one is wanted, waits while paused; False: stop.

        `interrupted` ends a pause from outside, such as a signal.
        """
        edit = self.edit
        assert edit is not None
        self.seconds += time.perf_counter() - self._since
        self._first = self._first or self.seconds
        if self._wanted.is_set():
            self._wanted.clear()
            self.snapshot = Snapshot(edit.gaussians, edit.step)
        if not self._go.is_set():
            self.snapshot = Snapshot(edit.gaussians, edit.step)
            while not self._go.wait(_LOOK) and not interrupted():
                pass
        self._since = time.perf_counter()
        return not self._stop.is_set() and edit.step != self.stop_after

    def finish(self) -> None:
        """No step follows: what the last one left is shown until the end."""
        assert self.edit is not None
        self.state, self.snapshot = STOPPING, Snapshot(self.edit.gaussians, self.edit.step)

    def _pull(
        self, make: Callable[[], SceneEdit], finished: Callable[[SceneEdit | None, str | None], None]
    ) -> None:
        problem = None
        try:
            self.begin(make())
            assert self.edit is not None
            self._go.wait()  # paused before the first step
            if not self._stop.is_set():
                for _ in self.edit:
                    if not self.observe():
                        break
        except NonFiniteError as error:
            problem = f"{error}; stopped before it reached the scene, the steps so far are kept"
        except UserError as error:
            problem = str(error)
        except MemoryError:
            problem = "out of memory; use a smaller scene, or a lower resolution="
        except Exception as error:  # a thread's end would be silent, and the page would wait forever
            traceback.print_exc()
            problem = f"the edit broke off ({type(error).__name__}: {error}); what was there before is kept"
        finished(self.edit, problem)
        self.state, self.snapshot = OVER, None
