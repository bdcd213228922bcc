"""Who encodes how much, and what that does to the seconds that are planned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost.device import Rate
from arriero.data import encode_load as module
from arriero.data.encode_load import POOL_WORTH_BYTES, EncodeLoad, encode_load
from arriero.data.execute import ExecutorSettings
from arriero.stage import CorpusSpec, SplitSpec, TokenizerSpec, get_stage

STAGE = get_stage("tokenize")
TOKENIZER = TokenizerSpec(vocab_size=500, bytes_per_token=4.0)


def split(n_bytes: int, files: int) -> SplitSpec:
    return SplitSpec(documents=10, bytes=n_bytes, files=files)


def load(executor: dict[str, Any], **splits: SplitSpec) -> EncodeLoad:
    return encode_load(ExecutorSettings(**executor), splits, {})


@pytest.fixture(autouse=True)
def four_cores(monkeypatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 4)


def test_workers_are_started_where_there_is_much_beside_the_longest_file() -> None:
    much = 10 * POOL_WORTH_BYTES
    assert load({}, train=split(much, 1)) == EncodeLoad(1, 1.0, 4)
    assert load({}, train=split(much, 1), validation=split(much // 50, 1)).workers == 1, "little beside it"
    assert load({}, train=split(much, 8)) == EncodeLoad(4, 0.25, 4)
    assert load({}, train=split(much, 3)) == EncodeLoad(3, pytest.approx(1 / 3), 4)
    assert load({"workers": 2}, train=split(much, 8)) == EncodeLoad(2, 0.5, 4)
    assert load({"kind": "inline"}, train=split(much, 8)).workers == 1
    assert load({"shard": "1/2"}, train=split(100, 1)).workers == 4, "several machines do as they are told"


def test_passes_are_tasks_of_their_own() -> None:
    splits = {"train": split(4 * POOL_WORTH_BYTES, 1)}
    assert encode_load(ExecutorSettings(), splits, {}).workers == 1
    assert encode_load(ExecutorSettings(), splits, {"train": 3}) == EncodeLoad(3, pytest.approx(1 / 3), 4)


@given(
    st.dictionaries(
        st.sampled_from(["train", "validation", "test"]),
        st.builds(split, st.integers(0, 1 << 34), st.integers(0, 40)),
    ),
    st.sampled_from([{}, {"workers": 3}, {"kind": "inline"}, {"shard": "1/2"}]),
)
def test_no_process_has_less_than_an_even_share(
    splits: dict[str, SplitSpec], executor: dict[str, Any]
) -> None:
    found = load(executor, **splits)
    assert 1 / found.workers <= found.longest_share <= 1
    assert found.workers >= 1


def planned(splits: dict[str, SplitSpec], rates: dict[str, float], executor: dict[str, Any]) -> float:
    device: Any = SimpleNamespace(
        process_bytes=3e8,
        rate=lambda name: Rate(per_s=rates[name], spread=0.2, unit="B") if name in rates else None,
    )
    specs = {"corpus": CorpusSpec(splits=splits), "tokenizer": TOKENIZER}
    seconds = STAGE.plan(STAGE.Settings(executor=executor), specs, device).estimate.seconds.value
    assert seconds is not None
    return seconds


def test_seconds_follow_the_process_with_the_most_text() -> None:
    """1,000 s of text for one core: four workers with tiktoken take a quarter; the other library has all cores anyway."""
    text = {"train": split(1_000_000_000, 8)}
    slow = {"tokenize.bytes_per_s": 4e6}
    fast = slow | {"tokenize.fast_bytes_per_s": 1e6}
    assert planned(text, fast, {"kind": "inline"}) == pytest.approx(1000, rel=0.01)
    assert planned(text, fast, {}) == pytest.approx(250, rel=0.01)
    assert planned(text, slow, {"kind": "inline"}) == pytest.approx(250, rel=0.01)
    assert planned(text, slow, {}) == pytest.approx(250, rel=0.01)
    one_long = {"train": split(900_000_000, 1), "validation": split(100_000_000, 1)}
    assert planned(one_long, fast, {}) == pytest.approx(900, rel=0.01)
    assert planned(one_long, slow, {}) == pytest.approx(900, rel=0.01), "its longest file has one core"
