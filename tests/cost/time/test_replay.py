"""Steps that others measured, predicted by coefficients that were fitted on other ones. The limits are the project's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from arriero.cost.hardware import find
from arriero.cost.time.coefficients import NAMES, datasheet
from arriero.cost.time.fit import fit_factors, fit_without_spread, predict
from arriero.cost.time.replay import constant_utilisation, held_out, llm_foundry, rows_of, vtrain
from arriero.cost.time.rows import Observation
from arriero.cost.time.tiers import TIERS
from arriero.errors import ArrieroError

DATA = Path(__file__).parents[2] / "data" / "cost"
FOUNDRY = DATA / "llm_foundry.csv"


def size(row: Observation) -> str:
    return row.workload.name


@pytest.mark.parametrize(
    ("gpu", "device", "rows", "limit"),
    [
        ("a100_40gb", "A100-40GB", 78, 0.05),
        ("a100_80gb", "A100-80GB", 61, 0.07),
        ("h100_80gb", "H100", 52, 0.05),
    ],
)
def test_models_that_were_left_out(gpu: str, device: str, rows: int, limit: float) -> None:
    runs, hardware = llm_foundry(FOUNDRY, gpu), find(device)
    assert len(runs) == rows
    errors = np.abs(held_out(runs, datasheet(hardware), size))
    rival = np.abs(constant_utilisation(runs, hardware.peak("bf16") or 0.0, size))
    assert errors.mean() < limit
    assert errors.mean() < 0.6 * rival.mean()
    assert np.quantile(errors, 0.9) < 0.6 * np.quantile(rival, 0.9)


@pytest.mark.parametrize(
    ("gpu", "device"), [("a100_40gb", "A100-40GB"), ("a100_80gb", "A100-80GB"), ("h100_80gb", "H100")]
)
def test_lengths_and_layouts_that_were_left_out(gpu: str, device: str) -> None:
    """Lengths are interpolated; one node from many and plain steps from recomputing ones are extrapolated, and within
    what tier C promises."""
    runs, sheet = llm_foundry(FOUNDRY, gpu), datasheet(find(device))
    assert np.abs(held_out(runs, sheet, lambda row: row.workload.context)).mean() < 0.05
    for group in (lambda row: row.cut.devices, lambda row: row.recompute):
        assert np.abs(held_out(runs, sheet, group)).mean() < 0.20


def test_eight_rows_calibrate_a_device() -> None:
    runs = llm_foundry(FOUNDRY, "h100_80gb")
    measured = np.array([run.seconds for run in runs])
    sheet = datasheet(find("H100"))
    errors = []
    for seed in range(6):
        some = [runs[i] for i in np.random.default_rng(seed).permutation(len(runs))[:8]]
        errors.append(np.abs(predict(runs, fit_without_spread(some, sheet)) / measured - 1).mean())
    assert np.mean(errors) < 0.07
    assert np.max(errors) < 0.10


def test_megatron_on_one_node() -> None:
    runs = vtrain(DATA / "vtrain_single_node.csv.gz")
    assert len(runs) == 1440
    sheet = datasheet(find("A100-80GB"))
    fold = {id(run): i % 5 for i, run in zip(np.random.default_rng(0).permutation(1440), runs, strict=True)}
    assert np.abs(held_out(runs, sheet, lambda run: fold[id(run)])).mean() < 0.10
    for group in (
        lambda run: run.workload.dimensions.n_layers, lambda run: run.cut.tensor, lambda run: run.cut.pipeline,
        lambda run: run.cut.data, lambda run: run.micro_batch,
    ):  # fmt: skip
        assert np.abs(held_out(runs, sheet, group)).mean() < 0.10
    some = [runs[i] for i in np.random.default_rng(1).permutation(1440)[:12]]
    measured = np.array([run.seconds for run in runs])
    assert np.abs(predict(runs, fit_without_spread(some, sheet)) / measured - 1).mean() < 0.10


def test_clusters_by_the_data_sheet_alone() -> None:
    """64 to 512 devices, all three parallelisms, four models: nothing was fitted on any of it."""
    runs, sheet = vtrain(DATA / "vtrain_multi_node.csv"), datasheet(find("A100-80GB"))
    assert {int(run.cut.devices) for run in runs} == {64, 256, 512}
    assert np.abs(predict(runs, sheet) / seconds(runs) - 1).mean() < 0.15
    assert holds(predict(runs, sheet) / seconds(runs) - 1, "datasheet") > 0.8
    assert np.abs(held_out(runs, sheet, lambda run: run.workload.dimensions.d_model)).mean() < 0.13


def test_bands_of_the_tiers_hold() -> None:
    small, large, hopper = (llm_foundry(FOUNDRY, gpu) for gpu in ("a100_40gb", "a100_80gb", "h100_80gb"))
    sheets = [datasheet(find(name)) for name in ("A100-40GB", "A100-80GB", "H100")]
    calibrated = np.concatenate(
        [held_out(rows, sheet, size) for rows, sheet in zip((small, large, hopper), sheets, strict=True)]
    )
    assert holds(calibrated, "calibrated") > 0.8
    moved = sheets[0].scaled(fit_factors([(large, sheets[1])]))
    assert holds(predict(small, moved) / seconds(small) - 1, "same class") > 0.8
    for rows, sheet in zip((small, large, hopper), sheets, strict=True):
        assert holds(predict(rows, sheet) / seconds(rows) - 1, "datasheet") > 0.8


def holds(errors: np.ndarray, tier: str) -> float:
    spread = TIERS[tier].spread
    factor = 1 / (1 + errors)
    return float(np.mean((factor <= 1 + spread) & (factor >= 1 / (1 + spread))))


def seconds(rows: list[Observation]) -> np.ndarray:
    return np.array([row.seconds for row in rows])


def test_the_table_of_classes_is_what_the_rows_give() -> None:
    table = yaml.safe_load(
        files("arriero.cost").joinpath("tables", "time_classes.yaml").read_text(encoding="utf-8")
    )
    groups = {
        "ampere": [("a100_40gb", "A100-40GB"), ("a100_80gb", "A100-80GB")], "hopper": [("h100_80gb", "H100")],
    }  # fmt: skip
    assert table.keys() == groups.keys()
    for name, devices in groups.items():
        found = fit_factors([(llm_foundry(FOUNDRY, gpu), datasheet(find(device))) for gpu, device in devices])
        assert table[name]["rows"] == sum(len(llm_foundry(FOUNDRY, gpu)) for gpu, _ in devices)
        assert 0.03 < table[name]["spread"] < 0.08
        assert found == pytest.approx([table[name]["factors"][one] for one in NAMES], abs=2e-3)


def test_counts_of_shapes_are_those_of_the_files() -> None:
    """NumParams leaves out norms' gains in some rows and holds them in others: within 0.1 %."""
    runs = {
        (run.workload.name, run.workload.context): run
        for gpu in ("a100_40gb", "a100_80gb")
        for run in llm_foundry(FOUNDRY, gpu)
    }
    rows = [row for row in rows_of(FOUNDRY) if row["numparams"] and row["gpu"] != "h100_80gb"]
    assert len(rows) == 139
    for row in rows:
        run = runs[row["model"], int(row["seqlent"])]
        assert run.workload.parameters.total == pytest.approx(int(row["numparams"]), rel=1e-3)


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(FOUNDRY.read_text().replace("\n70b,", "\n71b,", 1))
    with pytest.raises(ArrieroError, match="sizes of '71b' are not known"):
        llm_foundry(file, "a100_80gb")
