"""`viewer=true`: the page beside a run of the command line."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("viser", reason="the studio needs viser")

from gs_ssd.cli import edit
from gs_ssd.cli.signals import Signals
from gs_ssd.errors import UserError
from gs_ssd.scene import save_gaussians
from gs_ssd.session.config import compose, scene_edit
from gs_ssd.studio.gate import Gate
from tests.cli.test_chain import FAST
from tests.studio.small import prior
from tests.studio.visitor import Visitor
from tests.synthetic import random_gaussians
from tests.waiting import PATIENCE, until


def words(folder, *more: str) -> list[str]:
    save_gaussians(random_gaussians(300), folder / "small.ply")
    return [
        *FAST, f"scene={folder / 'small.ply'}", "scene.views.count=8", "prompt.source=grey", "prompt.target=red",
        "densify.max_size=0.05", "densify.stop=8", "resolution=32", *more,
    ]  # fmt: skip


class Held(Signals):
    """Of a command whose steps begin when `go` is set."""

    def __init__(self, go: threading.Event) -> None:
        super().__init__()
        self.go = go

    def finish_first(self, said: str) -> None:
        assert self.go.wait(PATIENCE)
        super().finish_first(said)


class Run(threading.Thread):
    """`gs-ssd edit` with a page, from the moment on when the edit is there; its first step waits for `go`."""

    def __init__(self, folder, *more: str) -> None:
        super().__init__(daemon=True)
        self.go = threading.Event()
        self.cfg = compose(words(folder, *more))
        self.folder, self.signals = folder / "out", Held(self.go)
        self.folder.mkdir()
        self.gate = Gate("127.0.0.1", 0)
        self.edit = scene_edit(self.cfg, prior)
        self.code: int | None = None

    def run(self) -> None:
        self.code = edit.carry_out(
            self.edit, self.cfg, self.folder, self.signals, self.gate, command=["gs-ssd", "edit"]
        )


@pytest.mark.slow
def test_the_result_is_the_same_with_browsers_that_look_pause_and_vanish(tmp_path, capfd):
    alone, watched = tmp_path / "alone", tmp_path / "watched"
    for folder in (alone, watched):
        folder.mkdir()
    many = "steps=300"
    without = Run(alone, many)
    without.gate = None
    without.go.set()
    without.run()

    run = Run(watched, many)
    run.start()
    with Visitor(run.gate.url) as first:
        first.look()
        source = first.listen(lambda visitor: visitor.picture)
        first.press("Edit", "Pause")
        first.listen(lambda visitor: "Paused" in str(visitor.told))
        run.go.set()
        until(lambda: run.edit.step)
        first.look(position=(0.0, 0.5, -4.0))
        first.listen(lambda visitor: visitor.picture is not source)
        assert run.edit.step == 1 and run.is_alive()
        first.vanish()
    with Visitor(run.gate.url) as second:
        second.look()
        second.listen(lambda visitor: visitor.picture)
        second.press("Edit", "Resume")
        second.vanish()
    run.join(PATIENCE)
    assert run.code == 0 and run.edit.step == 300
    assert (run.folder / "edited.ply").read_bytes() == (without.folder / "edited.ply").read_bytes()
    assert not (run.folder / "studio").exists()


@pytest.mark.slow
def test_a_stop_from_the_page_keeps_what_there_is(tmp_path):
    run = Run(tmp_path, "steps=100000")
    run.start()
    with Visitor(run.gate.url) as visitor:
        visitor.look()
        first = visitor.listen(lambda visitor: visitor.picture)
        run.go.set()
        visitor.listen(lambda visitor: np.abs(visitor.picture - first).mean() > 1)  # the edit, live
        visitor.press("Edit", "Stop")
        said = visitor.listen(lambda visitor: [note for note in visitor.notes() if "writing" in note])
        assert f"gs-ssd studio scene={run.folder}" in said[0]
    run.join(PATIENCE)
    assert run.code == 0 and 0 < run.edit.step < 100000 and (run.folder / "run.json").exists()


def test_a_signal_ends_a_pause(tmp_path):
    run = Run(tmp_path, "steps=100000")
    run.start()
    with Visitor(run.gate.url) as visitor:
        visitor.look()
        visitor.press("Edit", "Pause")
        visitor.listen(lambda visitor: "Paused" in str(visitor.told))
        run.go.set()
        until(lambda: run.edit.step)
        run.signals.requested = True
        run.join(PATIENCE)
    assert run.code == 0 and (run.folder / "run.json").exists()


@pytest.mark.parametrize("value", ["yes", "-1", "70000", "1.5"])
def test_no_other_value_than_a_port_is_taken(tmp_path, value):
    with pytest.raises(UserError, match="viewer"):
        edit.gate_of(compose(words(tmp_path, f"viewer={value}")))


def test_the_port_is_asked_for_before_any_work_is_done(tmp_path, capsys):
    with_page = Gate("127.0.0.1", 0)
    try:
        assert edit.main(words(tmp_path, f"viewer={with_page.port}", "diffusion=tiny")) == 2
        said = capsys.readouterr().err
        assert f"viewer={with_page.port} is in use" in said and "try viewer=" in said
    finally:
        with_page.socket.close()
