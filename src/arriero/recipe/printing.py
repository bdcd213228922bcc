"""Plans and artifacts as text in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.artifacts import Artifact
from arriero.artifacts.lineage import lineage, raw_sources
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.cost.units import (
    format_bytes,
    format_count,
    format_energy,
    format_flops,
    format_mass,
    format_money,
    format_quantity,
    format_seconds,
    round_text,
)
from arriero.recipe.comparison_table import print_comparison
from arriero.recipe.describe import describe_spec
from arriero.recipe.ladder_table import print_law, print_reconciliation
from arriero.recipe.plan import PlannedStage, RecipePlan, spec_of
from arriero.recipe.run import RunResult

_MARK = {"measured": "m", "modelled": "~", "declared": "d", "unknown": "?"}
_LEGEND = "m measured · ~ modelled · d declared · ? unknown;  each figure: middle (low–high)"


WIDE = 140
"""Columns from which every cell of a table has room for its band."""


def _cell(quantity: Quantity, *, band: bool = True) -> str:
    return f"{format_quantity(quantity, band=band)} {_MARK[quantity.basis]}"


_COLUMNS = {
    "seconds": "time", "peak_memory": "peak memory", "flops": "FLOPs", "energy": "energy", "co2": "CO2", "money": "money",
}  # fmt: skip


def _row(label: str, makes: str, estimate: Estimate, wide: bool, names: list[str]) -> list[str]:
    cells = [_cell(getattr(estimate, name), band=wide or name == "seconds") for name in names]
    return [escape(label), escape(makes), *cells]


def print_plan(plan: RecipePlan, console: Console) -> None:
    """The plan: the sum first, stage by stage, what it rests on, what is left out."""
    total = plan.total
    ahead = len(plan.ahead)
    console.print(
        f"\n[bold]Plan of {escape(plan.recipe.name)}[/]: {ahead} stages to run, {len(plan.stages) - ahead} reused"
    )
    if ahead:
        console.print(
            f"  takes [bold]{format_quantity(total.seconds)}[/], {format_quantity(total.peak_memory)} of memory, "
            + ", ".join([format_quantity(total.energy), *_co2(total), format_quantity(total.money)])
        )
    console.print(_plan_table(plan, console.width >= WIDE))
    console.print(f"[dim]{_LEGEND}[/]")
    for stage in plan.ahead:
        for note in stage.notes:
            console.print(f"[dim]{escape(stage.step.name)}: {escape(note)}[/]", highlight=False)
    if plan.programme:
        console.print("[bold]The whole programme[/]")
    for line in plan.programme:
        console.print(f"  {escape(line)}", highlight=False)
    console.print("[bold]Rests on[/]")
    for line in plan.rests_on():
        console.print(f"  {escape(line)}", highlight=False)
    console.print("[bold]Left out[/]: " + "; ".join(plan.left_out()) + "\n", highlight=False)


def _co2(estimate: Estimate) -> list[str]:
    """Nothing where nobody asked for it and it would be a guess."""
    return [f"{format_quantity(estimate.co2)} CO2"] if estimate.co2.known else []


def _plan_table(plan: RecipePlan, wide: bool) -> Table:
    names = [name for name in _COLUMNS if name != "co2" or any(s.estimate.co2.known for s in plan.ahead)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("stage", "makes", *(_COLUMNS[name] for name in names)):
        table.add_column(title, overflow="fold")
    for stage in plan.stages:
        label = _label(stage)
        if stage.reuse is not None:
            table.add_row(
                escape(label), escape(describe_spec(stage.spec)), "[green]reused[/]", *[""] * (len(names) - 1)
            )
        else:
            table.add_row(*_row(label, describe_spec(stage.spec), stage.estimate, wide, names))
    table.add_section()
    table.add_row(*(f"[bold]{cell}[/]" for cell in _row("total", "", plan.total, wide, names)))
    return table


def _label(stage: PlannedStage) -> str:
    name, kind = stage.step.name, stage.step.stage.kind
    return name if name == kind else f"{name} ({kind})"


def _print_mapping(title: str, values: dict[str, Any], console: Console) -> None:
    if values:
        console.print(f"[bold]{title}[/]")
        for key, value in values.items():
            text = str(value)
            console.print(
                f"  {key}: {escape(text if len(text) < 300 else text[:297] + '...')}", highlight=False
            )


def print_artifact(artifact: Artifact, console: Console) -> None:
    """An artifact: facts, lineage back to the raw files, licences met on the way."""
    manifest = artifact.manifest
    console.print(f"\n[bold]{escape(manifest.name)}[/]: {manifest.makes} made by stage '{manifest.kind}'")
    console.print(f"  {escape(str(artifact.path))}", highlight=False)
    console.print(
        f"  key {manifest.key[:12]} · {manifest.started} to {manifest.ended} · seed {manifest.seed}",
        highlight=False,
    )
    _print_measured(manifest.measured, console)
    _print_mapping("Spec", manifest.spec, console)
    if manifest.makes == "comparison":
        print_comparison(artifact, console)
    elif manifest.kind == "ladder":
        print_law(artifact, console)
    elif manifest.makes == "reconciliation":
        print_reconciliation(artifact, console)
    else:
        _print_mapping("Facts", manifest.facts, console)
    _print_mapping("Settings", manifest.settings, console)
    console.print("[bold]Files[/]")
    for record in manifest.files:
        console.print(
            f"  {escape(record.path)}  {format_bytes(record.bytes)}  sha256 {record.sha256[:12]}…",
            highlight=False,
        )
    console.print("[bold]Lineage[/]")
    for step in lineage(artifact):
        gone = "" if step.artifact else "  (no longer there)"
        role = f"{step.role}: " if step.role else ""
        console.print(
            f"  {'  ' * step.depth}{role}{escape(step.name)} ({step.kind}) {step.key[:12]}{gone}",
            highlight=False,
        )
    console.print("[bold]Raw files[/]")
    for source in raw_sources(artifact):
        console.print(
            f"  {escape(source.path)}  {format_bytes(source.bytes)}  sha256 {source.sha256[:12]}…",
            highlight=False,
        )
    console.print("[bold]Licences[/]")
    for licence in manifest.licenses:
        console.print(
            f"  {escape(licence.name)}: {escape(licence.of)}"
            + (f" ({escape(licence.url)})" if licence.url else ""),
            highlight=False,
        )
    _print_mapping("Made with", {**manifest.versions, **manifest.host}, console)


def _print_measured(measured: dict[str, Any], console: Console) -> None:
    if not measured:
        return
    estimate = Estimate.model_validate(measured["estimate"])
    figures = (
        format_seconds(estimate.seconds.value or 0), format_bytes(estimate.peak_memory.value or 0) + " peak",
        format_flops(estimate.flops.value or 0), *_known(estimate),
    )  # fmt: skip
    console.print("  took " + ", ".join(figures), highlight=False)


def _known(estimate: Estimate) -> list[str]:
    shown = []
    if estimate.energy.value is not None:
        shown.append(f"{format_energy(estimate.energy.value)} ({estimate.energy.basis})")
    if estimate.co2.value is not None:
        shown.append(f"{format_mass(estimate.co2.value)} CO2 ({estimate.co2.basis})")
    if estimate.money.value is not None:
        shown.append(f"{format_money(estimate.money.value, estimate.money.unit)} ({estimate.money.basis})")
    return shown


def print_single(stage: PlannedStage, console: Console) -> None:
    """The plan of one stage by itself."""
    console.print(f"[bold]{stage.step.stage.kind}[/] will make {escape(describe_spec(stage.spec))}")
    for name in Estimate.fields():
        quantity = getattr(stage.estimate, name)
        why = f"  [dim]{escape(quantity.source)}[/]" if quantity.source else ""
        console.print(
            f"  {name.replace('_', ' '):12} {format_quantity(quantity)} ({quantity.basis}){why}",
            highlight=False,
        )
    for note in stage.notes:
        console.print(f"  [dim]{escape(note)}[/]", highlight=False)


def print_outcome(result: RunResult, page: Path, console: Console) -> None:
    """After a run: predicted beside measured for what was made, and where the report is."""
    made = [(name, result.artifacts[name]) for name in result.made]
    if made:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("stage", "time", "peak memory", "energy", "money", "made"):
            table.add_column(title, overflow="fold")
        for name, artifact in made:
            measured = Estimate.model_validate(artifact.manifest.measured["estimate"])
            cells = [
                _cell(getattr(measured, field)) for field in ("seconds", "peak_memory", "energy", "money")
            ]
            table.add_row(escape(name), *cells, escape(describe_spec(spec_of(artifact))))
        console.print(table)
    if result.reused:
        console.print(f"reused: {', '.join(result.reused)}", highlight=False)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


def print_trials(measured: Mapping[str, Rate], path: Path, console: Console) -> None:
    """What real steps told of the recipe's models."""
    from arriero.training.start import start_key

    ratios = [(key, rate) for key, rate in measured.items() if rate.unit == "x"]
    for number, (key, rate) in enumerate(ratios, start=1):
        start = measured.get(start_key(key))
        console.print(
            f"model {number}: a real step takes {rate.per_s:.2f} times what its trace is priced at (±{rate.spread:.0%})"
            + (f", and {1 / start.per_s:.1f} s come before the steps" if start else "")
        )
    console.print(f"kept in {escape(str(path))}; the recipe's plan rests on it now")


