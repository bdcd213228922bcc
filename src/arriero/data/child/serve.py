"""The child's side: it reads requests from its standard input and writes answers to its standard output.

A library written in C cannot be interrupted from Python, and one that crashes takes its process along. So the time of a
request is kept by the system: a timer on CPU time whose signal, left at its default, ends this process wherever it is.

A request is a little-endian uint64, bytes of the data, and a uint32, milliseconds of CPU time; then the data. The answer is
a byte, the status, a uint64 length, and that many bytes. An empty answer comes first, when the libraries are loaded.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from collections.abc import Callable
from typing import BinaryIO

REQUEST = struct.Struct("<QI")
ANSWER = struct.Struct("<BQ")


def serve(answer: Callable[[bytes], tuple[int, bytes]], memory: int) -> None:
    """Answer requests until the input ends.

    Args:
        answer: gives the status and the bytes of an answer; what is slow to load should be loaded by now.
        memory: most bytes of address space.
    """
    requests, answers = _own_streams()
    _limit_memory(memory)
    answers.write(ANSWER.pack(0, 0))
    answers.flush()
    # Without a terminal's or a parent's handlers: the timer must end this process.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        size, milliseconds = REQUEST.unpack(head)
        data = requests.read(size)
        signal.setitimer(signal.ITIMER_PROF, milliseconds / 1000)
        status, found = answer(data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(ANSWER.pack(status, len(found)) + found)
        answers.flush()


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
