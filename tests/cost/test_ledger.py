"""The ledger: appended whole, read past torn lines, and no prediction passes that was edited afterwards."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.artifacts.hashing import sha256_file
from arriero.cost import Estimate, Quantity
from arriero.cost.ledger import Ledger, compare
from arriero.cost.meter import Measurement
from arriero.errors import ArrieroError, DamagedArtifactError


def estimate(seconds: float, spread: float = 0.2, flops: float | None = 1e9) -> Estimate:
    return Estimate(
        seconds=Quantity.band(seconds, spread, "s", "modelled"),
        peak_memory=Quantity.band(1e9, 0.1, "B", "modelled"),
        flops=Quantity.exact(flops, "FLOP", "modelled") if flops else Quantity.unknown("FLOP"),
    )


def measured(seconds: float) -> Measurement:
    sheet = Estimate(
        seconds=Quantity.exact(seconds, "s", "measured"),
        peak_memory=Quantity.exact(1.05e9, "B", "measured"),
        flops=Quantity.exact(1e9, "FLOP", "measured"),
    )
    return Measurement(estimate=sheet, cpu_seconds=seconds, steal_seconds=0.0, segments=1)


def stage(name: str = "pretrain", predicted: float = 12.0, took: float = 10.0) -> dict[str, Any]:
    return {
        "type": "stage", "name": name, "kind": "pretrain", "key": "k", "reused": False, "at": "2026-01-01",
        "predicted": estimate(predicted).model_dump(mode="json"),
        "measured": measured(took).model_dump(mode="json"),
    }  # fmt: skip


def plan(folder: Path, text: str = '{"seconds": 12}') -> dict[str, Any]:
    file = folder / "plans" / "plan-1.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return {"type": "plan", "at": "2026-01-01", "file": "plans/plan-1.json", "sha256": sha256_file(file)}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


def test_what_is_appended_is_read_in_order(ledger: Ledger) -> None:
    assert ledger.read() == []
    records = [plan(ledger.path.parent), stage("a"), {"type": "stage", "name": "b", "reused": True}]
    for record in records:
        ledger.append(record)
    assert ledger.read() == records
    assert ledger.notes == []
    assert len(ledger.path.read_bytes().splitlines()) == 3


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)  # every line is forced to the disk, which may be busy
@given(
    st.lists(
        st.dictionaries(st.text().filter(lambda k: k not in ("type", "chain", "file")), json_values),
        max_size=4,
    )
)
def test_any_json_comes_back(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.jsonl")
    for record in records:
        ledger.append({"type": "x", **record})
    assert ledger.read() == [{"type": "x", **record} for record in records]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_left_out_and_the_next_one_is_whole(ledger: Ledger, cut: int) -> None:
    ledger.append(stage("a"))
    head = ledger.head.read_bytes()
    ledger.append(stage("b"))
    ledger.head.write_bytes(head)  # the machine stopped while the line was written: the head comes after it
    ledger.path.write_bytes(ledger.path.read_bytes()[:-cut])
    expected = [stage("a"), stage("b")] if cut == 1 else [stage("a")]
    assert ledger.read() == expected
    assert len(ledger.notes) == (0 if cut == 1 else 1)
    ledger.append(stage("c"))
    assert ledger.read() == [*expected, stage("c")]


@pytest.mark.parametrize("cut", ["a byte", "half a line", "the last line", "all but the first", "all"])
def test_an_end_that_was_cut_off_does_not_pass_and_nothing_is_written_on_it(ledger: Ledger, cut: str) -> None:
    for name in "abc":
        ledger.append(stage(name))
    text = ledger.path.read_bytes()
    lines = text.splitlines(keepends=True)
    kept = {"a byte": text[:-2], "half a line": text[: -len(lines[-1]) // 2], "the last line": b"".join(lines[:-1]),
            "all but the first": lines[0], "all": b""}[cut]  # fmt: skip
    ledger.path.write_bytes(kept)
    with pytest.raises(DamagedArtifactError, match=r"it was cut short, [012] of 3 records are left"):
        ledger.read()
    with pytest.raises(DamagedArtifactError, match="cut short"):
        ledger.append(stage("d"))
    assert ledger.path.read_bytes() == kept


def test_a_ledger_that_was_removed_or_put_in_anothers_place_does_not_pass(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.append(stage("a"))
    other = Ledger(tmp_path / "other" / "ledger.jsonl")
    other.append(stage("a", took=9.0))
    ledger.path.write_bytes(other.path.read_bytes())
    with pytest.raises(DamagedArtifactError, match="not those that were written here"):
        ledger.read()
    ledger.path.unlink()
    with pytest.raises(DamagedArtifactError, match="0 of 1 records"):
        ledger.read()


def test_a_head_that_was_changed_does_not_pass_and_one_that_never_was_is_told(ledger: Ledger) -> None:
    ledger.append(stage("a"))
    ledger.head.write_text("{}")
    with pytest.raises(DamagedArtifactError, match="it was changed"):
        ledger.read()
    ledger.head.unlink()  # as ledgers of earlier versions
    assert len(ledger.read()) == 1
    assert "would not be seen" in ledger.notes[0]
    ledger.append(stage("b"))
    assert len(ledger.read()) == 2 and ledger.notes == []


def test_a_prediction_that_is_not_its_plans_does_not_pass(ledger: Ledger) -> None:
    planned = {"pretrain": estimate(12.0).model_dump(mode="json")}
    ledger.append({**plan(ledger.path.parent), "stages": planned})
    ledger.append(stage("pretrain", predicted=12.0))
    assert len(ledger.read()) == 2
    ledger.append(stage("pretrain", predicted=10.0))  # as if it had been written after the fact
    with pytest.raises(DamagedArtifactError, match="record 3: the prediction of stage 'pretrain'"):
        ledger.read()


def test_two_writers_link_to_one_chain(ledger: Ledger) -> None:
    writers = [
        threading.Thread(target=lambda n=n: [Ledger(ledger.path).append(stage(f"{n}{i}")) for i in range(8)])
        for n in "ab"
    ]
    [writer.start() for writer in writers]
    [writer.join() for writer in writers]
    assert sorted(record["name"] for record in ledger.read()) == sorted(
        f"{n}{i}" for n in "ab" for i in range(8)
    )
    assert len(set(ledger.chains)) == 16


def test_rows_carry_the_signed_error_and_whether_the_band_held(ledger: Ledger) -> None:
    ledger.append(stage("a", predicted=12.0, took=10.0))
    ledger.append(stage("b", predicted=5.0, took=10.0))
    ledger.append({"type": "stage", "name": "c", "reused": True})
    rows = {(row.stage, row.quantity): row for row in ledger.reconcile()}
    assert rows["a", "seconds"].error == pytest.approx(0.2)
    assert rows["a", "seconds"].inside is True
    assert rows["b", "seconds"].error == pytest.approx(-0.5)
    assert rows["b", "seconds"].inside is False
    assert rows["a", "flops"].error == 0
    assert rows["a", "peak_memory"].error == pytest.approx(1 / 1.05 - 1)
    assert rows["a", "co2"].error is None and rows["a", "co2"].inside is None
    assert not any(stage == "c" for stage, _ in rows)


def test_a_plan_edited_after_the_run_does_not_pass(ledger: Ledger) -> None:
    ledger.append(plan(ledger.path.parent))
    assert len(ledger.read()) == 1
    (ledger.path.parent / "plans" / "plan-1.json").write_text('{"seconds": 10}')
    with pytest.raises(DamagedArtifactError, match=r"plan-1\.json was changed after the run began"):
        ledger.read()


def test_a_plan_that_is_gone_is_told(ledger: Ledger) -> None:
    ledger.append(plan(ledger.path.parent))
    (ledger.path.parent / "plans" / "plan-1.json").unlink()
    assert len(ledger.read()) == 1
    assert "is gone" in ledger.notes[0]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_figure_edited_in_the_ledger_does_not_pass(ledger: Ledger, victim: int) -> None:
    for name in "abc":
        ledger.append(stage(name))
    lines = ledger.path.read_text().splitlines()
    record = json.loads(lines[victim])
    record["predicted"]["seconds"]["value"] = 10.0
    lines[victim] = json.dumps(record)
    ledger.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DamagedArtifactError, match=f"record {victim + 1} "):
        ledger.reconcile()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_line_taken_out_does_not_pass(ledger: Ledger, victim: int) -> None:
    for name in "abc":
        ledger.append(stage(name))
    lines = ledger.path.read_text().splitlines()
    del lines[victim]
    ledger.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DamagedArtifactError):
        ledger.read()


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"type": 3},
        {"type": "x", "chain": "y"},
        {"type": "x", "v": float("nan")},
        {"type": "x", "v": {1, 2}},
    ],
)
def test_what_is_no_record_is_refused_and_leaves_the_file_as_it_was(
    ledger: Ledger, record: dict[str, Any]
) -> None:
    ledger.append(stage())
    before = ledger.path.read_bytes()
    with pytest.raises(ArrieroError):
        ledger.append(record)
    assert ledger.path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArrieroError, match="could not be"):
        Ledger(tmp_path / "file" / "ledger.jsonl").append(stage())


def test_figures_of_another_version_are_left_out_and_told(ledger: Ledger) -> None:
    ledger.append({**stage("old"), "predicted": {"hours": 3}})
    ledger.append(stage("new"))
    assert {row.stage for row in ledger.reconcile()} == {"new"}
    assert "'old'" in ledger.notes[0]


def test_a_reader_never_sees_half_a_line(ledger: Ledger) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def watch() -> None:
        reader = Ledger(ledger.path)
        while not stop.is_set():
            seen.append(len(reader.read()))
            assert reader.notes == []

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(20):
        ledger.append({"type": "stage", "name": str(number), "padding": "x" * 2000})
    stop.set()
    watcher.join()
    assert seen == sorted(seen)
    assert len(ledger.read()) == 20


def test_compare() -> None:
    assert compare(Quantity.band(10, 0.5, "s", "modelled"), Quantity.exact(8, "s", "measured")).error == 0.25
    assert compare(Quantity.unknown("s"), Quantity.exact(8, "s", "measured")).inside is None
    assert compare(Quantity.exact(0, "s", "modelled"), Quantity.exact(0, "s", "measured")).error == 0
    none = compare(Quantity.exact(3, "s", "modelled"), Quantity.exact(0, "s", "measured"))
    assert none.error is None and none.inside is False
    with pytest.raises(ValueError, match="cannot compare"):
        compare(Quantity.exact(3, "s", "modelled"), Quantity.exact(3, "B", "measured"))
