"""The sheet of a training run from its outcome: figures beside what they rest on, and what to do next."""

from __future__ import annotations

from arriero.cost.quantity import Quantity
from arriero.cost.tariff_tables import development_table
from arriero.cost.time.tiers import TIERS
from arriero.cost.units import format_count, round_text
from arriero.planning.counts.objective_names import OBJECTIVES, resolve_objective
from arriero.planning.estimate.arithmetic import method_flops, utilisation
from arriero.planning.estimate.doubts import doubts, sharper
from arriero.planning.estimate.figures import percent, plain_band, price_words
from arriero.planning.estimate.layout_text import layout_words
from arriero.planning.estimate.outcome import Outcome
from arriero.planning.estimate.remedies import remedy
from arriero.planning.estimate.sheet import LeftOut, Sheet

_HARDLY_FAILS = 0.999
"""Share of the wall clock that trains from which on failures are not worth a word."""


def training_sheet(outcome: Outcome) -> Sheet:
    """Everything that `arriero estimate` shows of a training run."""
    case, bill = outcome.case, outcome.bill
    tier = TIERS[case.coefficients.tier]
    answer = {
        "time": outcome.wall, **({"device time": bill.device_hours} if case.question.count > 1 else {}), "money": bill.money, "energy": bill.energy, "CO2": bill.co2,
        **({"water": bill.water} if bill.water is not None else {}),
    }  # fmt: skip
    flops = method_flops(case.method, case.tokens)
    mfu, formula = utilisation(outcome, flops)
    return Sheet(
        model=case.model.name,
        question=_question(outcome),
        settings=_settings(outcome),
        answer=answer,
        notes=_notes(outcome),
        tier=f"tier {tier.letter}, {tier.name}: {tier.meaning}",
        fit=outcome.fit,
        flops=flops,
        mfu=mfu,
        mfu_formula=formula,
        steps=outcome.steps,
        step=outcome.step if outcome.training.known else (),
        phases=outcome.phases if outcome.training.known else (),
        left_out=_left_out(outcome),
        doubts=doubts(outcome),
        next_action=remedy(outcome),
        sharper=sharper(outcome),
    )


def _question(outcome: Outcome) -> str:
    case = outcome.case
    size = case.workload.parameters
    trained = f", {format_count(size.trained)} of them trained" if size.trained < size.total else ""
    devices = f"{case.question.count:,} × {case.device.name}" if case.device.hardware else case.device.name
    return (
        f"{format_count(size.total)} parameters{trained}, {format_count(case.tokens)} tokens"
        f" ({round_text(case.tokens / size.total, 2)} a parameter), on {devices}"
    )


def _settings(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    case, layout = outcome.case, outcome.layout
    step_tokens = layout.sequences * case.context
    found = [
        ("objective", _objective(outcome)),
        ("precision", case.precision),
        ("context", f"{case.context:,}"),
        ("layout", layout_words(layout.cut)),
        ("ZeRO", str(int(layout.cut.zero))) if int(layout.cut.sharers) > 1 else ("", ""),
        ("pipeline", f"interleaved, {layout.cut.chunks} parts a stage")
        if int(layout.cut.chunks) > 1
        else ("", ""),
        ("micro-batch", str(layout.micro_batch)),
        ("step", f"{format_count(step_tokens)} tokens"),
        ("recompute", layout.recompute),
        ("LoRA rank", f"{case.question.lora_rank} on {case.question.held}")
        if case.question.lora_rank
        else ("", ""),
    ]
    return tuple((name, value) for name, value in found if name)


def _objective(outcome: Outcome) -> str:
    """What is trained, in a word, and what was assumed of other models."""
    method = outcome.case.method
    if method.name in OBJECTIVES or method.name == "auto":
        return resolve_objective(outcome.case.model.config, method.name)[1]
    return f"{method.name} ({method.assumed})" if method.assumed else method.name


def _notes(outcome: Outcome) -> dict[str, str]:
    """What each figure rests on, in few words; the whole sources are in the data."""
    case, bill, effective = outcome.case, outcome.bill, outcome.effective
    tariffs, grid = case.tariffs, case.tariffs.grid
    notes = {}
    if effective.value is not None and effective.value < _HARDLY_FAILS:
        notes["time"] = f"{percent(effective.value)} of it trains, {effective.source.split(';')[0]}"
    if bill.price.known:
        notes["money"] = price_words(bill.price, tariffs.currency)
    if bill.energy.known:
        where = "" if tariffs.grid_given else ", assumed (--region)"
        notes["energy"] = f"{plain_band(bill.power)} W a device, host left out"
        notes["CO2"] = (
            f"{grid.source.split(':')[0]} {grid.value:g} g/kWh ({grid.as_of}){where}, PUE {tariffs.pue.value:g}"
        )
    return notes


def _left_out(outcome: Outcome) -> tuple[LeftOut, ...]:
    """What the money does not hold: the runs before this one above all."""
    table, money = development_table(), outcome.bill.money
    whole = Quantity.unknown(money.unit, money.source)
    if money.value is not None and money.low is not None and money.high is not None:
        whole = Quantity(
            value=money.value * (table.low * table.high) ** 0.5, low=money.low * table.low, high=money.high * table.high,
            unit=money.unit, basis="modelled", source=table.source,
        )  # fmt: skip
    lines = [
        LeftOut(
            "the whole project",
            f"with trials and failed runs, {table.low:g} to {table.high:g} times the final run",
            whole,
        )
    ]
    if not outcome.effective.known and outcome.case.question.count > 1:
        lines.append(LeftOut("failures and restarts", outcome.effective.source))
    lines.append(
        LeftOut("besides", "host, network and storage; data preparation; evaluation; taxes and transfer")
    )
    return tuple(lines)
