"""Browsers that come and go, and files that they bring, as viser's protocol has them."""

from __future__ import annotations

import gc
import threading
import uuid

import pytest

pytest.importorskip("viser", reason="the studio needs viser")

from viser._messages import FileTransferPart, FileTransferStartUpload

from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.studio.gate import Gate
from gs_ssd.studio.server import Studio
from gs_ssd.studio.workspace import Workspace
from tests.studio.small import prior, scene_file
from tests.studio.visitor import Visitor
from tests.waiting import until


@pytest.fixture
def studio(tmp_path):
    """Of a scene of which a copy would be seen: 2.2 MB."""
    words = [f"scene={scene_file(tmp_path, 20_000)}", "scene.views.count=8"]
    workspace = Workspace(words, folder=tmp_path / "sessions", device="cpu", load=prior)
    studio = Studio(workspace, Gate("127.0.0.1", 0), upload_mb=0.1)
    yield studio
    studio.close()


def visit(studio: Studio, number: int) -> None:
    with Visitor(studio.url) as visitor:
        visitor.look(position=(0.0, 0.01 * number, -4.0), width=32, height=24)
        visitor.listen(lambda visitor: visitor.picture)
        if number % 3 == 0:
            visitor.vanish()


def held(studio: Studio) -> tuple[int, int, float]:
    """Threads, scenes and megabytes, once everybody is gone."""
    until(lambda: not studio.viser.get_clients() and not studio.painter._views)
    gc.collect()
    scenes = sum(type(thing) is Gaussians for thing in gc.get_objects())
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return threading.active_count(), scenes, pages * 4096 / 1e6


@pytest.mark.slow
def test_two_hundred_visits_leave_nothing_behind(studio):
    for number in range(40):  # what threads and buffers there will ever be
        visit(studio, number)
    before = held(studio)
    for number in range(200):
        visit(studio, number)
    until(lambda: held(studio)[1] <= before[1], every=1)  # the last picture may still be drawn
    after = held(studio)
    print(f"threads, scenes, megabytes: {before} -> {after}")
    assert after[0] - before[0] < 20  # one per visit would be 200; pools grow to a few threads for each core
    assert after[2] - before[2] < 60  # a scene's copy per visit would be 440


def upload(visitor: Visitor, name: str, declared: int, *parts: bytes) -> str:
    button, transfer = visitor.control("Open a file"), str(uuid.uuid4())
    visitor.say(FileTransferStartUpload(button, transfer, name, "", len(parts), declared))
    for index, part in enumerate(parts):
        visitor.say(FileTransferPart(button, transfer, index, part))
    return transfer


def test_uploads_are_limited_as_they_arrive(studio):
    scene, states = studio.workspace.scene, studio.viser.gui._current_file_upload_states
    with Visitor(studio.url) as visitor:
        visitor.look(width=32, height=24)
        upload(visitor, "declared.ply", 200_000, bytes(1000))
        visitor.listen(lambda visitor: "declared.ply: not taken" in str(visitor.notes()))
        upload(visitor, "liar.ply", 1000, bytes(900), bytes(90_000))
        visitor.listen(lambda visitor: "more than it had declared" in str(visitor.notes()))
        upload(visitor, "minus.ply", -5)
        visitor.listen(lambda visitor: "minus.ply" in str(visitor.notes()))
        upload(visitor, "../../broken.ply", 6, b"no ply")
        visitor.listen(lambda visitor: "broken.ply" in visitor.notes()[-1])
        assert all("\n" not in note for note in visitor.notes())
    assert not states and studio.workspace.scene is scene
    written = list(studio.workspace.session.rglob("*.ply"))
    assert [file.name for file in written] == ["broken.ply"]
    assert written[0].parent == studio.workspace.session / "uploads"
