from __future__ import annotations

import math

import numpy as np
import pytest

from arriero.cost.hardware import find
from arriero.cost.published import PublishedRun, co2_tonnes, energy_mwh, flat_hours, known_runs, predict_hours
from arriero.cost.published.hours import model_hours, shape_of
from arriero.cost.quantity import Quantity
from arriero.cost.time.shapes import workload_of_shape
from arriero.errors import ArrieroError

FIFTEEN = {
    "LLaMA-7B", "LLaMA-13B", "LLaMA-33B", "LLaMA-65B", "Llama-2-7B", "Llama-2-13B", "Llama-2-34B", "Llama-2-70B",
    "Llama-3-8B", "Llama-3-70B", "Llama-3.1-405B", "GPT-3 175B", "GPT-3 175B (Megatron)", "OPT-175B", "BLOOM-176B",
}  # fmt: skip


def hours_of(run: PublishedRun) -> float:
    assert run.hours is not None
    return run.hours


def miss(value: float | None, run: PublishedRun) -> float:
    assert value is not None
    return abs(value / hours_of(run) - 1)


def test_hours_of_runs_that_were_left_out() -> None:
    """At least four in five inside a band that says something, and a smaller error than 6 N T at 40 %."""
    runs = known_runs()
    found = {run.name: predict_hours(run) for run in runs}
    for some in (list(runs), [run for run in runs if run.name in FIFTEEN]):
        inside = [q.low <= hours_of(run) <= q.high for run in some if (q := found[run.name]).low and q.high]
        assert len(inside) == len(some)
        assert np.mean(inside) >= 0.8
        ours = np.median([miss(found[run.name].value, run) for run in some])
        flat = np.median([miss(flat_hours(run), run) for run in some])
        assert ours < 0.85 * flat
    widths = [q.high / q.value for q in found.values() if q.high and q.value]
    assert max(widths) < 1.65  # each way; ten times as wide would hold everything and say nothing
    assert len([run for run in runs if run.name in FIFTEEN]) == 15


def test_half_of_the_runs_foretell_the_other_half() -> None:
    """The choice of what is learnt was made with all runs in sight, so it is tried on halves too."""
    inside, ours, flat = [], [], []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(len(known_runs()))
        train = [known_runs()[i] for i in order[: len(order) // 2]]
        for run in (known_runs()[i] for i in order[len(order) // 2 :]):
            found = predict_hours(run, train)
            assert found.low is not None and found.high is not None
            inside.append(found.low <= hours_of(run) <= found.high)
            ours.append(miss(found.value, run))
            flat.append(miss(flat_hours(run), run))
    assert np.mean(inside) >= 0.78
    assert np.median(ours) < np.median(flat)


def test_a_run_is_never_learnt_from_itself() -> None:
    run = next(run for run in known_runs() if run.name == "LLaMA-7B")
    wrong = run.model_copy(update={"hours": 10 * hours_of(run)})
    others = [one for one in known_runs() if one.name != run.name]
    assert predict_hours(run, [*others, wrong]) == predict_hours(run, others)


def test_a_run_of_which_little_is_known_is_predicted_too() -> None:
    found = predict_hours(PublishedRun(name="mine", params=3e9, tokens=1e12, hardware="h100"))
    assert found.value is not None
    assert 6e9 * 3 * 1e12 / (0.6 * 989e12) / 3600 < found.value < 6e9 * 3 * 1e12 / (0.15 * 989e12) / 3600
    assert "published" in found.source
    twice = predict_hours(PublishedRun(name="mine", params=3e9, tokens=2e12, hardware="h100"))
    assert twice.value == pytest.approx(2 * found.value)


def test_an_unknown_device_or_figure_is_never_guessed() -> None:
    with pytest.raises(ArrieroError, match="no device 'H800'"):
        predict_hours(PublishedRun(name="x", params=1e9, tokens=1e12, hardware="H800"))
    lonely = PublishedRun(name="x", params=1e9, tokens=1e12, hardware="RTX 4090", devices=64)
    assert not predict_hours(lonely).known  # nobody knows the network between such machines


def test_the_shape_has_about_the_parameters_asked_for() -> None:
    for params in (1.2e8, 1e9, 7e9, 7e10, 4e11):
        counted = workload_of_shape(shape_of(params), 2048).parameters.total
        assert counted == pytest.approx(params, rel=0.06)


def test_hours_are_no_fewer_than_the_peak_allows() -> None:
    for run in known_runs():
        ideal, peak = model_hours(run), find(run.hardware).peak("bf16") or find(run.hardware).peak("fp16")
        assert ideal is not None and peak is not None
        assert ideal > 6 * run.params * run.tokens / peak / 3600 * 1.2


@pytest.mark.parametrize("run", [run for run in known_runs() if run.watts], ids=lambda run: run.name)
def test_energy_and_co2_of_llama_by_their_own_recipe(run: PublishedRun) -> None:
    hours, watts = (
        Quantity.exact(hours_of(run), "h", "declared"),
        Quantity.exact(run.watts or 0, "W", "declared"),
    )
    if run.energy_mwh is not None:
        assert energy_mwh(hours, watts).value == pytest.approx(run.energy_mwh, rel=0.01)
    assert run.co2_t is not None
    assert co2_tonnes(hours, watts).value == pytest.approx(run.co2_t, rel=0.01)


def test_the_cards_are_all_there() -> None:
    assert len([run for run in known_runs() if run.energy_mwh]) == 4
    assert len([run for run in known_runs() if run.co2_t]) == 8


def test_unknown_power_makes_unknown_energy() -> None:
    hours = Quantity.exact(1000, "h", "declared")
    assert not energy_mwh(hours, Quantity.unknown("W", "nobody knows")).known
    assert not co2_tonnes(hours, Quantity.unknown("W")).known
    with pytest.raises(ArrieroError, match="no recipe 'mete' for energy; did you mean 'meta'"):
        energy_mwh(hours, hours, "mete")


def test_bands_pass_through_the_recipe() -> None:
    found = co2_tonnes(Quantity.band(1000, 0.5, "h", "modelled"), Quantity.exact(400, "W", "declared"))
    assert found.value == pytest.approx(1000 * 0.4 * 1.1 * 0.385 / 1000)
    assert found.high == pytest.approx(1.5 * found.value)
    assert math.isclose(found.low or 0, found.value / 1.5)
