"""The sheet of a what-if: a plain record of every figure, as data for machines and as one screen for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from arriero.cost.quantity import Quantity
from arriero.cost.units import UNKNOWN, format_count, format_flops, format_seconds, round_text
from arriero.planning.estimate.figures import bar, data, gib, gib_quantity, percent, told

_SHOWN = 1e-4
"""Share of the memory from which on a kind has a line of its own."""


@dataclass(frozen=True)
class Fit:
    """Memory of the fullest device.

    Attributes:
        kinds: bytes by kind, those of 0 left out. total: their sum with its band.
        capacity: what the device gives to programs, or unknown.
    """

    kinds: dict[str, Quantity]
    total: Quantity
    capacity: Quantity

    @property
    def short(self) -> float | None:
        """Bytes of the upper end that there is no room for (0: it fits); None where either side is unknown."""
        if self.total.high is None or self.capacity.value is None:
            return None
        return max(0.0, self.total.high - self.capacity.value)

    @property
    def binding(self) -> str | None:
        """The kind that takes most, of those that a layout or a setting can change."""
        fixed = {"runtime", "margin"}
        found = {name: kind.high or 0.0 for name, kind in self.kinds.items() if name not in fixed}
        return max(found, key=lambda name: found[name]) if found else None

    @property
    def verdict(self) -> str:
        """ "fits", "short by 3.1 GiB: logits", or why nobody can tell."""
        if self.short is None:
            return f"{UNKNOWN}: {self.capacity.source if not self.capacity.known else self.total.source}"
        return f"short by {gib(self.short)}: {self.binding}" if self.short else "fits"

    def to_json(self) -> dict[str, Any]:
        """Bytes with their bands, and the verdict."""
        return {
            "kinds": {name: data(kind) for name, kind in self.kinds.items()},
            "total": data(self.total),
            "capacity": data(self.capacity),
            "short_bytes": self.short,
            "binding": self.binding,
            "verdict": self.verdict,
        }


class Answered(Protocol):
    """What every sheet begins with."""

    @property
    def model(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def settings(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def answer(self) -> dict[str, Quantity]: ...
    @property
    def tier(self) -> str: ...
    @property
    def fit(self) -> Fit: ...


def head_data(kind: str, sheet: Answered) -> dict[str, Any]:
    """The beginning of a sheet as data; ``kind`` names the format."""
    return {
        "format": kind,
        "model": sheet.model,
        "question": sheet.question,
        "settings": dict(sheet.settings),
        "answer": {name: data(quantity) for name, quantity in sheet.answer.items()},
        "tier": sheet.tier,
        "memory": sheet.fit.to_json(),
    }


@dataclass(frozen=True)
class Part:
    """A part of the time: a term of a step, or a phase of a method that has several."""

    name: str
    seconds: float


@dataclass(frozen=True)
class LeftOut:
    """Something that the sheet's money and time do not hold, with a figure where there is one."""

    name: str
    text: str
    money: Quantity | None = None


