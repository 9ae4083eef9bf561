"""Ctrl-C and SIGTERM at random moments: never a traceback, and what was computed is kept."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from gs_ssd.scene import load_gaussians, save_gaussians
from tests.processes import processes
from tests.synthetic import random_gaussians
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
FAST = [
    "diffusion=tiny",
    "device=cpu",
    "resolution=64",
    "render.frames=4",
    "render.size=64",
    "metrics.views=4",
]
# GS_SSD_MOMENTS=40 pytest tests/cli/test_signals.py -k any_moment -m slow -s is the count of docs/robustness.md.
MOMENTS = int(os.environ.get("GS_SSD_MOMENTS", "4"))
PROMPTS = ["prompt.source=a photo", "prompt.target=a drawing"]


# Python's own start answers Ctrl-C with a traceback. What comes after it begins when the file is there.
AFTER_PYTHONS_START = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
open(sys.argv.pop(1), "w").close()
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def start(tmp_path: Path, *settings: str, python: Sequence[str] = (), **streams) -> subprocess.Popen:
    scene = tmp_path / "ball.ply"
    if not scene.exists():
        save_gaussians(random_gaussians(300), scene)
    command = [
        sys.executable, *python, str(ROOT / "train.py"), f"scene={scene}", *FAST, *PROMPTS, *settings
    ]  # fmt: skip
    return subprocess.Popen(command, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **streams)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> float:
    """Seconds that an undisturbed run takes."""
    folder, begun = tmp_path_factory.mktemp("whole"), time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    assert start(folder, "steps=20", f"output_dir={folder / 'out'}", **pipes).communicate()[1]
    return time.perf_counter() - begun


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_at_any_moment_ends_in_a_line(number, whole, tmp_path):
    """At MOMENTS random ones between the start and the end of an undisturbed run."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    moments, ended = random.Random(int(number)), Counter()
    for i in range(MOMENTS):
        out = tmp_path / f"out{i}"
        begun = tmp_path / f"begun{i}"
        python = ["-c", AFTER_PYTHONS_START, str(begun)]
        process = start(tmp_path, "steps=20", f"output_dir={out}", python=python, **pipes)
        until(begun.exists)
        time.sleep(moments.uniform(0, 1) * whole)
        process.send_signal(number)
        said, complained = process.communicate(timeout=PATIENCE)
        assert "Traceback" not in complained + said, complained
        assert process.returncode in (0, 130, -number)
        kept = (out / "edited.ply").exists() or (out / "checkpoint.safetensors").exists()
        steps_were_done = " of 20 steps)" in complained
        assert kept or not steps_were_done, complained
        if "edited " in said:
            assert len(load_gaussians(out / "edited.ply")) > 0 and (out / "run.json").is_file()
        phase = "finished" if "20 of 20 steps in" in said else "stopped" if "edited " in said else "set up"
        ended[phase if process.returncode in (0, 130) else "ended by the signal, before a command"] += 1
    print(f"\n{signal.Signals(number).name}: {dict(ended)}")


