"""The table of a benchmark: it grows while the levels run."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

COLUMNS = (
    "workload", "at a time", "done", "cached", "tokens/s", "planned", "TTFT p50/p99 ms", "TPOT p50/p99 ms", "ITL p99 ms", "GB/s",
    "of memory", "goodput",
)  # fmt: skip
UNKNOWN = "–"


class BenchTable:
    """Context manager. On a terminal the table is redrawn as figures come; elsewhere it is printed once, at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[tuple[str, int], tuple[dict[str, Any], int]] = {}
        self._live = (
            Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        )

    def __enter__(self) -> BenchTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._rows:
            self._console.print(self.table())

    def watch(self, level: dict[str, Any], left: int) -> None:
        """Take a level's figures so far."""
        self._rows[level["workload"], level["concurrency"]] = (level, left)
        if self._live is not None:
            self._live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """All levels so far."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for number, name in enumerate(COLUMNS):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for level, left in self._rows.values():
            table.add_row(*cells(level, left))
        return table


def cells(level: dict[str, Any], left: int) -> list[str]:
    """One row of the table."""
    done = level.get("requests", 0)
    failed = level.get("failed", 0)
    decode = level.get("decode") or {}
    planned = (level.get("planned") or {}).get("output_tokens_per_s") or {}
    share = decode.get("bandwidth_share")
    goodput, cached = level.get("goodput"), level.get("cached_tokens")
    return [
        level["workload"],
        str(level["concurrency"]),
        (f"{done}/{done + failed + left}" if left else str(done)) + (f" ({failed} failed)" if failed else ""),
        UNKNOWN
        if not level.get("prompt_tokens") or cached is None
        else f"{cached / level['prompt_tokens']:.0%}",
        _number(level.get("output_tokens_per_s")),
        _number(planned.get("value")),
        _times(level.get("ttft_s")),
        _times(level.get("tpot_s")),
        _number((level.get("itl_s") or {}).get("p99"), 1e3),
        _number(decode.get("bytes_per_s"), 1e-9),
        UNKNOWN if share is None else f"{share:.1%}",
        UNKNOWN if goodput is None else f"{goodput['share']:.0%}",
    ]


def _times(found: dict[str, float] | None) -> str:
    """Milliseconds of the median and of the slowest hundredth."""
    return UNKNOWN if not found else f"{_number(found['p50'], 1e3)} / {_number(found['p99'], 1e3)}"


def _number(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return UNKNOWN
    scaled = value * scale
    return f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.3g}"
