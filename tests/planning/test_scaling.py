"""`arriero scaling`: the four commands, their data, their texts and their refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from arriero.cost.scaling.downstream import Benchmark
from arriero.cost.scaling.law import CHINCHILLA, ParametricLaw
from arriero.cost.tariff_tables import price_table
from arriero.errors import ArrieroError
from arriero.planning.scaling.answers import law_of, optimum
from arriero.planning.scaling.budget import of_flops, of_money
from arriero.planning.scaling.command import scaling

LAW = ParametricLaw(1.5, 60, 300, 0.35, 0.4)


def call(*args: object) -> Result:
    return CliRunner().invoke(scaling, [str(arg) for arg in args], catch_exceptions=True)


def text(*args: object) -> str:
    done = call(*args)
    assert done.exit_code == 0, done.exception
    return done.output


def data(*args: object) -> Any:
    return json.loads(text(*args, "--json"))


def refusal(*args: object) -> str:
    done = call(*args)
    assert isinstance(done.exception, ArrieroError), (done.output, done.exception)
    assert "\n" not in str(done.exception)
    return str(done.exception)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Twelve runs of a known law with a little noise."""
    random = np.random.default_rng(0)
    lines = ["name,parameters,tokens,loss"]
    for n in (6e4, 1.6e5, 4.3e5, 1.1e6):
        for d in (1e6, 2e6, 4e6):
            loss = float(LAW.loss(n, d)) * np.exp(0.002 * random.standard_normal())
            lines.append(f"r{len(lines)},{n},{d},{loss}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_optimal_of_flops_beside_the_other_laws() -> None:
    found = data("optimal", "--budget-flops", 5.76e23)
    assert found["best"]["parameters"] == pytest.approx(72e9, rel=0.01)
    assert found["best"]["tokens"] == pytest.approx(1.33e12, rel=0.01)
    others = {choice["law"]: choice for choice in found["others"]}
    assert others["chinchilla-printed"]["tokens"] == pytest.approx(2.98e12, rel=0.01)
    assert set(others) == {"chinchilla-printed", "kaplan", "llama-3"}
    shown = text("optimal", "--budget-flops", 5.76e23)
    assert "72.2 B parameters on 1.33 T tokens" in shown and "Besiroglu" in shown and "overtrain" in shown
    assert "far from the budgets" in text("optimal", "--budget-flops", 1e15)
    assert "far from the budgets" not in shown


def test_optimal_of_money_has_the_bands_of_price_and_utilisation() -> None:
    row = price_table().accelerator("H100-SXM5-80GB")
    assert row is not None and row.price is not None
    flops = data("optimal", "--money", 100, "--hardware", "h100")["budget"]["flops"]
    assert flops["value"] == pytest.approx(100 / row.price.value * 3600 * 989e12 * 0.4)
    assert flops["low"] == pytest.approx(100 / row.price.high * 3600 * 989e12 * 0.4 / 1.5)
    assert flops["high"] == pytest.approx(100 / row.price.low * 3600 * 989e12 * 0.4 * 1.5)
    told = data("optimal", "--money", 100, "--hardware", "H100", "--utilisation", 0.5, "--price", 2)[
        "budget"
    ]["flops"]
    assert told["value"] == told["low"] == told["high"] == pytest.approx(50 * 3600 * 989e12 * 0.5)
    shown = text("optimal", "--money", 100, "--hardware", "h100")
    assert "with the band of the budget" in shown and "989 TFLOP/s dense bf16" in shown
    more, less = (optimum(of_money(money, "h100")).best for money in (200, 100))
    assert more.parameters > less.parameters and more.tokens > less.tokens


def test_an_own_law_from_a_file_or_a_ladders_folder(tmp_path: Path) -> None:
    figures = {key: getattr(LAW, key) for key in ("E", "A", "B", "alpha", "beta")}
    (tmp_path / "law.json").write_text(json.dumps({**figures, "runs": []}))
    for path in (tmp_path, tmp_path / "law.json"):
        assert vars(law_of(str(path))) == pytest.approx(
            {**vars(LAW), "name": str(tmp_path / "law.json"), "source": "own fit"}
        )
    best = data("optimal", "--budget-flops", 1e15, "--law", tmp_path)["best"]
    assert best["parameters"] == pytest.approx(LAW.optimal(1e15).parameters)
    (tmp_path / "law.json").write_text("{}")
    assert "no scaling law with" in refusal("optimal", "--budget-flops", 1e15, "--law", tmp_path)
    assert "did you mean 'chinchilla'" in refusal("optimal", "--budget-flops", 1e15, "--law", "chinchila")


def test_fit_predicts_and_splits_a_budget(runs: Path) -> None:
    found = data("fit", runs, "--predict", "2.4e6:4e6", "--budget-flops", 1e14, "--draws", 100)
    assert found["runs"] == 12 and found["law"]["alpha"] == pytest.approx(LAW.alpha, abs=0.1)
    asked, best = found["predictions"]
    true = float(LAW.loss(2.4e6, 4e6))
    assert asked["low"] < asked["model"]["loss"] < asked["high"]
    assert asked["model"]["loss"] == pytest.approx(true, rel=0.02)
    assert best["model"]["parameters"] == pytest.approx(found["optimum"]["parameters"])
    assert found["optimum"]["flops"] == pytest.approx(1e14)
    low, high = found["intervals"]["alpha"]
    assert low < found["law"]["alpha"] < high
    shown = text("fit", runs, "--predict", "2.4e6:4e6", "--draws", 100)
    for part in (
        "L(N, D) =",
        "80% interval",
        "r12",
        "2.40 M parameters on 4.00 M tokens",
        "beyond the largest run",
    ):
        assert part in shown, part
    again = data("fit", runs, "--predict", "2.4M:4M", "--draws", 100, "--seed", 1)
    assert again["law"] == found["law"] and again["predictions"][0]["low"] != asked["low"]


def test_fit_goes_far_only_when_asked(runs: Path) -> None:
    assert "3.0 decades of FLOP beyond" in refusal("fit", runs, "--predict", "1e8:4e7", "--draws", 50)
    found = data("fit", runs, "--predict", "1e8:4e7", "--draws", 50, "--far")
    assert "whether the law still holds" in found["predictions"][0]["notes"][0]


def test_overtrain_by_size_budget_and_loss() -> None:
    by_size = data("overtrain", "--parameters", 7e9, "--inference-tokens", 1e12)
    assert by_size["ratio"] == pytest.approx(0.7285, abs=1e-3)
    flops, loss = by_size["reference"]["model"]["flops"], by_size["reference"]["model"]["loss"]
    for same in (("--budget-flops", flops), ("--loss", loss)):
        assert data("overtrain", *same, "--inference-tokens", 1e12)["ratio"] == pytest.approx(
            by_size["ratio"], rel=1e-6
        )
    dear = data("overtrain", "--parameters", 7e9, "--inference-tokens", 1e12, "--training-utilisation", 0.4, "--inference-utilisation", 0.1)  # fmt: skip
    assert dear["ratio"] == pytest.approx(
        data("overtrain", "--parameters", 7e9, "--inference-tokens", 1e12, "--weight", 4)["ratio"]
    )
    shown = text("overtrain", "--parameters", 7e9, "--inference-tokens", 1e12)
    assert "3.37 B parameters on 390 B tokens" in shown and "27% cheaper" in shown and "× 0.729" in shown


def test_downstream_in_two_steps(tmp_path: Path) -> None:
    law = Benchmark(30.0, 0.07, 0.25, 1.0, 6.0, 0.9)
    lines = ["flops,nll,accuracy"]
    for flops in np.geomspace(1e18, 1e22, 8):
        nll = float(law.nll(flops))
        lines.append(f"{flops},{nll},{float(law.accuracy_at(nll))}")
    lines += [f",{nll},{float(law.accuracy_at(nll))}" for nll in (0.8, 0.7, 0.6)] + [
        f"1e17,{float(law.nll(1e17))},"
    ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines) + "\n")
    found = data("downstream", path, "--chance", 0.25, "--budget-flops", 1e23, "--draws", 20)
    assert found["ladder"] == 9 and found["scored"] == 11
    assert found["score"]["accuracy"] == pytest.approx(float(law.accuracy(1e23)), abs=0.01)
    assert "2. accuracy = 0.25 + 0.75" in text("downstream", path, "--chance", 0.25)
    assert "decades beyond" in refusal("downstream", path, "--budget-flops", 1e26)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("optimal",), "give the budget once"), (("optimal", "--budget-flops", 1, "--money", 1), "give the budget once"),
        (("optimal", "--budget-flops", -1), "positive number of FLOP"), (("optimal", "--money", 5), "--money needs --hardware"),
        (("optimal", "--budget-flops", 1, "--price", 2), "give --money"), (("optimal", "--money", -5, "--hardware", "h100"), "above 0"),
        (("optimal", "--money", 5, "--hardware", "h1000"), "no device 'h1000'"),
        (("optimal", "--money", 5, "--hardware", "h100", "--utilisation", 2), "at most 1"),
        (("optimal", "--money", 5, "--hardware", "h100", "--price", 0), "above 0"),
        (("optimal", "--money", 5, "--hardware", "v100", "--dtype", "fp8"), "fp8 peak"),
        (("overtrain", "--inference-tokens", 1), "by one of --parameters"),
        (("overtrain", "--inference-tokens", 1, "--parameters", 1e9, "--loss", 3), "by one of --parameters"),
        (("overtrain", "--inference-tokens", 1, "--parameters", 0), "number above 0"),
        (("overtrain", "--inference-tokens", 1, "--loss", 1.5), "floor is E"),
        (("overtrain", "--inference-tokens", -1, "--parameters", 1e9), "number above 0"),
        (("overtrain", "--inference-tokens", 1, "--parameters", 1e9, "--weight", 1, "--training-utilisation", 0.4), "by both utilisations"),
        (("overtrain", "--inference-tokens", 1, "--parameters", 1e9, "--training-utilisation", 0.4), "by both utilisations"),
        (("fit", "nowhere.csv"), "could not be read"),
        (("downstream", "nowhere.csv"), "could not be read"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(args: tuple[object, ...], told: str) -> None:
    assert told in refusal(*args)


def test_bad_predictions_and_confidences(runs: Path) -> None:
    assert "PARAMETERS:TOKENS" in refusal("fit", runs, "--predict", "1e6")
    assert "between 0 and 1" in refusal("fit", runs, "--confidence", 1)
    runs.write_text("flops,nll\n1,2\n")
    assert "columns flops, nll and accuracy" in refusal("downstream", runs)


def test_help_teaches() -> None:
    assert "about 20 tokens a parameter" in " ".join(text("--help").split())
    for name, part in (
        ("optimal", "beta/(alpha+beta)"),
        ("fit", "Huber"),
        ("overtrain", "6 N D + w 2 N T"),
        ("downstream", "sigmoid"),
    ):
        assert part in text(name, "--help") and "--json" in text(name, "--help")


def test_the_optimum_of_a_budget_is_the_laws() -> None:
    best = optimum(of_flops(1e21)).best
    assert best.loss == CHINCHILLA.optimal(1e21).loss
