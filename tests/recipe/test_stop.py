from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.recipe.stop import GRACE, StopFlag, grace_seconds


class Said:
    """A display that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("text", "seconds"), [("30", 30.0), ("0", 0.0), ("2.5", 2.5)])
def test_grace_is_seconds(text: str, seconds: float) -> None:
    assert grace_seconds({GRACE: text}) == seconds
    assert grace_seconds({}) == 0


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", ""])
def test_anything_else_is_one_line(text: str) -> None:
    with pytest.raises(ArrieroError, match=f"{GRACE} is '{text}'; it should be seconds"):
        grace_seconds({GRACE: text})


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_leaves(
    first: int, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRACE, "1000")
    stop, said = StopFlag(), Said()
    display: Any = said
    before = signal.getsignal(signal.SIGTERM)
    with stop.on_signals(display):
        assert not stop
        os.kill(os.getpid(), first)
        assert stop and "next safe point" in said.lines[0]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
    assert signal.getsignal(signal.SIGTERM) is before