def print_serving_trial(measured: Mapping[str, Rate], path: Path, console: Console) -> None:
    """What real steps of answering took."""
    from arriero.planning.serving.trial import trial_in

    trial = trial_in(measured)
    table = Table("answers at a time", "tokens/s, 128 kept", "tokens/s, 1,024 kept", box=None)
    for batch in trial.batches:
        rates = (f"{batch / trial.decode(kept, batch):,.1f}" for kept in (128, 1024))
        table.add_row(str(batch), *rates)
    console.print(table)
    prompt = f"{512 / trial.prefill(512):,.0f} tokens/s"
    console.print(f"a prompt of 512 tokens: {prompt} (±{trial.spread:.0%})", highlight=False)
    console.print(
        f"kept in {escape(str(path))}; `arriero estimate --serve` and `arriero bench` rest on it now"
    )


def print_profile(profile: DeviceProfile, path: Path, console: Console) -> None:
    """What calibration measured."""
    console.print(
        f"[bold]{escape(profile.cpu)}[/], {profile.cores} cores, {format_bytes(profile.memory_bytes)}, {profile.threads} threads"
    )
    for point in profile.matmul:
        shape = f"{point.m}x{point.k}x{point.n}"
        console.print(
            f"  matmul {point.dtype:9} {shape:16} {format_flops(point.flops_per_s)}/s", highlight=False
        )
    for attention in profile.attention:
        shape = f"{attention.batch}x{attention.n_heads}x{attention.seq_len}x{attention.head_dim}"
        rates = f"{format_flops(attention.forward_flops_per_s)}/s forward, {format_flops(attention.backward_flops_per_s)}/s backward"
        console.print(f"  attention {attention.dtype:9} {shape:14} {rates}", highlight=False)
    console.print(f"  copy {format_bytes(profile.copy_bytes_per_s)}/s · operation {profile.op_seconds * 1e6:.1f} µs · "
                  f"AdamW {format_count(profile.optimizer_params_per_s)} parameters/s · bf16 pays: {'yes' if profile.bf16_pays else 'no'}",
                  highlight=False)  # fmt: skip
    for name, rate in sorted(profile.rates.items()):
        speed = (
            format_count(rate.per_s) if rate.per_s >= 100 else round_text(rate.per_s, 2)
        )  # few a second, not none
        console.print(f"  {name}: {speed} {escape(rate.unit)} (±{rate.spread:.0%})", highlight=False)
    console.print(f"written to {path}", highlight=False, soft_wrap=True)
