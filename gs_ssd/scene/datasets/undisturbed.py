"""An import that leaves SIGTERM alone.

pycolmap's installs a handler of its own, which ends the process with a list of addresses.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Have SIGTERM do after the block what it did before; one that comes meanwhile is dealt with then."""
    handler = signal.getsignal(signal.SIGTERM)
    maskable = hasattr(signal, "pthread_sigmask")  # Unix
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if maskable else set()
    try:
        yield
    finally:
        if handler is not None:  # None: not set from Python
            with suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGTERM, handler)
        if maskable:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
