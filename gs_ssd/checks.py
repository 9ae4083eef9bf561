"""Checks of settings by type and range, for the command line and for callers of the library alike.

Each returns the value in its plain type or raises UserError: one line that names the setting, the value and what
would do. `name` is what the user typed it as, such as "scene.radius" or "densify.every".
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable

from gs_ssd.errors import UserError

_SHOWN = 60  # characters of a wrong value that a message repeats


def whole(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int within [`least`, `most`]; a float, a bool or a word is refused."""
    fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not fits or not _within(int(value), least, most):  # type: ignore[call-overload]
        raise UserError(f"{name}={_shown(value)} must be a whole number{_limits(least, most)}")
    return int(value)  # type: ignore[call-overload]


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """`value` as a finite float with `above` < value < `below` and `least` <= value <= `most`, where given."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
    converted = _as_float(value) if fits else math.nan
    if not (
        math.isfinite(converted)
        and _within(converted, least, most)
        and (above is None or converted > above)
        and (below is None or converted < below)
    ):
        raise UserError(f"{name}={_shown(value)} must be a number{_limits(least, most, above, below)}")
    return converted


def vector(
    name: str,
    value: object,
    length: int,
    *,
    least: float | None = None,
    most: float | None = None,
) -> tuple[float, ...]:
    """`value` (a list, tuple, array or tensor) as `length` finite floats within [`least`, `most`]."""
    items = list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict) else []
    plain = [item.item() if getattr(item, "ndim", None) == 0 else item for item in items]
    if len(plain) == length:
        try:
            return tuple(number(name, item, least=least, most=most) for item in plain)
        except UserError:
            pass  # the message below shows the whole list
    raise UserError(f"{name}={_shown(value)} must be a list of {length} numbers{_limits(least, most)}")


def interval(
    name: str, value: object, *, least: float | None = None, most: float | None = None
) -> tuple[float, float]:
    """`value` as (low, high) with `least` <= low <= high <= `most`."""
    try:
        low, high = vector(name, value, 2, least=least, most=most)
    except UserError as error:
        raise UserError(f"{error}, the lower one first") from None
    if low > high:
        raise UserError(
            f"{name}={_shown(value)} must be a list of 2 numbers{_limits(least, most)}, the lower one first"
        )
    return low, high


def switch(name: str, value: object) -> bool:
    """`value` if it is a bool; 0, 1 and words are refused."""
    if not isinstance(value, bool):
        raise UserError(f"{name}={_shown(value)} must be true or false")
    return value


def choice(name: str, value: object, known: Iterable[str]) -> str:
    """`value` if it is one of the words `known`."""
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise UserError(f"{name}={_shown(value)} must be one of {', '.join(known)}")
    return value


def words(name: str, value: object) -> str:
    """`value` if it is text of more than spaces."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{name}={_shown(value)} must be text")
    return value


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _as_float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number of 400 digits
        return math.inf


def _limits(
    least: float | None, most: float | None, above: float | None = None, below: float | None = None
) -> str:
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}" if abs(most) < 1e6 else f" from {least:g} to {most}"
    parts = [
        f"{word} {limit:g}"
        for word, limit in (("above", above), ("at least", least), ("below", below), ("at most", most))
        if limit is not None
    ]
    return f" {' and '.join(parts)}" if parts else ""


def _shown(value: object) -> str:
    """The value as typed, on one line and not longer than a message can bear."""
    try:
        text = "null" if value is None else str(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        text = f"{type(value).__name__} of {value.bit_length()} bits" if isinstance(value, int) else "?"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
