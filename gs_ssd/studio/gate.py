"""The studio's door: which port, and who may come in.

A browser lets any web page open a websocket to any address, 127.0.0.1 included, and viser asks nobody who they are. So
every request, the websocket's handshake included, is looked at first:

    Host        on loopback it must name loopback: no foreign name that was made to point here (DNS rebinding)
    Origin      where a browser says it, it must be this server
    token       where the studio is reachable from other machines: in the URL, then in a cookie of this server
    ?websocket= sends viser's page to another server, whose controls would then be shown as ours: refused

viser 1.1 has no hook for this; `guarding` puts one into the server that it starts, and fails where that didn't work.
"""

from __future__ import annotations

import hmac
import http
import inspect
import ipaddress
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import websockets.asyncio.server
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from gs_ssd.errors import UserError
from gs_ssd.studio.dressing import dressed

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FREE = 20  # ports after the wanted one that are tried for a proposal
_HEADERS = {
    "Referrer-Policy": "no-referrer",  # the token stands in the URL
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Gate:
    """The port, and what is asked of those who come in.

    Args:
        host: the address that is listened on.
        port: 0 takes any free one.
        setting: what the port is called where it was typed.

    Raises UserError where the port is taken or the address isn't this machine's.
    """

    def __init__(self, host: str, port: int, setting: str = "port") -> None:
        self.socket = _bound(host, port, setting)
        self.host, self.port = host, int(self.socket.getsockname()[1])
        self.local = _is_loopback(host)
        self.token = None if self.local else secrets.token_urlsafe(24)
        self.open = False  # set once the page is whole: viser fails on who comes while it is made

    @property
    def url(self) -> str:
        """What is typed into the browser; on all interfaces, this machine's name."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::", "") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    @property
    def cookie(self) -> str:
        """Its name: cookies know no ports, and two studios may run on one host."""
        return f"gs_ssd_studio_{self.port}"

    def check(self, request: Request) -> Response | None:
        """The answer to a request that may not come in; None lets it in."""
        if not self.open:
            return _refused(
                "the studio is starting; try again in a moment", http.HTTPStatus.SERVICE_UNAVAILABLE
            )
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        query = parse_qs(urlsplit(request.path).query)
        if self.local and _name(host) not in LOOPBACK:
            return _refused("this studio answers only as 127.0.0.1 or localhost")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refused("a page of another site can't use this studio")
        if "websocket" in query:
            return _refused("this studio shows no other server")
        if self.token is not None and not self._knows(request, query):
            return _refused("the token is missing or wrong; open the URL that `gs-ssd studio` printed")
        return None

    def _knows(self, request: Request, query: dict[str, list[str]]) -> bool:
        given = query.get("token", [""])[-1]
        try:
            cookie = SimpleCookie(request.headers.get("Cookie", "")).get(self.cookie)
        except (CookieError, LookupError):
            cookie = None
        assert self.token is not None
        known = (given, "" if cookie is None else cookie.value)
        return any(hmac.compare_digest(text.encode(), self.token.encode()) for text in known)

    def ours(self, response: Response) -> Response:
        """An answer of viser's with our headers and the cookie; a page of it as `dressing` has it."""
        for name, value in _HEADERS.items():
            response.headers[name] = value
        if self.token is not None:
            response.headers["Set-Cookie"] = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        if response.headers.get("Content-Type", "").startswith("text/html"):
            response.body = dressed(bytes(response.body))
            del response.headers["Content-Length"]
            response.headers["Content-Length"] = str(len(response.body))
        return response

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """While viser starts its server: it gets our socket, and every request goes through `check`.

        Raises RuntimeError where viser did not start one that way: an open door must not go unnoticed.
        """
        original, used = websockets.asyncio.server.serve, []

        def serve(handler: Any, *_: Any, process_request: Callable[..., Any], **settings: Any) -> Any:
            used.append(True)
            return original(
                handler, sock=self.socket, process_request=self._before(process_request), **settings
            )

        websockets.asyncio.server.serve = serve  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            websockets.asyncio.server.serve = original  # type: ignore[misc]
        if used != [True]:
            raise RuntimeError(
                "viser started its server in another way than version 1.1; install viser>=1.1,<1.2"
            )

    def _before(self, viser_page: Callable[..., Any]) -> Callable[..., Any]:
        async def process(connection: Any, request: Request) -> Response | None:
            refusal = self.check(request)
            if refusal is not None:
                return refusal
            plain = Request(request.path, Headers(request.headers))
            if plain.headers.get("Upgrade") != "websocket":  # so that the page can be dressed
                plain.headers.pop("Accept-Encoding", None)
            response = viser_page(connection, plain)
            response = await response if inspect.isawaitable(response) else response
            return None if response is None else self.ours(response)

        return process


def _bound(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket's address, taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bind(family, host, port)
    except OverflowError as error:
        raise UserError(f"{setting}={port} must be a whole number from 0 to 65535") from error
    except socket.gaierror as error:
        raise UserError(f"host={host} is no address of this machine; try host=127.0.0.1") from error
    except PermissionError as error:
        raise UserError(f"{setting}={port} needs an administrator's rights; try {setting}=8080") from error
    except OSError as error:
        for free in range(port + 1, min(port + _FREE, 65536)):
            try:
                _bind(family, host, free).close()
            except OSError:
                continue
            raise UserError(
                f"{setting}={port} is in use; is a studio open already? Or try {setting}={free}"
            ) from error
        raise UserError(
            f"host={host} {setting}={port} can't be listened on: {error.strerror or error}"
        ) from error


def _bind(family: int, host: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(100)
    except BaseException:
        bound.close()
        raise
    return bound


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _refused(reason: str, status: http.HTTPStatus = http.HTTPStatus.FORBIDDEN) -> Response:
    body = f"{reason}\n".encode()
    headers = Headers(_HEADERS)
    headers["Content-Type"] = "text/plain; charset=utf-8"
    headers["Content-Length"] = str(len(body))
    return Response(status, status.phrase, headers, body)
