"""Memory of every rank as a stacked bar against what the device has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arriero.cost.quantity import Quantity
from arriero.cost.units import UNKNOWN
from arriero.planning.estimate.figures import gib_quantity
from arriero.planning.pictures.canvas import MARGIN, ROW, SMALL, WIDTH, Box, Canvas
from arriero.planning.pictures.figures import finite, share
from arriero.planning.pictures.measure import column
from arriero.planning.pictures.picture import TOP, Picture, begin, finish, nothing
from arriero.planning.pictures.table import Row, draw_table, table_lines

KINDS = {
    "weights": ("weights", 1, "█"), "gradients": ("gradients", 2, "▓"), "optimizer": ("optimizer", 5, "▒"),
    "activations": ("activations", 3, "░"), "logits": ("logits", 6, "#"), "unsharded": ("unsharded", 4, "="),
    "kv": ("KV cache", 7, "%"), "runtime": ("runtime", 0, "+"),
    "resident": ("resident", 1, "█"),
}  # fmt: skip
"""By kind: what it is called, its colour and its letter in the terminal, in the order of stacking."""
_OTHER = (0, "+")
_MARGIN_LETTER = "/"
_BAR, _SHOWN_RANKS, _CELLS = 20.0, 4, 64
_WITHOUT_SHARES = 3
"""From so many columns on there is no room for shares beside the bytes."""


@dataclass(frozen=True)
class RankMemory:
    """What one rank holds at its fullest moment, in bytes.

    Attributes:
        rank: what it is called ("rank 0", "stage 1 of 4").
        parts: bytes by kind (see :data:`KINDS`; other names keep their own).
        margin: the most that the allocator may hold above that.
    """

    rank: str
    parts: dict[str, float]
    margin: float = 0.0

    @property
    def total(self) -> float:
        """What is allocated."""
        return sum(self.parts.values())

    @property
    def top(self) -> float:
        """What the device must have."""
        return self.total + self.margin


@dataclass(frozen=True)
class _Bars:
    """What is drawn: the ranks, the device's bytes, the bytes of a bar's full length, how bytes are written, and
    what the hatched part is called."""

    ranks: Sequence[RankMemory]
    capacity: float | None
    longest: float
    words: Callable[[Quantity], str]
    margin: str

    def text(self, size: float) -> str:
        return self.words(Quantity.exact(size, "B", "measured"))

    def total(self, rank: RankMemory) -> str:
        more = f", up to {self.text(rank.top)}" if rank.margin else ""
        return f"{self.text(rank.total)}{more}"

    def verdict(self, rank: RankMemory) -> str:
        """What is left, or what is missing and which kind takes most."""
        if self.capacity is None:
            return f"the device's memory is {UNKNOWN}"
        if rank.top <= self.capacity:
            return f"{self.text(self.capacity - rank.top)} left"
        where = "" if rank.total > self.capacity else " with the margin"
        largest = max(rank.parts, key=lambda kind: rank.parts[kind])
        return f"short by {self.text(rank.top - self.capacity)}{where}: {_title(largest)}"

    def cell(self, size: float | None, rank: RankMemory) -> str:
        if not size:
            return "–"
        part = f" · {share(size / rank.total)}" if len(self.ranks) < _WITHOUT_SHARES else ""
        return f"{self.text(size)}{part}"


def memory_picture(
    ranks: Sequence[RankMemory], capacity: float | None, *, title: str = "Memory of each rank",
    name: str = "memory", words: Callable[[Quantity], str] = gib_quantity, whose: str = "ranks",
    margin: str = "allocator margin",
) -> Picture:  # fmt: skip
    """Bars of the ranks, stacked by kind; the margin hatched, the capacity a line across all of them.

    Neighbouring ranks with the same figures share a bar; of many different ones the fullest are drawn.

    Args:
        capacity: bytes that one device has; None when unknown. words: how bytes are written.
        whose: what the bars are of. margin: what the hatched part is called.
    """
    groups = _grouped([_sound(rank) for rank in ranks])
    if not groups:
        return nothing(name, title, "no rank's memory is known")
    shown = groups
    if len(groups) > _SHOWN_RANKS:
        shown = sorted(groups, key=lambda rank: -rank.top)[:_SHOWN_RANKS]
    capacity = capacity if finite(capacity) and capacity else None
    bars = _Bars(shown, capacity, max(capacity or 0.0, *(rank.top for rank in shown)), words, margin)
    note = (
        f"the {_SHOWN_RANKS} fullest of {len(groups)} different {whose}" if len(shown) < len(groups) else ""
    )
    canvas = begin(name, title)
    y = _draw_bars(canvas, bars)
    if note:
        canvas.text(MARGIN, y + 9, note, size=SMALL)
        y += ROW
    rows, heads = _rows(bars), ["", *(rank.rank for rank in shown)]
    y = draw_table(canvas, y, heads, rows)
    return finish(canvas, title, y + MARGIN, [*_lines(bars, note), *table_lines(heads, rows)])


def _sound(rank: RankMemory) -> RankMemory:
    """The rank without what is no figure or nothing, its kinds in the order of stacking."""
    order = [*KINDS, *rank.parts]
    parts = {kind: size for kind, size in rank.parts.items() if finite(size) and size > 0}
    margin = rank.margin if finite(rank.margin) and rank.margin > 0 else 0.0
    return RankMemory(rank.rank, dict(sorted(parts.items(), key=lambda part: order.index(part[0]))), margin)


def _grouped(ranks: Sequence[RankMemory]) -> list[RankMemory]:
    """Ranks in the order they come, neighbours with the same figures as one: "rank 0 … rank 7"."""
    found: list[tuple[RankMemory, str]] = []
    for rank in ranks:
        if rank.total <= 0:
            continue
        if found and (found[-1][0].parts, found[-1][0].margin) == (rank.parts, rank.margin):
            found[-1] = (found[-1][0], rank.rank)
        else:
            found.append((rank, rank.rank))
    return [
        first if first.rank == last else RankMemory(f"{first.rank} … {last}", first.parts, first.margin)
        for first, last in found
    ]


def _title(kind: str) -> str:
    return KINDS[kind][0] if kind in KINDS else kind


def _look(kind: str) -> tuple[int, str]:
    """A kind's colour and letter."""
    return KINDS[kind][1:] if kind in KINDS else _OTHER


