"""How well times, energies and hours that others have measured are predicted, beside what a constant utilisation gives.

    python benchmarks/cost_replay.py              # one table of all suites
    python benchmarks/cost_replay.py --classes    # the factors of tables/time_classes.yaml, worked out anew

The data are in tests/data/cost (see tests/data/LICENSES.md). "Held out" means that what is predicted was not fitted on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arriero.cost.hardware import find
from arriero.cost.published import co2_tonnes, energy_mwh, flat_hours, known_runs, predict_hours
from arriero.cost.quantity import Quantity
from arriero.cost.time import TIERS, Observation, prior
from arriero.cost.time.coefficients import NAMES, Coefficients, datasheet
from arriero.cost.time.fit import fit_factors, fit_without_spread, predict
from arriero.cost.time.kernel_fit import LARGE, fit_collective, fit_products
from arriero.cost.time.kernels import collective_seconds, product_seconds
from arriero.cost.time.replay import constant_utilisation, held_out, llm_foundry, rows_of, vtrain

DATA = Path(__file__).parent.parent / "tests" / "data" / "cost"
FOUNDRY = {"a100_40gb": "A100-40GB", "a100_80gb": "A100-80GB", "h100_80gb": "H100"}
CLASSES = {"ampere": ("a100_40gb", "a100_80gb"), "hopper": ("h100_80gb",)}


@dataclass(frozen=True)
class Line:
    """Errors are predicted / measured - 1; ``rival``: of the constant utilisation, or of the flat roofline."""

    suite: str
    errors: np.ndarray
    rival: np.ndarray | None = None


def foundry() -> Iterator[Line]:
    for gpu, name in FOUNDRY.items():
        rows, hardware = llm_foundry(DATA / "llm_foundry.csv", gpu), find(name)
        rival = constant_utilisation(rows, hardware.peak("bf16") or 0.0, _model)
        sheet = datasheet(hardware)
        yield Line(f"llm-foundry {name}, data sheet", _errors(rows, sheet), rival)
        yield Line(f"llm-foundry {name}, leave one model out", held_out(rows, sheet, _model), rival)


def megatron() -> Iterator[Line]:
    rows, hardware = vtrain(DATA / "vtrain_single_node.csv.gz"), find("A100-80GB")
    sheet = datasheet(hardware)
    fold = {
        id(row): index % 5
        for index, row in zip(np.random.default_rng(0).permutation(len(rows)), rows, strict=True)
    }
    rival = constant_utilisation(rows, hardware.peak("bf16") or 0.0, lambda row: fold[id(row)])
    yield Line("vTrain, data sheet", _errors(rows, sheet), rival)
    yield Line("vTrain, five folds", held_out(rows, sheet, lambda row: fold[id(row)]), rival)
    for said, group in (
        ("width", lambda row: row.workload.dimensions.d_model), ("depth", lambda row: row.workload.dimensions.n_layers),
        ("tensor", lambda row: row.cut.tensor), ("pipeline", lambda row: row.cut.pipeline),
    ):  # fmt: skip
        yield Line(f"vTrain, leave one {said} out", held_out(rows, sheet, group), None)
    few = [
        _errors(
            rows,
            fit_without_spread(
                [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:12]], sheet
            ),
        )
        for seed in range(5)
    ]
    yield Line("vTrain, calibrated on 12 rows (5 draws)", np.concatenate(few))


def clusters() -> Iterator[Line]:
    """64 to 512 A100s; whether activations were recomputed is not told and taken as no."""
    rows, hardware = vtrain(DATA / "vtrain_multi_node.csv"), find("A100-80GB")
    sheet = datasheet(hardware)
    rival = constant_utilisation(rows, hardware.peak("bf16") or 0.0, _width)
    yield Line("vTrain 64-512 devices, data sheet", _errors(rows, sheet), rival)
    yield Line("vTrain 64-512 devices, leave one model out", held_out(rows, sheet, _width), rival)


def _width(row: Observation) -> int:
    return row.workload.dimensions.d_model


def products() -> Iterator[Line]:
    table = rows_of(DATA / "products.csv.gz")
    for name in ("A100-SXM4-80GB", "H200-SXM-141GB", "B200-SXM-180GB"):
        mine = [row for row in table if row["device"] == name]
        m, n, k, seconds = (np.array([float(row[c]) for row in mine]) for c in ("m", "n", "k", "seconds"))
        hardware, errors = find(name), np.empty(len(mine))
        for half in (0, 1):
            out = np.arange(len(mine)) % 2 == half
            fitted = fit_products(m[~out], n[~out], k[~out], seconds[~out], hardware)
            errors[out] = np.asarray(product_seconds(m[out], n[out], k[out], fitted)) / seconds[out] - 1
        large = seconds > LARGE
        peak, bandwidth = hardware.peak("bf16") or 0.0, hardware.bandwidth or 1.0
        naive = np.maximum(2 * m * n * k / peak, 2 * (m * k + k * n + m * n) / bandwidth) / seconds - 1
        yield Line(f"products {name}, large, held out", errors[large], naive[large])
        yield Line(f"products {name}, all, held out", errors, naive)


def collectives() -> Iterator[Line]:
    table = rows_of(DATA / "collectives.csv.gz")
    for name in ("A100-SXM4-80GB", "H200-SXM-141GB"):
        parts = [
            _collective(
                name, kind, [row for row in table if row["device"] == name and row["collective"] == kind]
            )
            for kind in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
        ]
        yield Line(f"NCCL {name}, held out", np.concatenate(parts))


def _collective(name: str, kind: str, rows: list[dict[str, str]]) -> np.ndarray:
    size, devices, seconds = (
        np.array([float(row[c]) for row in rows]) for c in ("bytes", "devices", "seconds")
    )
    half = np.argsort(np.argsort(size)) % 2
    errors = np.empty(len(rows))
    for out in (half == 0, half == 1):
        fitted = fit_collective(kind, size[~out], devices[~out], seconds[~out], find(name))  # type: ignore[arg-type]
        errors[out] = np.asarray(collective_seconds(kind, size[out], devices[out], fitted)) / seconds[out] - 1  # type: ignore[arg-type]
    return errors


def published() -> Iterator[Line]:
    runs = [run for run in known_runs() if run.hours]
    found = [predict_hours(run) for run in runs]
    hours = np.array([run.hours for run in runs], dtype=float)
    flat = np.array([flat_hours(run) for run in runs], dtype=float) / hours - 1
    yield Line(
        "hours of published runs, each left out",
        np.array([q.value for q in found], dtype=float) / hours - 1,
        flat,
    )
    inside = [
        q.low <= h <= q.high
        for q, h in zip(found, hours, strict=True)
        if q.low is not None and q.high is not None
    ]
    width = np.median([q.high / q.value for q in found if q.high is not None and q.value is not None])
    print(
        f"80 % band of published hours: x{width:.2f} each way (median), holds {np.mean(inside):.0%} of {len(runs)}"
    )
    cards = [(run, Quantity.exact(run.hours or 0, "h", "declared"), Quantity.exact(run.watts or 0, "W", "declared"))
             for run in runs if run.watts]  # fmt: skip
    energy = [(energy_mwh(h, w).value or 0) / run.energy_mwh - 1 for run, h, w in cards if run.energy_mwh]
    carbon = [(co2_tonnes(h, w).value or 0) / run.co2_t - 1 for run, h, w in cards if run.co2_t]
    yield Line("energy of LLaMA-1, recipe 'meta'", np.array(energy))
    yield Line("CO2 of LLaMA-1 and Llama-2, recipe 'meta'", np.array(carbon))


def bands() -> None:
    """How often the tiers' bands hold where they are used in earnest."""
    foundry_rows = {gpu: llm_foundry(DATA / "llm_foundry.csv", gpu) for gpu in FOUNDRY}
    small, large, hopper = foundry_rows.values()
    sheets = {gpu: datasheet(find(name)) for gpu, name in FOUNDRY.items()}
    moved = sheets["a100_40gb"].scaled(fit_factors([(large, sheets["a100_80gb"])]))
    back = sheets["a100_80gb"].scaled(fit_factors([(small, sheets["a100_40gb"])]))
    cases = [
        ("calibrated", "leave one model out, three devices",
         np.concatenate([held_out(rows, sheets[gpu], _model) for gpu, rows in foundry_rows.items()])),
        ("same class", "A100 40 GB from runs on 80 GB and back",
         np.concatenate([_errors(small, moved), _errors(large, back)])),
        ("same class", "vTrain from llm-foundry (another framework, no fused attention, narrow models)",
         _errors(vtrain(DATA / "vtrain_single_node.csv.gz"), prior(find("A100-80GB")))),
        ("datasheet", "three devices of llm-foundry",
         np.concatenate([_errors(rows, sheets[gpu]) for gpu, rows in foundry_rows.items()])),
        ("datasheet", "H100 alone", _errors(hopper, sheets["h100_80gb"])),
    ]  # fmt: skip
    for tier, said, errors in cases:
        spread = TIERS[tier].spread
        held = np.mean((1 / (1 + errors) <= 1 + spread) & (1 / (1 + errors) >= 1 / (1 + spread)))
        print(f"tier {TIERS[tier].letter} {tier} (+-{spread:.0%}) holds {held:.0%} of {len(errors)}: {said}")


