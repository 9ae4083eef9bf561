"""The studio's door, asked by plain HTTP and websocket clients."""

from __future__ import annotations

import http.client
import socket

import pytest

pytest.importorskip("viser", reason="the studio needs viser")

from gs_ssd.errors import UserError
from gs_ssd.studio.gate import Gate
from gs_ssd.studio.server import Studio
from tests.studio.small import workspace
from tests.waiting import PATIENCE

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def ask(studio: Studio, path: str = "/", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", studio.gate.port, timeout=PATIENCE)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = "" if answer.status == 101 else answer.read().decode()
    connection.close()
    return answer.status, body, answer.headers


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    studio = Studio(workspace(tmp_path_factory.mktemp("local")), Gate("127.0.0.1", 0))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    studio = Studio(workspace(tmp_path_factory.mktemp("public")), Gate("0.0.0.0", 0))
    yield studio
    studio.close()


def test_the_page_is_there_and_checks_for_webgl_first(local):
    status, body, headers = ask(local)
    assert status == 200 and "gs-ssd-no-webgl" in body and "<title>gs_ssd studio</title>" in body
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Set-Cookie"] is None
    assert local.gate.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/%2e%2e/%2e%2e/secret", "//etc/passwd"])
def test_no_path_leads_to_a_file(local, path):
    assert ask(local, path)[0] == 404


def test_other_sites_and_foreign_names_are_refused(local):
    here = f"127.0.0.1:{local.gate.port}"
    assert ask(local, Host="evil.example")[0] == 403
    assert ask(local, Host=here, Origin="http://evil.example", **UPGRADE)[0] == 403
    assert ask(local, "/?websocket=ws://evil.example")[0] == 403
    assert ask(local, Host=here, Origin=f"http://{here}", **UPGRADE)[0] == 101


def test_from_other_machines_nothing_comes_in_without_the_token(public):
    token = public.gate.token
    for path in ("/", "/?token=wrong", "/?token="):
        status, body, _ = ask(public, path)
        assert status == 403 and "token" in body and len(body.splitlines()) == 1
    assert ask(public, **UPGRADE)[0] == 403
    status, _, headers = ask(public, f"/?token={token}")
    assert (
        status == 200 and "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    )
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert ask(public, Cookie=cookie, **UPGRADE)[0] == 101
    assert ask(public, Cookie=cookie.replace(token, "wrong"), **UPGRADE)[0] == 403


def test_a_taken_port_is_one_line_that_names_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=r"is in use; .*try port=\d+"):
            Gate("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match="no address of this machine"):
        Gate("no.such.host.invalid", 0)
