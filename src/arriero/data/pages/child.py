"""The process that meets pages: it reads them from its standard input and writes their text to its standard output.

A parser written in C cannot be interrupted from Python, and one that crashes takes its process along. So the time of a
page is kept by the system: a timer on CPU time whose signal, left at its default, ends this process wherever it is.

A request is two little-endian uint32: bytes of the page, milliseconds of CPU time; then the page in UTF-8. The answer is
a byte, 0 for a text and 1 for an error's line, a uint32 length, and that many bytes of UTF-8. An empty answer comes first,
when the libraries are loaded.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from typing import BinaryIO

from arriero.data.pages.tiers import load, page_text

REQUEST = struct.Struct("<II")
ANSWER = struct.Struct("<BI")
_CACHES_EVERY = 1000


def main(tier: str, comments: bool, links: bool, trimmed: bool, memory: int) -> None:
    """Answer requests until the input ends. ``memory``: most bytes of address space."""
    load(tier)
    requests, answers = _own_streams()
    _limit_memory(memory)
    answers.write(ANSWER.pack(0, 0))
    answers.flush()
    # Without a terminal's or a parent's handlers: the timer must end this process.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    number = 0
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        size, milliseconds = REQUEST.unpack(head)
        data = requests.read(size)
        signal.setitimer(signal.ITIMER_PROF, milliseconds / 1000)
        status, text = _answer(data, tier, comments, links, trimmed)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(ANSWER.pack(status, len(text)) + text)
        answers.flush()
        number += 1
        if tier in ("trafilatura", "union") and number % _CACHES_EVERY == 0:
            _reset_caches()


def _answer(data: bytes, tier: str, comments: bool, links: bool, trimmed: bool) -> tuple[int, bytes]:
    try:
        text = page_text(data.decode("utf-8", "replace"), tier, comments, links, trimmed)
        return 0, text.encode("utf-8", "replace")
    except Exception as error:  # whatever a page provokes is that page's refusal
        return 1, f"{type(error).__name__}: {error}"[:300].replace("\n", " ").encode("utf-8", "replace")


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """The input and the output; what a library prints goes nowhere."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def _limit_memory(memory: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reset_caches() -> None:
    from trafilatura.meta import reset_caches

    reset_caches()
