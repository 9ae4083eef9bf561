"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 600.0  # seconds after which something hangs: a machine that does much else is slow, not wrong


def until(condition: Callable[[], Any], *, every: float = 0.02) -> None:
    """Return as soon as `condition()` is true; asked again after `every` seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(every)
