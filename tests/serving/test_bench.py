"""`arriero bench`: lengths, figures, the engine and a server as targets, the table and the command."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from arriero.cli import cli
from arriero.cost.quantity import Quantity
from arriero.errors import ArrieroError
from arriero.planning.serving.bench_command import closing_lines
from arriero.serving.bench import BenchSettings, PlannedSpeeds, _told, bench
from arriero.serving.bench_engine import EngineTarget, weights_read
from arriero.serving.bench_figures import Goals, Record, percentiles, summary
from arriero.serving.bench_http import HttpTarget
from arriero.serving.bench_load import Job, Lengths, make_jobs
from arriero.serving.bench_table import BenchTable, cells


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------- what is asked


@given(
    st.sampled_from(["chat", "shared-prefix"]), st.integers(16, 5000), st.floats(1, 3000), st.floats(1, 3000),
    st.floats(0, 2), st.integers(0, 3),
)  # fmt: skip
def test_every_request_fits_the_context(
    workload: Any, context: int, prompt: float, answer: float, spread: float, seed: int
) -> None:
    jobs = make_jobs(
        workload, 20, Lengths(prompt, answer, spread), ids=range(5, 90), context=context, seed=seed
    )
    assert len(jobs) == 20
    for job in jobs:
        assert job.answer >= 1
        assert 1 <= len(job.prompt) <= context - job.answer
        assert set(job.prompt) <= set(range(5, 90))


def test_lengths_are_log_normal_with_the_means_asked_for() -> None:
    lengths, rng = Lengths(160, 340, 1.0), random.Random(0)
    drawn = np.array([lengths.draw(rng, 10**6, 10**6) for _ in range(20000)])
    assert drawn.mean(0) == pytest.approx([160, 340], rel=0.05)
    assert np.log(drawn[:, 1]).std() == pytest.approx(1.0, rel=0.05)
    assert np.median(drawn[:, 1]) == pytest.approx(340 * np.exp(-0.5), rel=0.05)
    assert {Lengths(7, 9, 0.0).draw(rng, 100, 100) for _ in range(5)} == {(7, 9)}


def test_the_same_seed_asks_the_same_and_the_prefix_is_common() -> None:
    def make(seed: int) -> list[Job]:
        return make_jobs("shared-prefix", 6, Lengths(20, 5), ids=range(50), context=256, prefix=40, seed=seed)

    assert make(1) == make(1)
    assert make(1) != make(2)
    assert len({tuple(job.prompt[:40]) for job in make(1)}) == 1
    assert len({tuple(job.prompt[40:]) for job in make(1)}) == 6
    with pytest.raises(ArrieroError, match="a prefix of 300 tokens leaves -44 of the context's 256"):
        make_jobs("shared-prefix", 6, Lengths(), ids=range(50), context=256, prefix=300)


# ---------------------------------------------------------------- figures


def test_figures_of_answers_whose_times_are_known() -> None:
    quick = Record(sent=0.0, prompt=10, tokens=[0.1, 0.2, 0.4], ended=0.4, generated=3, cached=8)
    slow = Record(sent=1.0, prompt=20, tokens=[2.0, 2.5], ended=2.6, generated=2, cached=0)
    single = Record(sent=0.0, prompt=5, tokens=[0.3], ended=0.3, generated=1, cached=0)
    failed = Record(sent=0.0, prompt=5, ended=0.1, error="429")
    found = summary([quick, slow, single, failed], 4.0, Goals(ttft=0.5, tpot=0.2))
    assert (found["requests"], found["failed"], found["first_error"]) == (3, 1, "429")
    assert (found["prompt_tokens"], found["cached_tokens"], found["generated_tokens"]) == (35, 8, 6)
    assert found["output_tokens_per_s"] == pytest.approx(1.5)
    assert found["total_tokens_per_s"] == pytest.approx(41 / 4)
    assert found["ttft_s"] == pytest.approx(percentiles([0.1, 1.0, 0.3]))
    assert found["tpot_s"] == pytest.approx(percentiles([0.15, 0.5]))
    assert found["itl_s"] == pytest.approx(percentiles([0.1, 0.2, 0.5]))
    assert found["e2e_s"]["p50"] == pytest.approx(0.4)
    assert found["goodput"] == {"share": 0.5, "requests_per_s": 0.5}  # quick and the single token
    assert summary([quick], 1.0, Goals())["goodput"] is None
    assert summary([quick], 1.0, Goals(e2e=0.39))["goodput"]["share"] == 0
    assert percentiles([]) is None


# ---------------------------------------------------------------- the engine


def test_the_engine_answers_all_at_their_lengths(start: Any) -> None:
    engine = start().engine
    jobs = make_jobs("chat", 7, Lengths(12, 9), ids=range(40, 90), context=128, seed=3)
    told: list[int] = []
    records, decoding = EngineTarget(engine).run(
        jobs, 3, time.perf_counter() + 60, lambda r: told.append(len(r))
    )
    assert sorted((r.prompt, r.generated) for r in records) == sorted((len(j.prompt), j.answer) for j in jobs)
    assert told[-1] == 7
    assert engine.idle
    for record in records:
        assert record.sent < record.tokens[0] <= record.tokens[-1] == record.ended
        assert len(record.tokens) == record.generated
    assert 0 < decoding.tokens <= sum(j.answer - 1 for j in jobs)
    assert decoding.bytes > decoding.steps * weights_read(engine.model)


def test_bytes_of_a_step_are_the_weights_and_what_is_stored(start: Any) -> None:
    engine = start().engine
    _, decoding = EngineTarget(engine).run(
        [Job([40, 41, 42], 4)], 1, time.perf_counter() + 60, lambda _: None
    )
    config = engine.model.config
    weights = sum(p.nbytes for p in engine.model.parameters())
    if not config.tie_embeddings:
        weights -= engine.model.embedding.weight.nbytes
    token = engine.pool.bytes / engine.pool.max_tokens
    assert decoding.steps == 3  # the first token comes from the prompt's step
    assert decoding.bytes == pytest.approx(3 * weights + (4 + 5 + 6) * token, rel=0.01)


def test_after_its_time_a_level_begins_nothing_new(start: Any) -> None:
    engine = start().engine
    records, _ = EngineTarget(engine).run([Job([40], 5)] * 50, 2, time.perf_counter() - 1, lambda _: None)
    assert 1 <= len(records) <= 2  # those that ran when the first one ended
    assert engine.idle


# ---------------------------------------------------------------- a server


def test_a_server_is_measured_over_http(start: Any) -> None:
    server = start()
    tokenizer = server.engine.tokenizer
    target = HttpTarget(
        server.info.url + "/v1/", server.info.key, model=None, text=tokenizer.decode, trial=Job([40, 41], 2)
    )
    records, _ = target.run([Job([50] * 5, 6)] * 4, 2, time.perf_counter() + 60, lambda _: None)
    assert len(records) == 4
    assert {r.error for r in records} == {""}
    assert all(1 <= r.generated <= 6 for r in records)
    assert all(r.sent < r.tokens[0] <= r.ended for r in records)
    with pytest.raises(ArrieroError, match="answers no completion"):
        HttpTarget(server.info.url, server.info.key, model="other", text=tokenizer.decode, trial=Job([40], 1))
    with pytest.raises(ArrieroError, match="401"):
        HttpTarget(server.info.url, "wrong", model=None, text=tokenizer.decode, trial=Job([40], 1))


def test_a_servers_own_figures_of_cost_are_added_up(start: Any) -> None:
    server = start()
    settings = BenchSettings(
        "tiny", url=server.info.url, key=server.info.key, concurrency=(2,), workloads=("chat",), requests=4,
        lengths=Lengths(8, 5),
    )  # fmt: skip
    report = bench(settings, None, lambda *_: None)
    (level,) = report["levels"]
    assert report["target"] == server.info.url
    assert level["requests"] == 4
    assert level["decode"] is None
    assert level["peak_memory_bytes"]["value"] is None
    assert level["joules"]["unit"] == "J"
    assert level["money"]["source"]
    if level["joules"]["value"] is not None:
        each = level["joules"]["value"] / level["generated_tokens"]
        assert level["joules_per_token"]["value"] == pytest.approx(each)


def test_a_server_that_tells_no_cost_leaves_it_unknown() -> None:
    told = {"energy": Quantity.band(2.0, 0.5, "J", "modelled").model_dump()}
    known = [Record(0.0, 1, cost=told), Record(0.0, 1, cost=told), Record(0.0, 1, error="503")]
    assert _told(known, "energy", "J").value == pytest.approx(4.0)
    assert _told([*known, Record(0.0, 1)], "energy", "J").value is None
    assert _told(known, "money", "").value is None


def test_refusals_of_a_server_are_counted(start: Any) -> None:
    server = start()
    target = HttpTarget(
        server.info.url, server.info.key, model=None, text=server.engine.tokenizer.decode, trial=Job([40], 1)
    )
    records, _ = target.run([Job([50] * 9000, 6), Job([50], 3)], 1, time.perf_counter() + 60, lambda _: None)
    assert [bool(r.error) for r in records] == [True, False]
    assert summary(records, 1.0, Goals())["failed"] == 1


# ---------------------------------------------------------------- the whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.serving.conftest import _helpers

    from arriero.models.checkpoint import save_model

    path = tmp_path_factory.mktemp("bench") / "model"
    save_model(_helpers.tiny_model(context_length=256), path)
    _helpers.byte_tokenizer().save(path)
    return path


def planner(prompt: int, answer: int, batch: int) -> PlannedSpeeds:
    seconds = Quantity.band(0.01 * prompt, 0.1, "s", "modelled")
    return PlannedSpeeds(seconds, seconds, Quantity.band(10.0 * batch, 0.1, "tokens/s", "modelled"))


def test_a_report_has_every_level_with_the_planned_beside_it(folder: Path) -> None:
    settings = BenchSettings(
        str(folder), concurrency=(1, 2), requests=3, lengths=Lengths(10, 6), goals=Goals(ttft=10.0, tpot=10.0)
    )
    seen: list[tuple[str, int, int]] = []
    report = bench(
        settings, planner, lambda level, left: seen.append((level["workload"], level["concurrency"], left))
    )
    assert json.loads(json.dumps(report)) == report
    levels = report["levels"]
    assert [(lv["workload"], lv["concurrency"]) for lv in levels] == [
        (w, c) for w in ("chat", "shared-prefix") for c in (1, 2)
    ]  # fmt: skip
    assert seen[0] == ("chat", 1, 3)
    assert ("chat", 1, 0) in seen
    for level in levels:
        assert level["requests"] == 3
        assert level["goodput"]["share"] == 1.0
        assert level["planned"]["output_tokens_per_s"]["value"] == 10.0 * level["concurrency"]
        ratio = level["output_tokens_per_s"] / (10.0 * level["concurrency"])
        assert level["planned"]["measured_over_planned"] == pytest.approx(ratio)
        assert level["peak_memory_bytes"]["value"] > 1e6
        assert level["joules_per_token"]["unit"] == "J"
    assert set(report["startup_s"]) == {"import", "load", "first_answer"}
    assert report["weight_bytes_per_step"] > 0
    assert any("start:" in line for line in closing_lines(report, "no shape"))


def test_unknown_figures_stay_unknown_in_the_table() -> None:
    assert cells({"workload": "chat", "concurrency": 4}, 12) == [
        "chat", "4", "0/12", "–", "–", "–", "–", "–", "–", "–", "–", "–",
    ]  # fmt: skip
    console = Console(record=True, width=160)
    with BenchTable(console) as table:
        level = {
            "workload": "chat",
            "concurrency": 1,
            "requests": 3,
            "failed": 2,
            "output_tokens_per_s": 1234.5,
        }
        table.watch(level, 0)
    text = console.export_text()
    assert "1,234" in text or "1,235" in text
    assert "3 (2 failed)" in text


@pytest.mark.slow
def test_the_command_ends_in_one_line_of_json(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    asked = [
        "bench",
        str(folder),
        "--concurrency",
        "1,2",
        "--requests",
        "2",
        "--workload",
        "chat",
        "--answer-tokens",
        "4",
    ]
    done = CliRunner().invoke(cli, [*asked, "--ttft", "500ms", "--tpot", "0.5s", "--output", str(output)])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert report["format"] == "arriero.bench/1"
    assert report["settings"]["goals"] == {"ttft": 0.5, "tpot": 0.5, "e2e": None}
    assert json.loads(output.read_text()) == report
    assert "tokens/s" in done.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ttft", "fast"], "'fast' is no time"),
        (["--ttft", "-3ms"], "should be more than nothing"),
        (["--concurrency", "1,x"], "whole numbers with commas"),
        (["--concurrency", "0"], "each should be from 1 to 4096"),
    ],
)
def test_options_that_make_no_sense(folder: Path, more: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["bench", str(folder), *more])
    assert done.exit_code == 2
    assert message in done.output


def test_no_such_model() -> None:
    with pytest.raises(ArrieroError, match="neither the folder of a model"):
        bench(BenchSettings("nowhere-at-all"), None, lambda *_: None)
