"""Starting and stopping the server."""

from __future__ import annotations

import importlib.util
import json
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

import click

from arriero.artifacts.manifest import MANIFEST
from arriero.errors import ArrieroError
from arriero.serving.listen import allowed_hosts, base_url, is_loopback, listen

if TYPE_CHECKING:
    from arriero.inference.engine import Engine
    from arriero.serving.http_server import HttpServer


@dataclass(frozen=True)
class ServerInfo:
    """What a client needs to know of a server that listens."""

    url: str
    model: str
    key: str | None
    key_was_made: bool
    loopback: bool
    context_length: int
    max_batch: int
    pool_bytes: int

    @property
    def page(self) -> str:
        """Address of the chat page. The key stands behind the #, which browsers never send."""
        return f"{self.url}/#key={self.key}" if self.key is not None else f"{self.url}/"


@dataclass(frozen=True)
class ServerOptions:
    """How to serve.

    Args:
        port: 0 takes a free one.
        api_key: what clients must send; by default one is made. no_key: ask for none.
        max_tokens: length of an answer when the request names none.
        max_queue: requests that wait beyond those that run.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    no_key: bool = False
    max_tokens: int = 512
    max_queue: int = 64
    max_body: int = 1 << 20

    def key(self) -> str | None:
        """The key that clients must send.

        Raises:
            ArrieroError: a key was given that cannot be sent in a header, or a key and none at once.
        """
        if self.no_key and self.api_key is not None:
            raise ArrieroError("a key and no key at once: give one of --api-key and --no-key")
        if self.no_key:
            return None
        if self.api_key is None:
            return secrets.token_urlsafe(24)
        if not self.api_key or not all("!" <= c <= "~" for c in self.api_key):
            raise ArrieroError("the API key should be printable ASCII without spaces, and not empty")
        return self.api_key


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    no_key: bool = False,
    max_batch: int = 8,
    max_tokens: int = 512,
    ready: Callable[[ServerInfo], None] | None = None,
) -> None:
    """Serve a model folder until Ctrl-C or SIGTERM; answers that run are finished first (up to 30 s).

    Args:
        ready: called once the server listens; by default :func:`announce`.

    Raises:
        ArrieroError: the extra is missing, the port is taken, the address is wrong, or there is no model.
    """
    need_extra()
    options = ServerOptions(host, port, api_key, no_key, max_tokens)
    options.key()  # a wrong key or port is told before a model is read
    with listen(host, port) as sock:
        from arriero.inference.engine import Engine

        engine = Engine.load(folder, max_batch=max_batch)
        server, info = make_server(engine, model_name(folder), sock, options)
        server.on_ready = lambda: (ready or announce)(info)
        with _signals_end_quietly():
            server.run(sockets=[sock])


@contextmanager
def serving(engine: Engine, model: str, options: ServerOptions) -> Iterator[tuple[ServerInfo, HttpServer]]:
    """A server over ``engine`` in a thread, for as long as the block runs.

    Raises:
        ArrieroError: the extra is missing, or the address cannot be had.
    """
    need_extra()
    with listen(options.host, options.port) as sock:
        server, info = make_server(engine, model, sock, options)
        up = threading.Event()
        server.on_ready = up.set
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="arriero-server")
        thread.start()
        try:
            while not up.wait(0.1):
                if not thread.is_alive():
                    raise ArrieroError("the server could not start; its log says why")
            yield info, server
        finally:
            server.drain()
            server.should_exit = True
            thread.join()


def make_server(
    engine: Engine, model: str, sock: socket, options: ServerOptions
) -> tuple[HttpServer, ServerInfo]:
    """The server for a socket that listens, ready to run."""
    from arriero.serving.app import Service, ServiceSettings
    from arriero.serving.http_server import HttpServer
    from arriero.serving.worker import EngineWorker

    key = options.key()
    worker = EngineWorker(engine, max_queue=options.max_queue)
    hosts = allowed_hosts(sock, options.host)
    settings = ServiceSettings(model, key, hosts, max_body=options.max_body, max_tokens=options.max_tokens)
    info = ServerInfo(
        url=base_url(sock, options.host),
        model=model,
        key=key,
        key_was_made=options.api_key is None,
        loopback=is_loopback(sock),
        context_length=engine.context_length,
        max_batch=engine.pool.max_rows,
        pool_bytes=engine.pool.bytes,
    )
    return HttpServer(Service(worker, settings).app(), worker), info


def announce(info: ServerInfo) -> None:
    """Tell the user where the server is and how to get in."""
    lines = [
        f"Serving {info.model} at {info.url} (OpenAI-compatible API: {info.url}/v1)",
        f"Chat page: {info.page}",
    ]
    if info.key is None:
        lines.append("WARNING: no API key is asked for: whoever reaches this address can use the model.")
    elif info.key_was_made:
        lines.append(f"API key, made for this run: {info.key}")
    if not info.loopback:
        lines.append("WARNING: other machines can reach this address, and the connection is not encrypted.")
    lines += [
        f"Up to {info.max_batch} answers at a time; context {info.context_length:,} tokens; "
        f"key-value pool up to {info.pool_bytes / 2**20:,.1f} MiB.",
        "Sampling unless a request says otherwise: temperature 1, top_p 1 (generation_config.json is not read).",
        "Ctrl-C stops it.",
    ]
    for line in lines:
        click.echo(line)


def model_name(folder: Path) -> str:
    """The name to serve a folder under: the artifact's, else the folder's."""
    try:
        name = json.loads((folder / MANIFEST).read_bytes())["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder.resolve().name
    return str(name)


def need_extra() -> None:
    """Raise an ArrieroError unless what the server needs is installed."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ArrieroError(f"the server needs {' and '.join(missing)}: pip install 'arriero[serve]'")


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """uvicorn finishes its work on a signal and then raises the signal again: here that is no failure."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
