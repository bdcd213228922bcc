from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arriero.cost.hardware import Hardware, find
from arriero.cost.time.kernel_fit import LARGE, fit_collective, fit_products
from arriero.cost.time.kernels import bus_bytes, collective_seconds, product_seconds
from arriero.cost.time.replay import rows_of

DATA = Path(__file__).parents[2] / "data" / "cost"


def products(device: str) -> tuple[np.ndarray, ...]:
    rows = [row for row in rows_of(DATA / "products.csv.gz") if row["device"] == device]
    return tuple(np.array([float(row[name]) for row in rows]) for name in ("m", "n", "k", "seconds"))


@pytest.mark.parametrize(
    ("device", "limit"), [("H200-SXM-141GB", 0.08), ("B200-SXM-180GB", 0.08), ("A100-SXM4-80GB", 0.10)]
)
def test_large_products_by_the_table_and_by_a_fit_on_other_products(device: str, limit: float) -> None:
    m, n, k, seconds = products(device)
    large = seconds > LARGE
    table = np.asarray(product_seconds(m, n, k, find(device))) / seconds - 1
    assert np.abs(table[large]).mean() < limit
    train = np.arange(len(m)) % 2 == 0
    fitted = fit_products(m[train], n[train], k[train], seconds[train], find(device))
    errors = np.asarray(product_seconds(m, n, k, fitted)) / seconds - 1
    assert np.abs(errors[large & ~train]).mean() < limit
    for name in ("gemm_efficiency", "bandwidth_efficiency"):
        assert fitted.get(name) == pytest.approx(find(device).get(name), rel=0.08)


@pytest.mark.parametrize("device", ["A100-SXM4-80GB", "H200-SXM-141GB"])
@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_collectives_by_the_table_and_by_a_fit_on_other_sizes(device: str, kind: str) -> None:
    rows = [
        row
        for row in rows_of(DATA / "collectives.csv.gz")
        if (row["device"], row["collective"]) == (device, kind)
    ]
    size, count, seconds = (
        np.array([float(row[name]) for row in rows]) for name in ("bytes", "devices", "seconds")
    )
    table = np.asarray(collective_seconds(kind, size, count, find(device))) / seconds - 1  # type: ignore[arg-type]
    assert np.abs(table).mean() < 0.15
    train = np.argsort(np.argsort(size)) % 2 == 0
    fitted = fit_collective(kind, size[train], count[train], seconds[train], find(device))  # type: ignore[arg-type]
    errors = np.asarray(collective_seconds(kind, size, count, fitted)) / seconds - 1  # type: ignore[arg-type]
    assert np.abs(errors[~train]).mean() < 0.15


def test_a_product_is_bound_by_arithmetic_or_by_traffic() -> None:
    h200 = find("H200")
    big = float(product_seconds(16384, 16384, 16384, h200))
    assert big == pytest.approx(2 * 16384**3 / (0.832 * 989e12), rel=0.05)
    thin = float(product_seconds(1, 16384, 16384, h200))
    assert thin == pytest.approx(2 * 16384**2 / (0.837 * 4.8e12), rel=0.05)
    assert float(product_seconds(1, 1, 1, h200)) == pytest.approx(2.8e-6, rel=0.01)


def test_bytes_over_the_bus() -> None:
    assert bus_bytes("all_gather", 800.0, 8) == 700
    assert bus_bytes("all_reduce", 800.0, 8) == 1400
    assert float(collective_seconds("all_reduce", 1e9, 1, find("H200"))) == 0


def test_gathering_and_reducing_have_buses_of_their_own() -> None:
    h200 = find("H200")
    reduce = float(collective_seconds("all_reduce", 1e9, 8, h200))
    gather = float(collective_seconds("all_gather", 1e9, 8, h200))
    assert 1.6 < reduce / gather < 1.95  # not twice: switches add up on the way


def test_a_device_of_unknown_figures_has_unknown_times() -> None:
    assert np.isnan(product_seconds(8, 8, 8, find("MI300X")))
    assert np.isnan(collective_seconds("all_reduce", np.array([8.0, 16.0]), 8, find("B200"))).all()
    assert np.isnan(product_seconds(8, 8, 8, Hardware("nothing")))
