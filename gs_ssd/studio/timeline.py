"""What can be undone and redone: states in a row, and which of them holds now."""

from __future__ import annotations

from typing import Generic, TypeVar

from gs_ssd.errors import UserError

State = TypeVar("State")


class Timeline(Generic[State]):
    """States, the first of which was there at the start. A new one takes the place of all that were undone.

    Args:
        first: the state at the start.
        what: what is undone, for the messages: "edit", "selection".
        most: how many are kept besides the first; the oldest of them go.
    """

    def __init__(self, first: State, *, what: str, most: int | None = None) -> None:
        self.what, self.most = what, most
        self._states, self._index = [first], 0

    @property
    def now(self) -> State:
        return self._states[self._index]

    @property
    def position(self) -> int:
        """How many steps could be undone."""
        return self._index

    @property
    def ahead(self) -> int:
        """How many could be redone."""
        return len(self._states) - 1 - self._index

    @property
    def done(self) -> list[State]:
        """The states from the second one to the one that holds now."""
        return self._states[1 : self._index + 1]

    @property
    def states(self) -> list[State]:
        """All states but the first, those that were undone too."""
        return self._states[1:]

    def push(self, state: State) -> None:
        self._states = [*self._states[: self._index + 1], state]
        if self.most is not None and len(self._states) > self.most + 1:
            del self._states[0]
        self._index = len(self._states) - 1

    def replace(self, state: State) -> None:
        """Put `state` in the place of the one that holds now; what was undone after it stays undone for good."""
        self._states = [*self._states[: self._index], state]

    def undo(self) -> State:
        """Go back to the state before; raises UserError at the first one."""
        if self._index == 0:
            raise UserError(f"there is no {self.what} to undo")
        self._index -= 1
        return self.now

    def redo(self) -> State:
        """The counterpart of `undo`."""
        if self.ahead == 0:
            raise UserError(f"there is no {self.what} to redo")
        self._index += 1
        return self.now