@dataclass(frozen=True)
class Sheet:
    """What a run would take.

    Attributes:
        model, question: what was asked, for the first line. settings: (name, value) of how it is run.
        answer: time, device time, money, energy, CO2 (and water), in this order.
        tier: letter and words on what the time rests on.
        flops: by class, of the whole run. mfu: share of the peak, with the formula in ``mfu_formula``.
        step: seconds of one step by term. steps: how many. phases: of methods that have several.
        doubts: widest first. next_action: the one thing to do now. sharper: the command that narrows the band.
    """

    model: str
    question: str
    settings: tuple[tuple[str, str], ...]
    answer: dict[str, Quantity]
    tier: str
    fit: Fit
    flops: dict[str, float]
    mfu: Quantity
    mfu_formula: str
    steps: int
    step: tuple[Part, ...]
    phases: tuple[Part, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    doubts: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    next_action: str = ""
    sharper: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every figure with value, low, high, unit, basis and source; seconds, bytes, FLOP, joules, grams."""
        return {
            **head_data("arriero.estimate/1", self),
            "flops": self.flops,
            "mfu": {**data(self.mfu), "formula": self.mfu_formula},
            "steps": self.steps,
            "step_seconds": {part.name: part.seconds for part in self.step},
            "phase_seconds": {part.name: part.seconds for part in self.phases},
            "left_out": [
                {"name": line.name, "text": line.text, "money": data(line.money) if line.money else None}
                for line in self.left_out
            ],
            "doubts": list(self.doubts),
            "sources": list(self.sources),
            "next_action": self.next_action,
            "sharper": self.sharper,
        }

    def print(self, console: Console) -> None:
        """One screen: the answer, then memory, arithmetic and time, then what is left out and what is in doubt."""
        head = (
            f"[bold]{escape(self.model)}[/]: {escape(self.question)}\n{escape(setting_line(self.settings))}"
        )
        closing = closing_lines(self.left_out, self.doubts, self.sources, self.next_action, self.sharper)
        blocks = [head, answer_rows(self.answer, self.notes, self.tier, self.fit), memory_rows(self.fit), _work(self), _time(self), closing]  # fmt: skip
        print_blocks(blocks, console)


def setting_line(settings: Iterable[tuple[str, str]]) -> str:
    """`objective causal, precision bf16, ...`."""
    return ", ".join(f"{name} {value}".strip() for name, value in settings)


def print_blocks(blocks: Iterable[RenderableType], console: Console) -> None:
    """Blocks with an empty line between them."""
    for number, block in enumerate(blocks):
        if number:
            console.print()
        console.print(block, highlight=False)


def grid(rows: Iterable[tuple[str, ...]], *, right: tuple[int, ...] = (1,)) -> Table:
    """A borderless table; columns in ``right`` are set flush right."""
    table = Table(box=None, show_header=False, pad_edge=False)
    cells = [tuple(row) for row in rows]
    for number in range(max((len(row) for row in cells), default=0)):
        table.add_column(
            justify="right" if number in right else "left", overflow="fold", no_wrap=number in right
        )
    for row in cells:
        table.add_row(*row)
    return table


def answer_rows(answer: dict[str, Quantity], notes: dict[str, str], tier: str, fit: Fit) -> RenderableType:
    """Each figure with its band and what it rests on; an unknown one with the reason. A misfit is said before them."""
    rows = [
        (f"  {name}", f"[bold]{escape(told(quantity))}[/]", f"[dim]{escape(notes.get(name, ''))}[/]")
        for name, quantity in answer.items()
    ]
    misfit = [f"[bold red]It does not fit: {escape(fit.verdict)}.[/] If it did:"] if fit.short else []
    return Group(*misfit, grid(rows, right=()), f"  rests on {escape(tier)}")


def memory_rows(fit: Fit) -> RenderableType:
    """Bytes by kind with bars against the capacity, and whether they fit."""
    room = gib_quantity(fit.capacity) if fit.capacity.known else UNKNOWN
    verdict = fit.verdict
    style = "green" if verdict == "fits" else "red" if verdict.startswith("short") else "yellow"
    title = f"[bold]Memory of the fullest device: {gib_quantity(fit.total)} of {room}: [{style}]{escape(verdict)}[/][/]"
    full = max(fit.capacity.value or 0.0, fit.total.value or 0.0) or 1.0
    rows = [
        (f"  {name}", gib_quantity(kind), bar((kind.value or 0.0) / full))
        for name, kind in fit.kinds.items()
        if (kind.value or 0.0) > _SHOWN * full
    ]
    return Group(title, grid(rows))


def _work(sheet: Sheet) -> RenderableType:
    whole = sum(sheet.flops.values())
    parts = ", ".join(f"{name} {percent(value / whole)}" for name, value in sheet.flops.items() if value)
    mfu = UNKNOWN if sheet.mfu.value is None else percent(sheet.mfu.value)
    if sheet.mfu.low is not None and sheet.mfu.high is not None and sheet.mfu.low < sheet.mfu.high:
        mfu += f" ({round_text(100 * sheet.mfu.low, 2)}–{round_text(100 * sheet.mfu.high, 2)})"
    why = f": {sheet.mfu.source}" if sheet.mfu.value is None else ""
    return "\n".join(
        [
            f"[bold]Arithmetic: {format_flops(whole)}[/] ({escape(parts)})",
            f"  {escape(sheet.mfu_formula)} = [bold]{mfu}[/]{escape(why)}",
        ]
    )


def _time(sheet: Sheet) -> RenderableType:
    if not sheet.step:
        return f"[bold]Time[/]: {escape(told(sheet.answer['time']))}"
    whole = sum(part.seconds for part in sheet.step)
    title = f"[bold]One step: {format_seconds(whole)}[/]; {format_count(sheet.steps)} of them"
    rows = [
        (
            f"  {part.name}",
            format_seconds(part.seconds),
            percent(part.seconds / whole),
            bar(part.seconds / whole),
        )
        for part in sheet.step
        if part.seconds > 0
    ]
    blocks: list[RenderableType] = [title, grid(rows, right=(1, 2))]
    if sheet.phases:
        total = sum(part.seconds for part in sheet.phases)
        shares = ", ".join(f"{part.name} {percent(part.seconds / total)}" for part in sheet.phases)
        blocks.append(f"  by phase: {shares}")
    return Group(*blocks)


def closing_lines(
    left_out: Iterable[LeftOut], doubts: Iterable[str], sources: Iterable[str], next_action: str, sharper: str
) -> RenderableType:
    """What is not in the figures, what they may be wrong by, what they rest on, and what to do now."""
    named = {
        "not included": [f"{line.name}: {f'{told(line.money)}, ' if line.money else ''}{line.text}" for line in left_out],
        "doubts": ["; ".join(doubts)] if doubts else [], "sources": list(sources), "next": [next_action] if next_action else [],
        "sharper": [sharper] if sharper else [],
    }  # fmt: skip
    rows = [
        (name if not number else "", line)
        for name, lines in named.items()
        for number, line in enumerate(lines)
    ]
    return grid([(f"[bold]{name}[/]", escape(line)) for name, line in rows], right=())
