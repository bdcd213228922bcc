"""Heartbeats of the ranks, and a watchdog that names the one that hangs.

Every rank tells its watchdog what it is doing. One that has not moved for too long writes down where each of its
threads stands; of ranks that wait for each other the one to blame is the one that does not wait in a collective.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from arriero.artifacts.commit import write_json_atomic

HUNG_EXIT = 75
"""Exit status of a process that its watchdog ended (EX_TEMPFAIL: trying again may help)."""
_INNERMOST = 12


class Watchdog:
    """Context manager around a run's loop; :meth:`beat` after every piece of work.

    Args:
        folder: where all ranks write their state (the run's state folder).
        limit: seconds without a beat that count as a hang; 0 never does.
        say: told which rank hangs, and where.
        end: called after that; ends the process where a group can start again, or returns.
        clock: seconds, for tests.
        background: False leaves out the thread; then call :meth:`look` yourself.
    """

    def __init__(
        self,
        folder: Path,
        limit: float,
        say: Callable[[str], None],
        *,
        rank: int = 0,
        world: int = 1,
        end: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        background: bool = True,
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._say = say
        self._rank, self._world = rank, world
        self._end = end or _end_under_torchrun
        self._clock = clock
        self._background = background and limit > 0
        self._main = threading.get_ident()
        self._done = threading.Event()
        self._beat = (clock(), "start")
        self._told: tuple[float, str] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watchdog:
        self._file(self._rank).unlink(missing_ok=True)
        if self._background:
            self._thread = threading.Thread(target=self._watch, name="arriero-watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._file(self._rank).unlink(missing_ok=True)

    def beat(self, doing: str) -> None:
        """Progress was made; ``doing`` says what comes now ("step 7"). Costs next to nothing."""
        self._beat = (self._clock(), doing)

    def look(self) -> bool:
        """True (once for each hang) when there was no beat for too long; then everybody is told."""
        beat = self._beat
        if not self._limit or self._clock() - beat[0] < self._limit or self._told == beat:
            return False
        self._told = beat
        self._write(beat)
        return True

    def accuse(self) -> str:
        """One line: which rank hangs, and where. Read from what the ranks that hang have written."""
        states = [state for state in map(self._read, range(self._world)) if state]
        busy = [state for state in states if not state["waiting"]]
        silent = sorted(set(range(self._world)) - {state["rank"] for state in states})
        if silent and not busy:  # a process that is stopped, or whose machine is gone, cannot write
            return self._silence(silent, min(states, key=lambda state: state["at"]))
        blamed = busy or states
        if len(blamed) > 1 and not busy:
            return f"all {len(blamed)} ranks wait for each other since {blamed[0]['doing']}: see {self._stacks('*')}"
        worst = min(blamed, key=lambda state: state["at"])
        of = f" of {self._world}" if self._world > 1 else ""
        return (
            f"rank {worst['rank']}{of} (process {worst['pid']} on {worst['host']}) has not moved for "
            f"{worst['seconds']:.0f} s in {worst['doing']}: it is at {worst['where']} (all threads: "
            f"{self._stacks(worst['rank'])})"
        )

    def _silence(self, silent: list[int], waiting: dict[str, Any]) -> str:
        ranks = f"rank {silent[0]}" if len(silent) == 1 else "ranks " + ", ".join(map(str, silent))
        return (
            f"{ranks} of {self._world} said nothing: stopped, or its machine does not answer; rank {waiting['rank']} "
            f"has waited for {waiting['seconds']:.0f} s in {waiting['doing']}, at {waiting['where']}"
        )

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self._limit / 4)):
            if self.look():
                self._done.wait(min(5.0, self._limit / 2))  # so that the other ranks' files are there
                self._say(self.accuse())
                self._end()

    def _write(self, beat: tuple[float, str]) -> None:
        frame, still = sys._current_frames().get(self._main), self._clock() - beat[0]
        with self._stacks(self._rank).open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        state = {
            "rank": self._rank, "pid": os.getpid(), "host": socket.gethostname(), "doing": beat[1], "at": time.time() - still,
            "seconds": still, "where": _where(frame), "waiting": _waits(frame),
        }  # fmt: skip
        write_json_atomic(self._file(self._rank), state)

    def _read(self, rank: int) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._file(rank).read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def _file(self, rank: int) -> Path:
        return self._folder / f"hung-rank-{rank}.json"

    def _stacks(self, rank: object) -> Path:
        return self._folder / f"hung-rank-{rank}.txt"


def _where(frame: FrameType | None) -> str:
    if frame is None:
        return "its end"
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"


def _waits(frame: FrameType | None) -> bool:
    """True when the thread stands in a collective: it waits for other ranks."""
    for _ in range(_INNERMOST):
        if frame is None:
            return False
        if "torch/distributed/" in Path(frame.f_code.co_filename).as_posix():
            return True
        frame = frame.f_back
    return False


def _end_under_torchrun() -> None:
    """Only a process of a group that starts again is ended; alone, a long step would be a lost run."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        os._exit(HUNG_EXIT)