def classes() -> None:
    """The factors that tables/time_classes.yaml holds."""
    for name, gpus in CLASSES.items():
        groups = [(llm_foundry(DATA / "llm_foundry.csv", gpu), datasheet(find(FOUNDRY[gpu]))) for gpu in gpus]
        found = fit_factors(groups)
        print(
            f"{name}:\n  factors: {{{', '.join(f'{n}: {v:.3f}' for n, v in zip(NAMES, found, strict=True))}}}"
        )
        print(f"  spread: {class_spread(groups):.3f}\n  rows: {sum(len(rows) for rows, _ in groups)}")


def class_spread(groups: Sequence[tuple[Sequence[Observation], Coefficients]]) -> float:
    """Root mean square of log(measured / predicted), every model size predicted from the others."""
    misses: list[float] = []
    for size in {_model(row) for rows, _ in groups for row in rows}:
        found = fit_factors([([row for row in rows if _model(row) != size], sheet) for rows, sheet in groups])
        for rows, sheet in groups:
            out = [row for row in rows if _model(row) == size]
            if out:
                misses += np.log(1 + _errors(out, sheet.scaled(found))).tolist()
    return float(np.sqrt(np.mean(np.square(misses))))


def _model(row: Observation) -> str:
    return row.workload.name


def _errors(rows: Sequence[Observation], coefficients: Coefficients) -> np.ndarray:
    return predict(rows, coefficients) / np.array([row.seconds for row in rows]) - 1


def _cells(errors: np.ndarray | None) -> str:
    if errors is None or not len(errors):
        return f"{'':>8}{'':>8}{'':>8}{'':>8}"
    size = np.abs(errors)
    return f"{np.median(size):8.1%}{size.mean():8.1%}{np.quantile(size, 0.9):8.1%}{size.max():8.1%}"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--classes", action="store_true", help="print the factors of tables/time_classes.yaml"
    )
    if options.parse_args().classes:
        classes()
        return
    heads = f"{'median':>8}{'mean':>8}{'p90':>8}{'worst':>8}"
    print(
        f"{'suite':<52}{'rows':>6}{heads}   | constant utilisation, or the naive roofline\n{'':<58}{'':<32}   | {heads}"
    )
    for suite in (foundry, megatron, clusters, products, collectives, published):
        for line in suite():
            print(f"{line.suite:<52}{len(line.errors):>6}{_cells(line.errors)}   | {_cells(line.rival)}")
    bands()


if __name__ == "__main__":
    main()
