"""The local server: this machine only, a key, no script but the page's own."""

from __future__ import annotations

import hmac
import json
import math
import secrets
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.inspect.service import Inspection
from arriero.errors import ArrieroError
from arriero.one_page import load_page

HOST = "127.0.0.1"
_SECONDS = 30
"""How long a client may take for a request."""


class InspectServer(ThreadingHTTPServer):
    """Serves one corpus on the loopback address; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, corpus: CuratedCorpus, port: int = 0, raw: Path | None = None) -> None:
        """
        Raises:
            ArrieroError: the port is taken.
        """
        self.inspection = Inspection(corpus, raw)
        self.key = secrets.token_urlsafe(18)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ArrieroError(
                f"cannot listen on port {port}: {error.strerror}; choose another with --port"
            ) from None

    @property
    def address(self) -> str:
        """What to open; the key stands behind #, so it is in no log and no Referer."""
        return f"http://{HOST}:{self.server_port}/#key={self.key}"


class _Handler(BaseHTTPRequestHandler):
    server: InspectServer
    timeout = _SECONDS
    server_version, sys_version = "arriero", ""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in (HOST, "localhost"):  # another name that points here is another site's page
            self._json(403, {"error": "open the page by the address that was printed"})
        elif parts.path == "/":
            text, headers = load_page("arriero.data.audit.inspect")
            self._send(200, text.encode(), {"Content-Type": "text/html; charset=utf-8", **headers})
        elif not self._has_key():
            self._json(401, {"error": "the key is missing or another one"})
        else:
            self._answer(parts.path, dict(parse_qsl(parts.query)))

    def _answer(self, path: str, query: dict[str, str]) -> None:
        name = path.removeprefix("/api/")
        if not path.startswith("/api/") or name not in self.server.inspection.answers:
            self._json(404, {"error": f"there is no {path}"})
            return
        try:
            self._json(200, self.server.inspection.answer(name, query))
        except ArrieroError as error:
            self._json(400, {"error": str(error)})
        except OSError as error:
            self._json(500, {"error": f"a file of the corpus cannot be read: {error.strerror}"})

    def _has_key(self) -> bool:
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.server.key.encode())

    def _json(self, status: int, value: Any) -> None:
        body = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False).encode(
            "utf-8", "backslashreplace"
        )
        self._send(status, body, {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Length": str(len(body)),
                "Cache-Control": "no-store",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is looked at is nobody's business."""


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: null stands for them."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def serve_corpus(folder: Path, port: int, raw: Path | None, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Raises:
        ArrieroError: there is no corpus, or the port is taken.
    """
    server = InspectServer(CuratedCorpus(folder), port, raw)
    with server:
        say(f"{folder} is open at {server.address}  (this machine only; Ctrl-C ends it)")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            say("closed")
