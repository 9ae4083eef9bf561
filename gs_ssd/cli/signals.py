"""Ctrl-C and SIGTERM: one line, and what there is is kept.

Before and between the steps a signal ends the command at once. During the steps it lets the current one finish; then
the results are written. While they are written it is noted and changes nothing; the second one ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any

NOTHING_YET = "nothing had been computed yet"


def end_at_once() -> None:
    """Have Ctrl-C end the process without a word, as it does other programs: before a command, and after it.

    Python's own handler raises an exception wherever it happens to be, in an import or at its own exit.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a shell's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class Interrupted(BaseException):
    """A signal ended the command; the message says what was kept. No Exception: nothing on the way may catch it."""


class Signals:
    """The handlers of one command, as a context."""

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is Unix's, for a terminal that is closed

    def __init__(self) -> None:
        self.requested = False  # whether a stop was asked for
        self.patient = False  # whether the work at hand finishes before it stops
        self.said = ""
        self.aloud = (
            True  # of several ranks none says it: their launcher may end them all for another's fault
        )
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self.hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        for name in self.NAMES:
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) == signal.SIG_IGN:  # nohup's SIGHUP stays ignored
                continue
            try:
                self.previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread
                return self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        sys.unraisablehook = self.hook

    def __reduce__(self) -> tuple[type[Signals], tuple[()]]:
        """Handlers stay in their process: in another, which a sweep's launcher starts, nothing was asked for yet."""
        return Signals, ()

    def check(self) -> None:
        """Raise Interrupted where a library swallowed one."""
        if self.requested and not self.patient:
            raise Interrupted(NOTHING_YET)

    def finish_first(self, said: str) -> None:
        """From now on a signal lets the work at hand finish; `said` is what the user is told."""
        self.check()
        self.patient, self.said = True, said

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            # Straight out: an exception that passes through compiled code can bring the process down less gently.
            _say("stopped before the results were whole; the last checkpoint, if any, is kept")
            os._exit(130)
        self.requested = True
        if not self.patient:
            raise Interrupted(NOTHING_YET)
        if self.aloud:
            _say(self.said)

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Say nothing of an Interrupted that could not get out of a destructor or a callback; `requested` knows."""
        if not isinstance(unraisable.exc_value, Interrupted):
            self.hook(unraisable)


def _say(line: str) -> None:
    print(f"\n{line}", file=sys.stderr, flush=True)