def _draw_bars(canvas: Canvas, bars: _Bars) -> float:
    room, y, hatch = WIDTH - 2 * MARGIN, TOP + 4, canvas.hatch()
    at = MARGIN + room * (bars.capacity or 0.0) / bars.longest
    if bars.capacity is not None:
        text = f"capacity {bars.text(bars.capacity)}"
        canvas.text(WIDTH - MARGIN, y + 6, text, size=SMALL, anchor="end", look="badf", bold=True)
        y += ROW
    for rank in bars.ranks:
        box = canvas.text(WIDTH - MARGIN, y + 11, bars.total(rank), size=SMALL, anchor="end", look="inkf")
        canvas.text(MARGIN, y + 11, rank.rank, look="inkf", bold=True, room=max(20.0, box.x - MARGIN - 10))
        _draw_bar(canvas, bars, rank, Box(MARGIN, y + ROW + 1, room, _BAR), hatch)
        if bars.capacity is not None:
            canvas.path(f"M{at:.1f} {y + ROW - 2:.1f}v{_BAR + 6:g}", "bad", width=2)
        y += ROW + _BAR + 17
        verdict = bars.verdict(rank)
        look = "badf" if verdict.startswith("short") else "softf"
        canvas.text(MARGIN, y, verdict, size=SMALL, look=look, room=room)
        y += 16
    return y


def _draw_bar(canvas: Canvas, bars: _Bars, rank: RankMemory, box: Box, hatch: str) -> None:
    canvas.rect(box, "linef", more=' fill-opacity=".55"')
    x = box.x
    for kind, size in rank.parts.items():
        part = Box(x, box.y, box.width * size / bars.longest, box.height)
        canvas.rect(part, f"c{_look(kind)[0]}f", tip=f"{_title(kind)}: {bars.text(size)}")
        if part.width > 3:
            canvas.path(f"M{part.right:.1f} {box.y:.1f}v{box.height:g}", "gap")
        x = part.right
    if rank.margin:
        margin = Box(x, box.y, box.width * rank.margin / bars.longest, box.height)
        tip = f"{bars.margin}: up to {bars.text(rank.margin)}"
        canvas.rect(margin, "tick", tip=tip, more=f' fill="{hatch}"')


def _rows(bars: _Bars) -> list[Row]:
    kinds = list(dict.fromkeys(kind for rank in bars.ranks for kind in rank.parts))
    rows = [
        Row([_title(kind), *(bars.cell(rank.parts.get(kind), rank) for rank in bars.ranks)], _look(kind)[0], letter=_look(kind)[1])
        for kind in kinds
    ]  # fmt: skip
    if len(kinds) > 1:
        rows.append(Row(["allocated", *(bars.text(rank.total) for rank in bars.ranks)], bold=True))
    if any(rank.margin for rank in bars.ranks):
        cells = [bars.text(rank.margin) if rank.margin else "–" for rank in bars.ranks]
        rows.append(Row([f"{bars.margin}, up to", *cells], hatched=True, letter=_MARGIN_LETTER))
    return rows


def _lines(bars: _Bars, note: str) -> list[str]:
    found = [] if bars.capacity is None else [f"  capacity {bars.text(bars.capacity)} at |"]
    for rank in bars.ranks:
        drawn, filled = "", 0.0
        letters = [(size, _look(kind)[1]) for kind, size in rank.parts.items()]
        for size, letter in [*letters, (rank.margin, _MARGIN_LETTER)]:
            filled += size
            drawn += letter * (round(_CELLS * filled / bars.longest) - len(drawn))
        if bars.capacity is not None:
            at = round(_CELLS * bars.capacity / bars.longest)
            drawn = f"{drawn.ljust(_CELLS)[:at]}|{drawn[at:]}"
        words = f"{rank.rank}: {bars.total(rank)}; {bars.verdict(rank)}"
        found += [f"  {drawn}", "  " + column(words, 78)]
    return [*found, f"  {note}"] if note else found
