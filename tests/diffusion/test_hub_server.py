"""The hub by real requests: a server on this machine answers as the hub does, and the hub's own client asks it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gs_ssd.assets import ROOT
from tests.diffusion.test_folders import WHOLE, sd_folder, write
from tests.waiting import PATIENCE

REPO = "someone/some-model"
OLD, NEW = "a" * 40, "b" * 40


class Hub(ThreadingHTTPServer):
    """Serves `commits` (commit → folder) of REPO; `main` is its newest. `asked` are the paths so far."""

    def __init__(self, commits: dict[str, Path], *, main: str, refuses: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.commits, self.main, self.refuses = commits, main, refuses
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if self.server.refuses:
            return self._send(403, b"", {"X-Error-Code": self.server.refuses})
        _, _, rest = path.removeprefix("/api/models/").partition(REPO)
        if REPO not in path:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        words = (
            rest.strip("/").split("/") if path.startswith("/api/") else path.split("/resolve/")[1].split("/")
        )
        revision = {"revision": 1, "tree": 1}.get(words[0]) if path.startswith("/api/") else 0
        name = "main" if revision is None or not words[0] else words[revision]
        commit = self.server.main if name == "main" else name
        if commit not in self.server.commits:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        folder = self.server.commits[commit]
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        if path.startswith("/api/"):
            siblings = [{"rfilename": file} for file in files]
            listing = [
                {"type": "file", "path": f, "size": (folder / f).stat().st_size, "oid": f} for f in files
            ]
            content = listing if words[0] == "tree" else {"id": REPO, "sha": commit, "siblings": siblings}
            return self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})
        content = (folder / "/".join(words[1:])).read_bytes()
        mark = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        return self._send(200, content, mark, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    """Two commits; the newer one has half-precision files too."""
    old, new = sd_folder(tmp_path / "old"), sd_folder(tmp_path / "new")
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        write(new / part / f"{stem}.fp16.safetensors", WHOLE)
    write(new / "unet" / "diffusion_pytorch_model.bin", b"pickled")
    server = Hub({OLD: old, NEW: new}, main=NEW)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def fetch(url: str, home: Path, **settings: object) -> tuple[str, list[str]]:
    """(what `fetch` returns or raises, its warnings), in a process that knows this hub alone."""
    code = f"""
import json, warnings
from gs_ssd.diffusion.hub import fetch
from gs_ssd.errors import UserError
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    try:
        found = str(fetch({REPO!r}, **{settings!r}))
    except UserError as error:
        found = "error: " + str(error)
print(json.dumps([found, [str(w.message) for w in said if w.category is UserWarning]]))
"""
    own = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(ROOT),
    }
    env = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_CACHE", "HF_HUB_OFFLINE")} | own
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    found, said = json.loads(done.stdout.splitlines()[-1])
    return found, said


def files(folder: str) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if not p.is_dir()}


@pytest.mark.slow
def test_the_pinned_commit_is_loaded_once(hub, tmp_path):
    write(hub.commits[OLD] / "README.md", b"files that no part needs are not loaded, and not missed")
    found, said = fetch(hub.url, tmp_path / "home", pin=OLD)
    assert Path(found).name == OLD and said == []
    assert files(found) == files(str(tmp_path / "old")) - {"README.md"}
    count = len(hub.asked)
    for settings in ({}, {"offline": True}):
        assert fetch(hub.url, tmp_path / "home", pin=OLD, **settings) == (found, [])
    assert len(hub.asked) == count  # the cache comes first


@pytest.mark.slow
def test_a_lost_pin_falls_back_to_the_newest_with_a_warning(hub, tmp_path):
    del hub.commits[OLD]
    found, said = fetch(hub.url, tmp_path / "home", pin=OLD, half=True)
    assert Path(found).name == NEW
    assert said == [f"{REPO} has no revision {OLD} any more: the newest is taken"]
    weights = {name for name in files(found) if name.endswith((".safetensors", ".bin"))}
    assert len(weights) == 3 and all(".fp16." in name for name in weights)  # one set, and nothing pickled
    asked_for, _ = fetch(
        hub.url, tmp_path / "home", revision=OLD
    )  # what the user asked for does not fall back
    assert f"it has no revision {OLD}; leave diffusion.revision=null" in asked_for


@pytest.mark.slow
def test_without_a_connection_another_commit_of_the_cache_is_taken(hub, tmp_path):
    found, _ = fetch(hub.url, tmp_path / "home")
    assert Path(found).name == NEW
    for url, settings in ((hub.url, {"offline": True}), ("http://127.0.0.1:9", {})):
        other, said = fetch(url, tmp_path / "home", pin=OLD, **settings)
        assert other == found and said == [
            f"{REPO} is in the cache as {NEW[:12]}, not as {OLD[:12]}: it is taken"
        ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "refuses, message",
    [
        ("GatedRepo", "it is gated: accept its licence at "),
        ("RepoNotFound", "has no model of this name, or it is private"),
    ],
)
def test_a_refusal_is_named(hub, tmp_path, refuses, message):
    hub.refuses = refuses
    found, _ = fetch(hub.url, tmp_path / "home")
    assert found.startswith(f"error: can't load the diffusion model {REPO}: ") and message in found


@pytest.mark.slow
def test_an_unsupported_model_costs_no_weights(hub, tmp_path):
    write(hub.commits[NEW] / "model_index.json", {"_class_name": "WanPipeline"})
    found, _ = fetch(hub.url, tmp_path / "home")
    assert "holds a WanPipeline, which is not supported" in found
    assert not any(path.endswith(".safetensors") for path in hub.asked)
