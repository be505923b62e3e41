"""A page for this computer alone: served on 127.0.0.1, to requests that name it, and loading nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Lock
from typing import Any

from alliance_meta.cli.explorer.answers import Asked, Explorer
from alliance_meta.errors import AllianceMetaError, CannotRunError, InputError

ADDRESS = "127.0.0.1"
PAGES: Mapping[str, tuple[str, str]] = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# Nobody ticks more than this.
MOST_BYTES = 1_000_000
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves one explorer; one answer is computed at a time, for neither warnings nor figures may be shared."""

    daemon_threads = True

    def __init__(self, explorer: Explorer, port: int = 0) -> None:
        self.explorer, self.turn = explorer, Lock()
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise CannotRunError(
                f"port {port} cannot be had ({error.strerror}); --port 0 takes one that is free"
            ) from None

    @property
    def hosts(self) -> tuple[str, str]:
        """The names by which a browser on this computer calls the page."""
        return f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.hosts[0]}/"


class Handler(BaseHTTPRequestHandler):
    """Answers with the page and its parts, and with what the explorer says, as JSON."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        """Send the page or a part of it."""
        if self._refused():
            return
        if self.path not in PAGES:
            self._send(HTTPStatus.NOT_FOUND, b"not here", "text/plain")
            return
        name, kind = PAGES[self.path]
        self._send(HTTPStatus.OK, files(__package__).joinpath(name).read_bytes(), kind)

    def do_POST(self) -> None:
        """Send the choices, a sheet or an answer; problems of the input as words."""
        if self._refused():
            return
        answers: dict[str, Callable[[Any], Any]] = {
            "/choices": lambda given: self.server.explorer.choices(),
            "/sheet": lambda given: self.server.explorer.sheet(Asked.of(given).source),
            "/answer": lambda given: self.server.explorer.answer(Asked.of(given)),
        }
        try:
            if self.path not in answers:
                raise InputError("not here")
            given = self._given()
            with self.server.turn:
                found, status = answers[self.path](given), HTTPStatus.OK
        except AllianceMetaError as error:
            found, status = {"problem": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY
        data = json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")
        self._send(status, data, "application/json")

    def _refused(self) -> bool:
        """Refuse whoever reached this address by another name, and pages of others: they could read the sheet."""
        origin = self.headers.get("Origin")
        own = self.headers.get("Host") in self.server.hosts
        if own and (origin is None or origin in [f"http://{host}" for host in self.server.hosts]):
            return False
        self._send(HTTPStatus.FORBIDDEN, f"only as {self.server.url}".encode(), "text/plain")
        self.close_connection = True
        return True

    def _given(self) -> Any:
        """Return the JSON that was sent."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= MOST_BYTES):
            self.close_connection = True
            raise InputError("too long, or of no length")
        data = self.rfile.read(int(length))
        if self.headers.get_content_type() != "application/json":
            raise InputError("send JSON")
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise InputError("this is no JSON") from None

    def _send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in SECURITY.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the user's."""
