"""The process of a pool's worker: takes tasks from a socket, does them, tells how they went.

Started as a fresh interpreter (see :mod:`arriero.data.execute.pool`), so it holds nothing of its parent: no threads,
no locks, no torch. Messages are pickles between the two processes; no file is read as one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from arriero.data.execute.tasks import Task, Work
from arriero.errors import ArrieroError

OUT_OF_MEMORY = 77
"""Exit status of a worker that ran out of memory: what it held is torn, so it is not used again."""
_PR_SET_PDEATHSIG = 1


def main(handle: int, parent: int) -> None:
    """Work until the other end closes.

    Args:
        handle: file descriptor of the socket.
        parent: process id of the pool, with which the worker ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the pool, which ends its workers
    _end_with(parent)
    connection = Connection(handle)
    with contextlib.suppress(EOFError, OSError):  # the pool is gone, or is through
        path, memory = connection.recv()
        sys.path[:] = path
        _limit_memory(memory)
        work: Any = None
        while True:
            message, task = connection.recv()
            work = work if message is None else pickle.loads(message)
            _send(connection, attempt(work, task))
    os._exit(0)  # at once: nothing here needs the interpreter's own tidying up


def attempt(work: Work, task: Task) -> tuple[str, Any]:
    """Do a task: ("done", result), ("refused", an ArrieroError) or ("error", one line).

    Of an unexpected error the traceback goes to stderr. Ends the process when it is out of memory.
    """
    try:
        return "done", work(task)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except ArrieroError as error:
        return "refused", _as_sent(error)
    except BaseException as error:
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "error", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


def _as_sent(error: ArrieroError) -> ArrieroError:
    """The error, or its message alone where another process could not make it from what is sent."""
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return error
    return ArrieroError(str(error))


def _send(connection: Connection, answer: tuple[str, Any]) -> None:
    try:
        connection.send(answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        connection.send(("error", f"the task's result cannot be sent: {error}"))


def _end_with(parent: int) -> None:
    """Be killed when the parent dies; where the system cannot do that, look for the parent every second."""
    with contextlib.suppress(OSError, AttributeError):
        if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
            if os.getppid() != parent:  # it died before the call
                os._exit(1)
            return
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _limit_memory(most: int | None) -> None:
    """Bound the data of this process (RLIMIT_DATA: the heap and private anonymous maps, not files)."""
    if most is None:
        return
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))
