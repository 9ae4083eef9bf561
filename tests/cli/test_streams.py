"""What a terminal can't show, and a stream that breaks: never an error, never a lost edit."""

from __future__ import annotations

import io
import sys

import pytest

from gs_ssd.cli.streams import keep_streams_open


class Broken(io.RawIOBase):
    """A pipe whose reader is gone, a full disk, a terminal that was closed."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        raise self.error


@pytest.fixture
def streams(monkeypatch):
    """Put streams in the place of the process's own; monkeypatch puts those back."""

    def put(stdout, stderr):
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", stderr)
        keep_streams_open()

    return put


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_terminal_without_the_letters_shows_escapes(streams, errors):
    written = io.BytesIO()
    streams(io.TextIOWrapper(written, encoding="ascii", errors=errors), sys.stderr)
    print("a man \u2192 a clown", flush=True)
    assert written.getvalue() == b"a man \\u2192 a clown\n"


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("I/O on closed file")]
)
def test_a_stream_that_breaks_is_dropped(streams, error):
    streams(*(io.TextIOWrapper(io.BufferedWriter(Broken(error)), line_buffering=True) for _ in range(2)))
    for stream in (sys.stdout, sys.stderr):
        assert stream.write("a line\n") == 7
        print("another", file=stream, flush=True)
        stream.flush()


def test_streams_that_were_closed_before_the_start_are_there(streams):
    streams(None, None)
    print("a line")
    print("a line", file=sys.stderr, flush=True)


def test_it_is_done_once(streams):
    streams(io.StringIO(), io.StringIO())
    first = sys.stdout
    keep_streams_open()
    assert sys.stdout is first
