"""Starting and stopping the server."""

from __future__ import annotations

import importlib.util
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

import click

from arriero.artifacts.manifest import MANIFEST
from arriero.cost.tariffs import Tariffs
from arriero.errors import ArrieroError
from arriero.inference.request import Sampling
from arriero.serving.keys import check_key, make_key, read_keys
from arriero.serving.listen import allowed_hosts, base_url, is_loopback, listen

if TYPE_CHECKING:
    from arriero.inference.engine import Engine
    from arriero.serving.bill import Biller
    from arriero.serving.desk import EncoderDesk
    from arriero.serving.http_server import HttpServer

VECTOR_BUDGET = 1024
"""Tokens of a batch for vectors: running answers wait for it."""


@dataclass(frozen=True)
class ServerInfo:
    """What a client needs to know of a server that listens."""

    url: str
    model: str
    keys: tuple[str, ...]
    key_was_made: bool
    loopback: bool
    context_length: int
    max_batch: int
    pool_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str | None:
        """A key that opens the door, or None when it is open."""
        return self.keys[0] if self.keys else None

    @property
    def page(self) -> str:
        """Address of the chat page. The key stands behind the #, which browsers never send."""
        return f"{self.url}/#key={self.key}" if self.key is not None else f"{self.url}/"


@dataclass(frozen=True)
class ServerOptions:
    """How to serve.

    Attributes:
        port: 0 takes a free one.
        api_key: what clients must send; by default one is made. no_key: ask for none. key_file: keys, one a line.
        max_tokens: length of an answer when the request names none. max_prompt_tokens: longest prompt; None: what fits.
        max_queue: answers that wait beyond those that run. max_queue_tokens: tokens that are open beyond the pool.
        max_seconds: longest time of a request. max_body: most bytes of a body.
        adapters: LoRA adapters that are loaded at the start, by name.
        adapter_folder: folder from under which clients may load more; None lets nobody.
        embeddings: folder of the model for embeddings, classes and scores; None takes the served model, by mean pooling.
        costs: overrides of the tariffs that energy and money are worked out with.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    no_key: bool = False
    max_tokens: int = 512
    max_queue: int = 64
    max_body: int = 1 << 20
    key_file: Path | None = None
    max_prompt_tokens: int | None = None
    max_queue_tokens: int = 1 << 18
    max_seconds: float = 600.0
    adapters: Mapping[str, Path] = field(default_factory=dict)
    adapter_folder: Path | None = None
    embeddings: Path | None = None
    costs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def makes_key(self) -> bool:
        """Whether a key is made because none is given."""
        return not self.no_key and self.api_key is None and self.key_file is None

    def keys(self) -> tuple[str, ...]:
        """The keys that open the door; none at all leaves it open.

        Raises:
            ArrieroError: a key was given that cannot be sent in a header, or keys and none at once.
        """
        given = [] if self.api_key is None else [check_key(self.api_key)]
        if self.no_key:
            if given or self.key_file is not None:
                raise ArrieroError("a key and no key at once: give one of --api-key, --key-file and --no-key")
            return ()
        given += [] if self.key_file is None else read_keys(self.key_file)
        return tuple(given) or (make_key(),)

    def check(self) -> None:
        """See that the settings make sense, before a model is read.

        Raises:
            ArrieroError: they do not.
        """
        self.keys()
        limits = {
            "max_tokens": self.max_tokens, "max_body": self.max_body, "max_seconds": self.max_seconds,
            "max_prompt_tokens": 1 if self.max_prompt_tokens is None else self.max_prompt_tokens,
        }  # fmt: skip
        for name, value in limits.items():
            if value <= 0:
                raise ArrieroError(f"{name} of the server is {value}; it should be more than 0")
        if self.max_queue < 0 or self.max_queue_tokens < 0:
            raise ArrieroError("max_queue and max_queue_tokens of the server must not be negative")
        if self.adapter_folder is not None and not self.adapter_folder.is_dir():
            raise ArrieroError(f"the folder of adapters {self.adapter_folder} is none")
        Tariffs.load(self.costs)


def serve(
    folder: Path,
    options: ServerOptions | None = None,
    *,
    ready: Callable[[ServerInfo], None] | None = None,
    **engine_settings: Any,
) -> None:
    """Serve a model folder until Ctrl-C or SIGTERM; answers that run are finished first (up to 30 s).

    Args:
        ready: called once the server listens; by default :func:`announce`.
        engine_settings: keywords of :class:`~arriero.inference.engine.Engine`.

    Raises:
        ArrieroError: the extra is missing, the port is taken, the address is wrong, or there is no model.
    """
    need_extra()
    options = options or ServerOptions()
    options.check()  # what is wrong with the settings is told before a model is read
    with listen(options.host, options.port) as sock:
        engine = load_engine(folder, options, **engine_settings)
        server, info = make_server(engine, model_name(folder), sock, options)
        server.on_ready = lambda: (ready or announce)(info)
        with _signals_end_quietly():
            server.run(sockets=[sock])


def load_engine(folder: Path, options: ServerOptions, **settings: Any) -> Engine:
    """The engine for a model folder, with the options' adapters loaded; ``settings`` are those of ``Engine.load``.

    Raises:
        ArrieroError: there is no model, or an adapter does not fit it.
    """
    from arriero.inference.engine import Engine

    engine = Engine.load(folder, **settings)
    for name, where in options.adapters.items():
        engine.adapters.load(name, where)
    return engine


@contextmanager
def serving(engine: Engine, model: str, options: ServerOptions) -> Iterator[tuple[ServerInfo, HttpServer]]:
    """A server over ``engine`` in a thread, for as long as the block runs.

    Raises:
        ArrieroError: the extra is missing, or the address cannot be had.
    """
    need_extra()
    options.check()
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
    from arriero.serving.app import make_app
    from arriero.serving.http_server import HttpServer
    from arriero.serving.service import Service, ServiceSettings
    from arriero.serving.worker import EngineWorker, Limits

    keys = options.keys()
    limits = Limits(options.max_queue, options.max_queue_tokens, options.max_seconds)
    worker = EngineWorker(
        engine, limits=limits, biller=_biller(engine, options), desk=make_desk(engine, model, options)
    )
    settings = ServiceSettings(
        model, keys, allowed_hosts(sock, options.host), max_body=options.max_body, max_tokens=options.max_tokens,
        max_prompt_tokens=options.max_prompt_tokens, adapters=options.adapter_folder,
    )  # fmt: skip
    info = ServerInfo(
        url=base_url(sock, options.host),
        model=model,
        keys=keys,
        key_was_made=options.makes_key,
        loopback=is_loopback(sock),
        context_length=engine.context_length,
        max_batch=engine.max_batch,
        pool_bytes=engine.pool.bytes,
    )
    return HttpServer(make_app(Service(worker, settings)), worker), info


def make_desk(engine: Engine, model: str, options: ServerOptions) -> EncoderDesk | None:
    """Who gives vectors: the model of ``options.embeddings``, else the served decoder itself.

    Raises:
        ArrieroError: there is no such model.
    """
    from arriero.inference.encoder_engine import EncoderEngine
    from arriero.models.decoder import Decoder
    from arriero.serving.desk import EncoderDesk

    if options.embeddings is not None:
        found = EncoderEngine.load(options.embeddings, token_budget=VECTOR_BUDGET)
        return EncoderDesk(found, model_name(options.embeddings))
    if not isinstance(engine.model, Decoder):
        return None
    return EncoderDesk(EncoderEngine(engine.model, engine.tokenizer, token_budget=VECTOR_BUDGET), model)


def _biller(engine: Engine, options: ServerOptions) -> Biller:
    """Who counts energy and money: on the machine that the model is on."""
    import torch

    from arriero.serving.bill import Biller

    device = next(engine.model.parameters()).device
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return Biller(Tariffs.load(options.costs), accelerator=accelerator)


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
        *info.notes,
        f"Sampling unless a request says otherwise: {Sampling().describe()}.",
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
