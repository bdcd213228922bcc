"""Pictures of real answers: the ledger's rows, a model on a roof, `estimate --pictures` and `plan --goal --pictures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from arriero.cost.device import DeviceProfile, MatmulPoint
from arriero.cost.hardware.table import Hardware, find
from arriero.cost.ledger import Row, compare
from arriero.cost.quantity import Quantity
from arriero.cost.workload import Dimensions, Parameters, Work, Workload
from arriero.planning.pictures import Picture, Roof, accuracy_picture
from arriero.planning.pictures.of_ledger import pairs_of
from arriero.planning.pictures.of_model import Reached, hardware_roof, operations_of, profile_roof

Words = Callable[[Picture], str]


def row(stage: str, ahead: Quantity, after: Quantity) -> Row:
    fields: dict[str, Any] = {
        "at": "2026-11-21T10:00:00",
        "stage": stage,
        "kind": "pretrain",
        "quantity": "seconds",
    }
    found = compare(ahead, after) if ahead.unit == after.unit else None
    return Row(**fields, predicted=ahead, measured=after, error=found.error if found else None, inside=found.inside if found else None)  # fmt: skip


def test_only_what_was_measured_is_held_against_the_plan(words: Words) -> None:
    ahead, after = Quantity.band(10.0, 0.2, "s", "modelled"), Quantity.exact(12.0, "s", "measured")
    rows = [
        row("base", ahead, after), row("unknown", Quantity.unknown("s"), after), row("a", ahead, Quantity.unknown("s")),
        row("modelled", ahead, Quantity.exact(12.0, "s", "modelled")), row("units", ahead, Quantity.exact(1.0, "B", "measured")),
    ]  # fmt: skip
    (pair,) = pairs_of(rows)
    assert (pair.name, pair.predicted, pair.measured, pair.low, pair.high) == (
        "base",
        10.0,
        12.0,
        10 / 1.2,
        12.0,
    )
    text = words(accuracy_picture(pairs_of(rows, with_day=True)))
    assert "2026-11-21 base" in text and "−17 %" in text and "1 of 1 inside their band" in text


def tiny(context: int = 1024) -> Workload:
    shape = Dimensions(
        d_model=512, n_layers=4, n_heads=8, n_kv_heads=2, head_dim=64, d_ff=2048, vocab_size=32000
    )
    return Workload(
        "tiny", context, context, shape, Parameters(10**6, 2 * 10**6, 10**6, 6 * 10**6, 6 * 10**6, 12e6), "bf16",
        Work(products=1e9, attention=5e8), Work(), Work(), Work(), kv_token=4096.0,
    )  # fmt: skip


def test_products_lie_where_their_shapes_put_them() -> None:
    roof = Roof("r", 1e15, 3e12)
    found = {
        one.name: one
        for one in operations_of(tiny(), roof, "bf16", micro_batch=4, reached=Reached(6e14, 2e14))
    }
    tokens, inner, outer = 4 * 1024, 512, 2048
    flops, moved = 2 * tokens * inner * outer, 2 * (tokens * inner + inner * outer + tokens * outer)
    assert found["feed-forward up"].intensity == pytest.approx(flops / moved)
    assert found["feed-forward up"].intensity == found["feed-forward down"].intensity
    assert found["query, key, value"].intensity == pytest.approx(2 * tokens * 512 * 768 / (2 * (tokens * 512 + 512 * 768 + tokens * 768)))  # fmt: skip
    assert found["feed-forward up"].rate == 6e14 and found["attention"].rate == 2e14
    assert found["attention"].intensity == pytest.approx(4 * 5e8 / (2 * tokens * 2 * 10 * 64))
    alone = found["decoding, batch 1"]
    assert alone.intensity == pytest.approx(2 * 5e6 / (2 * 5e6 + 4096 * 1024)) and alone.rate is None
    assert alone.intensity < found["decoding, batch 8"].intensity < found["decoding, batch 64"].intensity


def test_no_operation_stands_above_its_roof_and_an_unknown_device_has_none() -> None:
    low = Roof("r", 1e12, 1e9)
    assert all((one.rate or 0) <= low.at(one.intensity) for one in operations_of(tiny(), low, "bf16", micro_batch=1, reached=Reached(6e14, 2e14)))  # fmt: skip
    roof = hardware_roof(find("h100-sxm5-80gb"), "bf16")
    assert roof is not None and roof.peak == pytest.approx(989e12, rel=0.01)
    assert hardware_roof(Hardware("bare"), "bf16") is None


def run(*arguments: str) -> Result:
    from arriero.cli import cli

    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


@pytest.mark.slow
def test_estimate_writes_its_pictures(tmp_path: Path, check: Callable[[Picture], None]) -> None:
    done = run("estimate", "smollm2-135m", "--tokens", "1B", "--hardware", "h100-sxm5-80gb", "--context", "512", "--pictures", str(tmp_path))  # fmt: skip
    assert done.exit_code == 0, done.output
    texts = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.txt")}
    assert set(texts) == {"memory", "time", "roofline"} == {path.stem for path in tmp_path.glob("*.svg")}
    assert "capacity" in texts["memory"] and "left" in texts["memory"]
    assert "matrix products" in texts["time"] and "a step" in texts["time"]
    assert "feed-forward up" in texts["roofline"] and "decoding, batch 64" in texts["roofline"]


@pytest.mark.slow
def test_goal_writes_its_pictures(tmp_path: Path) -> None:
    asked = ["--model", "smollm2-135m", "--tokens", "1B", "--context", "512", "--max-devices", "4", "--hardware", "h100-sxm5-80gb,rtx-4090"]  # fmt: skip
    done = run("plan", "--goal", "cheapest", *asked, "--deadline", "30d", "--pictures", str(tmp_path))
    assert done.exit_code == 0, done.output
    texts = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.txt")}
    assert set(texts) == {"plans", "memory", "time"}
    assert "feasible: " in texts["plans"] and "\n* " in texts["plans"]


def test_the_roof_of_this_machine_is_what_was_measured() -> None:
    points = [MatmulPoint(dtype="float32", m=8, k=8, n=8, flops_per_s=rate) for rate in (1e9, 5e9)]
    profile = DeviceProfile(
        cpu="c", cores=1, threads=1, memory_bytes=1, measured_at="2026-11-21", versions={}, matmul=points, attention=[],
        elementwise=[], copy_bytes_per_s=2e10, op_seconds=1e-6, optimizer_params_per_s=1e8, bf16_pays=False, process_bytes=1,
    )  # fmt: skip
    assert profile_roof(profile, "fp32") == Roof("c, fp32", 5e9, 2e10)
    assert profile_roof(profile, "bf16") is None