@pytest.mark.slow
def test_a_stopped_run_is_kept_and_goes_on_to_the_same_bytes(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    settings = ["steps=40", "densify.start=6", "densify.every=6", "checkpoint.every=1"]
    assert start(tmp_path, *settings, f"output_dir={whole}").wait(timeout=PATIENCE) == 0
    process = start(tmp_path, *settings, f"output_dir={part}", stderr=subprocess.PIPE)
    while "(8 of 40 steps)" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (part / "edited.ply").exists()
    resumed = [sys.executable, str(ROOT / "train.py"), f"resume={part}"]
    done = subprocess.run(resumed, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert (whole / "edited.ply").read_bytes() == (part / "edited.ply").read_bytes()
    again = subprocess.run(resumed, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 2 and "a finished run has none" in again.stderr


@pytest.mark.slow
def test_streams_that_break_cost_nothing(tmp_path):
    for name, streams in (
        ("closed", {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}),
        ("full", {"stdout": open("/dev/full", "w"), "stderr": open("/dev/full", "w")}),  # noqa: SIM115
    ):
        out = tmp_path / name
        process = start(tmp_path, "steps=3", "no_edit_guard=false", f"output_dir={out}", **streams)
        if process.stdout is not None:
            process.stdout.close()
        assert process.wait(timeout=PATIENCE) == 0
        assert (out / "run.json").is_file() and (out / "turntable.mp4").is_file()


def test_commands_answer_what_is_mistyped(capsys):
    from gs_ssd.cli.main import main

    assert main(["--version"]) == 0 and main([]) == 0
    assert main(["edti"]) == 2
    assert "did you mean edit?" in capsys.readouterr().err
    for typed, message in (
        (["edit", "--prompt", "a clown"], 'such as prompt.target="a clown"'),
        (["edit", "--scene", "x"], "such as scene=my.ply"),
        (["edit", "clown"], "'clown' is no setting"),
        (["edit", "stepz=3"], "did you mean steps?"),
        (["edit", "experiment=quick"], "preset=quick"),
        (["edit", "resume=nowhere"], "no such checkpoint: nowhere"),
        (["edit", "resume=nowhere", "steps=3"], "keeps its own settings"),
    ):
        assert main(typed) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and message in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, moment",
    [(signal.SIGTERM, "the worker starts"), (signal.SIGTERM, "it edits"), (signal.SIGKILL, "it edits")],
    ids=["SIGTERM at its start", "SIGTERM", "SIGKILL"],
)
def test_an_evaluation_that_is_ended_leaves_no_worker(number, moment, tmp_path):
    out, overrides = tmp_path / "out", ",".join([*FAST, "steps=100000", "render.sheet_size=16"])
    settings = ["scenes=[face]", "prompts=[clown]", "guidance=ssd", "rates=[1]", f"overrides=[{overrides}]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gs_ssd.cli.main", "evaluate", *settings, f"output_dir={out}"],
        cwd=ROOT,
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a process group of its own, which is there as long as one of them is
    )
    said = ""
    while "edits:" not in said:
        said += process.stderr.read(1)
        assert process.poll() is None, said
    while moment == "it edits" and not list(out.rglob("log.txt")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    complained = process.communicate(timeout=PATIENCE)[1]
    if number == signal.SIGTERM:
        assert process.returncode == 130 and "Traceback" not in complained
        assert complained.endswith("stopped: the same command resumes here; finished runs are kept\n")
    try:
        until(lambda: is_empty(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def is_empty(group: int) -> bool:
    """Whether no process of the group lives; the dead may wait for whoever adopted them."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    members = [process for process in processes() if process.group == group]
    return bool(members) and all(process.state == "Z" for process in members)


TERMINATED = """
import os, signal
from gs_ssd.cli.signals import Interrupted, Signals
with Signals() as signals:
    import gs_ssd.evaluation.evaluate, gs_ssd.session.edit, gs_ssd.session.image  # load pycolmap
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        os.getpid()
    except Interrupted:
        print("caught")
"""


@pytest.mark.slow
def test_sigterm_is_ours_after_the_readers_are_loaded():
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE
    )
    assert done.stdout == "caught\n" and not done.stderr, done.stderr


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE
    )


SIGNALLED = """
import os, signal
from gs_ssd.cli.signals import Signals, end_at_once
end_at_once()
def send(name): os.kill(os.getpid(), getattr(signal, name))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_ends_in_a_line_before_there_is_anything_to_keep(name):
    code = f"from gs_ssd.cli.app import guarded\nraise SystemExit(guarded(lambda signals: send({name!r})))"
    done = python(SIGNALLED + code)
    assert (done.returncode, done.stderr) == (130, "stopped: nothing had been computed yet\n")


def test_a_second_ctrl_c_ends_in_a_line_too():
    code = "with Signals() as signals:\n    signals.finish_first('finishing')\n    send('SIGINT')\n    send('SIGINT')"
    done = python(SIGNALLED + code)
    assert done.returncode == 130 and done.stderr.split("\n")[1::2] == [
        "finishing",
        "stopped before the results were whole; the last checkpoint, if any, is kept",
    ]


def test_before_and_after_a_command_ctrl_c_ends_without_a_word():
    for code in ("send('SIGINT')", "with Signals():\n    pass\nsend('SIGINT')"):
        done = python(SIGNALLED + code)
        assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_signal_that_meets_a_destructor_is_not_lost():
    """Python can't raise what comes out of one, and used to print it."""
    code = """
class Held:
    def __del__(self):
        send("SIGINT")
with Signals() as signals:
    Held()
    try:
        signals.check()
    except BaseException as error:
        print(type(error).__name__)
"""
    done = python(SIGNALLED + code)
    assert (done.stdout, done.stderr) == ("Interrupted\n", "")


@pytest.mark.parametrize("swallowed_by", ["an import that fails later", "nothing that fails"])
def test_a_signal_that_a_library_swallows_still_stops_the_command(swallowed_by, capsys):
    """numpy's own import, broken off, says "cannot load module more than once per process" later on."""
    from gs_ssd.cli.app import launch

    def job(cfg, signals):
        with contextlib.suppress(BaseException):  # as libraries' imports do
            os.kill(os.getpid(), signal.SIGINT)
        if swallowed_by == "an import that fails later":
            raise ImportError("cannot load module more than once per process")
        signals.finish_first("stopping")
        raise AssertionError("went on")

    assert launch(job, "train", ["device=cpu"]) == 130
    assert capsys.readouterr().err == "stopped: nothing had been computed yet\n"


IN_A_TERMINAL = """
import os, sys
os.open(os.ttyname(0), os.O_RDWR)  # the first of a session to open it owns it
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its terminals send no SIGHUP")
def test_a_terminal_that_is_closed_keeps_the_edit(tmp_path):
    """What was computed is written, though nobody is left to tell."""
    import termios

    save_gaussians(random_gaussians(300), tmp_path / "ball.ply")
    typed = [
        f"scene={tmp_path / 'ball.ply'}",
        *FAST,
        *PROMPTS,
        "steps=100000",
        f"output_dir={tmp_path / 'out'}",
    ]
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-c", IN_A_TERMINAL, str(ROOT / "train.py"), *typed]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(command, start_new_session=True, **streams)
    os.close(theirs)
    said = b""
    while not re.search(rb" [1-9]\d*/100000 ", said):
        said += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == 0
    assert b"\rssd:" in said  # a bar, on a terminal
    assert (
        len(load_gaussians(tmp_path / "out" / "edited.ply")) > 0 and (tmp_path / "out" / "run.json").is_file()
    )
