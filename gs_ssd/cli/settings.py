"""`name=value` settings of the small commands: a dataclass says which there are, of what type, and what they mean.

Nothing here imports torch: a mistyped setting is answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

from gs_ssd.errors import UserError

Settings = TypeVar("Settings")


def setting(meaning: str, default: Any = MISSING) -> Any:
    """A field of a settings dataclass; without a default it must be given."""
    return field(default=default, metadata={"meaning": meaning})


def parse(kind: type[Settings], arguments: Sequence[str]) -> Settings:
    """The dataclass `kind` filled from `name=value` arguments, all text taken literally.

    Fields are str, int, float or tuple[float, ...] (as "[1,0.5,0]" or "1,0.5,0"), or one of them and None ("null").
    Raises UserError for an unknown or a missing name and for a value of another type; ranges are the dataclass's own.
    """
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name[2:] in known:
            raise UserError(f"{argument}: settings are written {name[2:]}={value or '...'}")
        if not equals or name not in known:
            close = get_close_matches(name, known, n=1)
            near = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(f"no setting is called {name!r}{near}; there are: {', '.join(known)}")
        values[name] = _typed(name, value, hints[name])
    missing = [name for name, entry in known.items() if entry.default is MISSING and name not in values]
    if missing:
        raise UserError(f"{missing[0]}= is missing: {known[missing[0]].metadata['meaning']}")
    return kind(**values)


def usage(kind: type, header: str) -> str:
    """What `--help` prints: `header`, then a line per setting."""
    entries = fields(kind)
    width = max(len(entry.name) for entry in entries) + 2
    return "\n".join([header, "", *(f"  {entry.name + '=':<{width}}{_meaning(entry)}" for entry in entries)])


def _meaning(entry: Field) -> str:
    default = entry.default
    if default is MISSING or default is None:
        return entry.metadata["meaning"]
    shown = list(default) if isinstance(default, tuple) else default
    return f"{entry.metadata['meaning']} ({shown})"


def _typed(name: str, value: str, hint: Any) -> Any:
    kinds = getattr(hint, "__args__", None) if type(None) in getattr(hint, "__args__", ()) else None
    if kinds is not None:
        if value == "null":
            return None
        hint = next(kind for kind in kinds if kind is not type(None))
    try:
        if hint is str:
            return _filled(value)
        if hint in (int, float):
            return hint(value)
        return tuple(float(part) for part in value.strip("[]()").split(","))
    except ValueError:
        expected = {int: "a whole number", float: "a number", str: "text"}.get(hint, "a list of numbers")
        raise UserError(f"{name}={value} must be {expected}") from None


def _filled(value: str) -> str:
    if not value:
        raise ValueError
    return value
