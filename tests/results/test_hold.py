"""A folder is written by one run at a time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gs_ssd.errors import UserError
from gs_ssd.results.hold import NAME, Hold
from tests.waiting import until

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from gs_ssd.results.hold import Hold
with Hold() as hold:
    hold.take(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other():
    """Starts another process that holds a folder until its standard input ends."""
    running = []

    def start(folder: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        running.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_what_another_process_holds_is_refused_until_it_ends(other, tmp_path):
    folder = tmp_path / "out"
    process = other(folder)
    with Hold() as hold:
        with pytest.raises(
            UserError, match=rf"output_dir .*: process {process.pid} writes there .*choose another"
        ):
            hold.take(folder)
        with pytest.raises(UserError, match=f"process {process.pid}"):
            hold.take(folder / "01")  # a session's edit
        assert [path.name for path in folder.iterdir()] == [NAME]
        process.communicate("")
        hold.take(folder)
        assert folder.is_dir()
    assert not folder.exists()  # empty, and made for this alone


def test_the_lock_of_a_killed_process_blocks_nobody(other, tmp_path):
    process = other(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / NAME).exists()
    with Hold() as hold:
        hold.take(tmp_path)
        with Hold() as within:
            within.take(tmp_path)  # the same process
        assert re.search(rf'"process": {os.getpid()}\b', (tmp_path / NAME).read_text())
    assert not list(tmp_path.iterdir()) and tmp_path.exists()


def test_what_anybody_wrote_into_the_file_is_no_lock(tmp_path):
    for content in ("", "[]", "{", '{"process": 1, "token": "x"}'):
        (tmp_path / NAME).write_text(content)
        with Hold() as hold:
            hold.take(tmp_path)


def test_only_one_of_many_that_come_at_once_gets_the_folder(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from gs_ssd.results.hold import Hold
        sys.stdin.readline()
        try:
            hold = Hold()
            hold.take(sys.argv[1])
            print("held", flush=True)
        except ValueError:
            print("refused", flush=True)
        sys.stdin.read()
        """
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    many = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], **pipes) for _ in range(4)]
    for process in many:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in many]
    for process in many:
        process.communicate("")
    assert sorted(said) == ["held", "refused", "refused", "refused"]


@pytest.mark.slow
def test_a_result_is_saved_by_one_process_at_a_time(other, tmp_path):
    """From Python, too; who holds the folder already, as the command line does, saves into it."""
    from tests.session import small

    edit = small.edit(1)
    list(edit)
    result, out = edit.finish(), tmp_path / "out"
    process = other(out)
    with pytest.raises(UserError, match=f"process {process.pid} writes there"):
        result.save(out)
    assert [path.name for path in out.iterdir()] == [NAME]
    process.communicate("")
    videos = result.videos(frames=2, size=32, sheet_views=2, sheet_size=32)
    result.save(out, videos=videos)
    assert (out / "run.json").exists() and not (out / NAME).exists()
    with Hold() as hold:
        hold.take(out)
        result.save(out, videos=videos)
        assert (out / NAME).exists()


@pytest.mark.slow
def test_a_second_run_into_the_folder_of_a_living_one_is_refused_before_any_work(tmp_path):
    from gs_ssd.scene import save_gaussians
    from tests.cli.test_output_folder import FAST
    from tests.synthetic import random_gaussians

    save_gaussians(random_gaussians(200), tmp_path / "small.ply")
    out = tmp_path / "out"
    fast = [word for word in FAST if not word.startswith("steps=")]
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *fast,
        f"scene={tmp_path / 'small.ply'}",
        f"output_dir={out}",
    ]
    first = subprocess.Popen(
        [*command, "steps=1000000", "checkpoint.every=1"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: (out / "checkpoint.safetensors").exists() or first.poll() is not None)
        assert first.poll() is None, first.communicate()[1]
        for words in ([*command, "steps=2"], [*command[:2], f"resume={out}"]):
            second = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
            assert second.returncode == 2 and not second.stdout
            (line,) = second.stderr.splitlines()
            assert line.startswith("error: ") and f"process {first.pid} writes there" in line
    finally:
        first.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
        first.communicate()
    assert (out / NAME).exists()  # of a dead process
    third = subprocess.run([*command, "steps=2"], cwd=tmp_path, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert not (out / NAME).exists() and (out / "run.json").exists()
