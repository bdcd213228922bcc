"""Sums over a project: by kind of stage and in all, unknown parts told, measured and assumed never mixed in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arriero.cost import Estimate, Quantity
from arriero.cost.meter_energy import share_text
from arriero.cost.quantity import total
from arriero.cost.tariff_tables import development_table
from arriero.cost.tariffs import Tariffs
from arriero.cost.units import format_quantity, format_value
from arriero.recipe.ledger_project import Made, read_project
from arriero.recipe.runfolder import RunFolder

SUMMED = ("seconds", "energy", "co2", "money")


@dataclass(frozen=True)
class Spent:
    """What a number of stages took together.

    Attributes:
        known: sums of the known parts by quantity. unknown: how many parts are not in them.
        money: by currency. assumed: joules of the energy that no counter showed.
    """

    name: str
    stages: int
    known: dict[str, Quantity]
    unknown: dict[str, int]
    money: dict[str, Quantity]
    assumed: float

    @classmethod
    def of(cls, name: str, made: Sequence[Made]) -> Spent:
        sheets = [one.measured.estimate for one in made]
        known, unknown = {}, {}
        for quantity in SUMMED[:-1]:
            parts = [getattr(sheet, quantity) for sheet in sheets]
            known[quantity], unknown[quantity] = _sum(parts, Estimate.model_fields[quantity].default.unit)
        currencies = dict.fromkeys(sheet.money.unit for sheet in sheets if sheet.money.known)
        money = {c: _sum([s.money for s in sheets if s.money.unit == c], c)[0] for c in currencies}
        unknown["money"] = sum(not sheet.money.known for sheet in sheets)
        return cls(name, len(made), known, unknown, money, sum(_assumed(one) for one in made))

    @property
    def assumed_share(self) -> float | None:
        """Of the known energy; None when none is known."""
        energy = self.known["energy"].value
        return self.assumed / energy if energy else None

    def text(self, quantity: str) -> str:
        """ "1.2 kWh", "at least 1.2 kWh, 3 unknown" or "unknown"."""
        parts = [*self.money.values()] if quantity == "money" else [self.known[quantity]]
        shown = " + ".join(format_quantity(part, band=False) for part in parts if part.known)
        missing = self.unknown[quantity]
        if missing == self.stages or not shown:
            return "unknown" if self.stages else shown or "0"
        return f"at least {shown}, {missing} unknown" if missing else shown

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name, "stages": self.stages,
            **{name: quantity.model_dump(mode="json") for name, quantity in self.known.items()},
            "money": {unit: quantity.model_dump(mode="json") for unit, quantity in self.money.items()},
            "unknown_parts": self.unknown, "assumed_share_of_energy": self.assumed_share,
        }  # fmt: skip


def _sum(parts: Iterable[Quantity], unit: str) -> tuple[Quantity, int]:
    parts = list(parts)
    known = [part for part in parts if part.known]
    found = total(known, unit) if known else Quantity.unknown(unit)
    return found, len(parts) - len(known)


def _assumed(one: Made) -> float:
    energy, share = one.measured.estimate.energy, one.measured.assumed_share
    if share is None:  # a record of a version that did not keep it
        share = 0.0 if energy.basis == "measured" else 1.0
    return (energy.value or 0.0) * share


def spent_by_kind(made: Sequence[Made]) -> list[Spent]:
    """One for each kind of stage, what is unfinished by itself, and the sum of all as the last."""
    kinds: dict[str, list[Made]] = {}
    for one in made:
        kinds.setdefault(one.kind if one.finished else "not finished", []).append(one)
    return [*(Spent.of(kind, kinds[kind]) for kind in sorted(kinds)), Spent.of("total", made)]


def programme_lines(
    this: Estimate, so_far: Sequence[Made], where: str, tariffs: Tariffs, *, runs: int
) -> list[str]:
    """This run, the project so far, what projects usually come to; and water, where it was asked for.

    Args:
        this: predicted or measured sum of the run. so_far: all stages of the project, ``runs`` runs of them.
    """
    table = development_table()
    lines = [f"this run: {_figures(this)}"]
    if so_far:
        spent = Spent.of("", so_far)
        figures = ", ".join(spent.text(name) for name in ("seconds", "energy", "money"))
        share = spent.assumed_share
        told = f" ({share_text(share)})" if share is not None and 0 < share < 1 else ""
        lines.append(f"this project so far, {runs} runs in {where}: {figures}{told}")
    else:
        lines.append(f"this project so far: nothing in {where}")
    in_all = ""
    if this.seconds.value is not None:
        low, high = (format_value(this.seconds.value * times, "s", 2) for times in (table.low, table.high))
        in_all = f", here {low} to {high}"
    lines.append(
        f"typical: all runs of a project cost {table.low:g} to {table.high:g} times the final one{in_all} "
        f"({table.basis}, {table.as_of}: {table.source})"
    )
    water = tariffs.water_of(this.energy)
    if water is not None:
        lines.append(f"water: {water_text(water)}")
    return lines


def water_text(water: Quantity) -> str:
    """ "0.012 L (0.004–0.04), modelled: …"; litres are two digits whatever they rest on."""
    if water.value is None or water.low is None or water.high is None:
        return f"unknown: {water.source}"
    band = "" if water.low == water.high else f" ({water.low:.2g}–{water.high:.2g})"
    return f"{water.value:.2g} L{band}, {water.basis}: {water.source}"


def _figures(sheet: Estimate) -> str:
    return ", ".join(format_quantity(getattr(sheet, name)) for name in ("seconds", "energy", "money"))


def programme_of(this: Estimate, folder: RunFolder, tariffs: Tariffs) -> list[str]:
    """:func:`programme_lines` with the runs of all run folders beside ``folder`` as the project."""
    where = folder.path.resolve().parent
    beside = [RunFolder(file.parent) for file in sorted(where.glob("*/ledger.jsonl"))]
    project = read_project(beside, strict=False)
    lines = programme_lines(this, project.made, f"{where.name}/", tariffs, runs=len(project.runs))
    return [*lines, *(f"not in these figures: {note}" for note in project.notes)]
