"""Chat in the terminal."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pydantic import ValidationError

from arriero.errors import ArrieroError
from arriero.inference.request import Request, RequestError, Sampling

if TYPE_CHECKING:
    from arriero.inference.engine import Engine

HELP = "Type a message and press Enter. /reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C stops an answer."

CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters are shown as U+FFFD: what a model says must not steer the terminal."""

Messages = list[dict[str, str]]


def chat(
    folder: Path,
    *,
    prompt: str | None = None,
    system: str | None = None,
    max_tokens: int = 512,
    temperature: float = 0.7,
    top_p: float = 0.95,
    seed: int | None = None,
    device: str = "cpu",
    source: TextIO | None = None,
    target: TextIO | None = None,
) -> None:
    """Chat with the model in a folder: with ``prompt`` one answer, else a conversation until /quit.

    Args:
        device: as for Engine.load.
        source, target: where lines are read and text is written; by default standard input and output.

    Raises:
        ArrieroError: there is no model, it has no chat template, or a setting is out of its range.
    """
    from arriero.inference.engine import Engine

    source, target = source or sys.stdin, target or sys.stdout
    sampling = _sampling(max_tokens, temperature, top_p, seed)
    engine = Engine.load(folder, max_batch=1, device=device)
    start: Messages = [{"role": "system", "content": system}] if system else []
    if prompt is not None:
        answer(engine, [*start, {"role": "user", "content": prompt}], sampling, target)
        return
    converse(engine, start, sampling, source, target)


def converse(engine: Engine, start: Messages, sampling: Sampling, source: TextIO, target: TextIO) -> None:
    """Read messages and answer them until /quit or the end of input."""
    target.write(HELP + "\n")
    messages = list(start)
    while (line := _read_line(source, target)) is not None:
        if line in ("/quit", "/exit"):
            return
        if line == "/reset":
            messages = list(start)
            target.write("(forgotten)\n")
        elif line.startswith("/"):
            target.write(HELP + "\n")
        elif line:
            messages = _take_turn(engine, messages, line, sampling, target)


def _take_turn(engine: Engine, messages: Messages, line: str, sampling: Sampling, target: TextIO) -> Messages:
    """The conversation with the user's message and its answer; unchanged when it can't be answered."""
    asked = [*messages, {"role": "user", "content": line}]
    try:
        text = answer(engine, asked, sampling, target)
    except RequestError as error:
        target.write(f"{error} (/reset starts afresh)\n")
        return messages
    return [*asked, {"role": "assistant", "content": text}]


def answer(engine: Engine, messages: Messages, sampling: Sampling, target: TextIO) -> str:
    """Write the answer as it comes and give its text; Ctrl-C ends the answer, not the program.

    Raises:
        RequestError: the conversation does not fit the context.
    """
    ids = engine.tokenizer.chat.render(messages, add_generation_prompt=True).ids
    room = engine.context_length - len(ids)
    if sampling.max_tokens is not None and 0 < room < sampling.max_tokens:
        sampling = sampling.model_copy(update={"max_tokens": room})
    parts: list[str] = []
    reason = "abort"
    with _interrupt_flag() as stopped:
        for event in engine.stream(Request(ids, sampling)):
            parts.append(event.text)
            target.write(event.text.translate(CONTROLS))
            target.flush()
            reason = event.finish_reason or reason
            if stopped.is_set():
                break
    note = {"length": " […]", "abort": " [stopped]"}.get(reason, "")
    target.write(note + "\n")
    target.flush()
    return "".join(parts)


def _sampling(max_tokens: int, temperature: float, top_p: float, seed: int | None) -> Sampling:
    try:
        return Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    except ValidationError as error:
        first = error.errors()[0]
        raise ArrieroError(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg'].lower()}") from None


def _read_line(source: TextIO, target: TextIO) -> str | None:
    """The next message, or None at the end of input. Ctrl-C clears the line."""
    while True:
        try:
            if source is sys.stdin and source.isatty():
                import readline  # noqa: F401 - gives the prompt a history and line editing

                return input("> ").strip()
            line = source.readline()
            return line.strip() if line else None
        except KeyboardInterrupt:
            target.write("\n(Ctrl-D or /quit leaves)\n")
        except EOFError:
            target.write("\n")
            return None
        except UnicodeDecodeError as error:
            raise ArrieroError(
                f"the input is not {error.encoding}: byte {error.start} cannot be read"
            ) from None


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets. A step of the engine is never cut in two by it."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
