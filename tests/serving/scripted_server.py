"""A server that answers the chat page with what a test wrote down, so that every figure on the page is known."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from arriero.one_page import load_page

COST = {
    "seconds": 0.4,
    "energy": {"value": 2.4, "low": 1.2, "high": 4.8, "unit": "J", "basis": "modelled", "source": "CPU seconds times watts"},
    "money": {"value": 2.13e-6, "low": 1.4e-6, "high": 3.2e-6, "unit": "USD", "basis": "modelled", "source": "price table"},
}  # fmt: skip
MODELS = [
    {"id": "tiny", "object": "model", "context_length": 512},
    {"id": "pirate", "object": "model", "parent": "tiny"},
]


class Scripted:
    """What the server says. ``bodies``: the requests it got. ``pace``: seconds between tokens."""

    def __init__(self) -> None:
        self.tokens = ["Hello", ",", " you", "!"]
        self.cost: Any = COST
        self.models = MODELS
        self.pace = 0.0
        self.bodies: list[dict[str, Any]] = []
        self.url = ""

    def chunks(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for number, token in enumerate(self.tokens):
            choice = {"index": 0, "delta": {"content": token}, "finish_reason": None}
            if body.get("logprobs"):
                choice["logprobs"] = {"content": [scored(token, number)]}
            yield {"choices": [choice]}
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {
            "prompt_tokens": 34, "completion_tokens": len(self.tokens), "prompt_tokens_details": {"cached_tokens": 20},
        }  # fmt: skip
        yield {"choices": [], "usage": usage | ({"cost": self.cost} if self.cost else {})}


def scored(token: str, number: int) -> dict[str, Any]:
    """A token with a probability that falls from token to token, and two others beside it."""
    logprob = -0.02 - 0.5 * (number % 8)
    others = [
        {"token": token, "logprob": logprob},
        {"token": " else", "logprob": -4.0},
        {"token": "\n", "logprob": -6.5},
    ]
    return {"token": token, "logprob": logprob, "top_logprobs": others}


@contextmanager
def scripted_server() -> Iterator[Scripted]:
    """The page and the two routes that it asks, on a free port."""
    script = Scripted()
    page, headers = load_page("arriero.serving")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/":
                self._send(page.encode(), "text/html; charset=utf-8", headers)
            else:
                self._send(
                    json.dumps({"object": "list", "data": script.models}).encode(), "application/json", {}
                )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for chunk in script.chunks(body):
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                    time.sleep(script.pace)
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                pass  # the page stopped reading
            self.close_connection = True

        def _send(self, data: bytes, kind: str, more: dict[str, str]) -> None:
            self.send_response(200)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
