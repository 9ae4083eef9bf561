"""Odd settings and odd calls at the front doors: an edit or one line, never a traceback, and never a hang.

Both are slow and try some; ODD_SETTINGS=250 ODD_CALLS=120 with `-s` makes the counts of docs/robustness.md.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gs_ssd.cli.main import COMMANDS, main
from gs_ssd.render import compile_kernels
from gs_ssd.scene import save_gaussians
from gs_ssd.session.config import compose
from gs_ssd.session.shorthands import dotted_keys
from tests.synthetic import random_gaussians

SETTINGS, CALLS = int(os.environ.get("ODD_SETTINGS", "16")), int(os.environ.get("ODD_CALLS", "40"))
SECONDS, PATIENCE = 60, 900  # of the processor, and in all, after which a call counts as hanging
FAST = [
    *("diffusion=tiny", "device=cpu", "resolution=64", "steps=1", "metrics.views=1", "metrics.size=16"),
    *("render.frames=2", "render.size=16", "render.sheet_size=16", "render.sheet_views=1"),
    *("prompt.source=a photo", "prompt.target=a drawing", "no_edit_guard=false"),
]
ODD = [
    *(
        "null",
        "nan",
        "inf",
        "-1",
        "0",
        "0.5",
        "1e30",
        "-0.0",
        "99999999999999999999",
        "true",
        "abc",
        "''",
        " ",
    ),
    *(
        "[]",
        "[1,2]",
        "[x]",
        "{}",
        "{a:1}",
        "???",
        "${x}",
        "${oc.env:HOME}",
        "../../x",
        "/",
        "é",
        "日本",
        "🙂",
        "a\nb",
    ),
    *("x" * 300, "\\", "'", '"', "a=b", "[[1]]", "1_000", "0x10"),
]
LONG = {("steps", "99999999999999999999")}  # which is long, not wrong
ARGUMENTS = [
    *(
        [],
        ["--help"],
        ["-h"],
        ["x"],
        ["="],
        ["=x"],
        ["a="],
        ["--"],
        ["-x"],
        ["--prompt", "a clown"],
        ["é=日本"],
    ),
    *(["scene=nowhere.ply"], ["scene=."], ["scene=/dev/null"], ["run=nowhere"], ["image=nowhere.png"]),
    *(
        ["output_dir=/proc/x"],
        ["resume=nowhere"],
        ["seed=abc"],
        ["x" * 5000],
        ["scene=" + "x" * 300],
        ["nothing=1"],
    ),
    *(
        ["++steps=x"],
        ["~steps"],
        ["~nothing"],
        ["steps=1", "steps=x"],
        ["a.b.c=1"],
        ["--cfg"],
        ["scene"],
        ["null"],
    ),
]


@contextmanager
def in_time():
    """Raise TimeoutError where the body takes too long."""

    def late(*_):
        raise TimeoutError

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = [signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])


def outcome(capsys, *arguments: str) -> str:
    """What a call ended in; "failed: ..." where that was no exit code with at most one line of error."""
    try:
        with in_time():
            code = main(arguments)
    except SystemExit as error:  # how argparse, which `convert` is made of, ends
        code = error.code
    except BaseException as error:  # whatever a user would see as a traceback
        return f"failed: {type(error).__name__}: {error}"
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if "error: " in line]
    if code == 2 and len(errors) == 1 and said.strip().endswith(errors[0]):
        return "refused"
    return "done" if code in (0, 3, 4) and len(errors) <= 1 else f"failed: {code}, {said[-300:]!r}"


@pytest.fixture
def scene(tmp_path, monkeypatch) -> Path:
    compile_kernels()  # not within a call's time
    monkeypatch.chdir(tmp_path)
    save_gaussians(random_gaussians(60), tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


@pytest.mark.slow
def test_odd_settings(scene, tmp_path, capsys):
    plain = OmegaConf.to_container(
        compose(["scene=x.ply", "prompt.target=x", "diffusion=tiny"]), resolve=False
    )
    plain.pop("hydra", None)
    pairs = [(key, value) for key in dotted_keys(plain) for value in ODD if (key, value) not in LONG]
    chosen = random.Random(0).sample(pairs, SETTINGS)
    ended = {
        f"{key}={value}": outcome(
            capsys, "edit", f"scene={scene}", *FAST, f"output_dir={tmp_path / str(i)}", f"{key}={value}"
        )
        for i, (key, value) in enumerate(chosen)
    }
    report(ended, "odd settings")


@pytest.mark.slow
def test_odd_calls(scene, capsys):
    calls = [[command, *arguments] for command in COMMANDS for arguments in ARGUMENTS]
    calls = [call for call in calls if call[1:] or call[0] not in ("edit", "evaluate", "doctor")]  # real work
    chosen = random.Random(0).sample(calls, CALLS)
    report({" ".join(call)[:80]: outcome(capsys, *call) for call in chosen}, "odd calls")


def report(ended: dict[str, str], what: str) -> None:
    failed = {call: end for call, end in ended.items() if end.startswith("failed")}
    print(f"\n{len(ended)} {what}: {dict(Counter(end.partition(':')[0] for end in ended.values()))}")
    assert not failed, "\n".join(f"{call}: {end}" for call, end in failed.items())
