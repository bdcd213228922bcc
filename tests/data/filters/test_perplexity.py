from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.filters.base import Doc
from arriero.data.filters.perplexity import PerplexityFilter, cutoffs, sample_of
from arriero.data.filters.settings import Perplexity
from arriero.errors import ArrieroError
from arriero.models.ngram import NGram
from arriero.tokenization.load import load_tokenizer

TOKENIZER = Path(__file__).parents[1] / "stories260k" / "tok512.bin"
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-0.5\t</s>
-0.4\ta\t-0.2
-0.9\tb\t-0.1

\\2-grams:
-0.1\t<s> a
-0.2\ta b
-0.3\tb </s>

\\end\\
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of little stories with its tokenizer beside it; the path of its tables."""
    folder = tmp_path_factory.mktemp("ngram")
    tokenizer = load_tokenizer(TOKENIZER)
    stories = [
        f"Once upon a time there was a {what} who liked to {do}. The {what} was happy."
        for what in ("dog", "cat", "girl", "boy", "bird") for do in ("run", "play", "sing", "jump", "eat")
    ]  # fmt: skip
    documents = [np.array(tokenizer.encode(story, bos=True, eos=True)) for story in stories]
    NGram.fit(documents, 3, tokenizer.vocab_size).save(folder)
    tokenizer.save(folder)
    return folder / "ngram.safetensors"


def test_perplexity_is_ccnets(model: Path) -> None:
    text = "Once upon a time there was a bird who liked to run."
    tokenizer = load_tokenizer(TOKENIZER)
    logs = NGram.load(model.parent).token_logprobs([tokenizer.encode(text, bos=True, eos=True)])[0]
    assert logs.size == len(tokenizer.encode(text)) + 1
    each = PerplexityFilter(Perplexity(model=model))
    expected = 10 ** (-(logs.sum() / math.log(10)) / logs.size)
    assert each.measure(Doc("1", text))["m_perplexity"] == pytest.approx(expected, rel=1e-6)
    assert each.measure(Doc("2", " \n")) == {}


def test_head_is_what_the_model_knows(model: Path) -> None:
    each = PerplexityFilter(Perplexity(model=model, head=20, middle=200, keep=["head"]))
    known = each.measure(Doc("1", "Once upon a time there was a girl who liked to eat."))
    strange = each.measure(Doc("2", "zxqj &%$ 0101 QWPZ vvkk"))
    assert each.judge(known) is None
    verdict = each.judge(strange)
    assert verdict is not None
    assert (verdict.reason, verdict.threshold) == ("perplexity.max", 20)


def test_kenlms_lines_are_sentences(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "tiny.arpa").write_text(ARPA)
    each = PerplexityFilter(Perplexity(model=tmp_path / "tiny.arpa"))
    # a b: -0.1 - 0.2 - 0.3 in 3 pieces; b: back-off of <s> and b, then </s>: -0.3 - 0.9 - 0.3 in 2
    found = each.measure(Doc("1", "a b\nb\n\n"))["m_perplexity"]
    assert found == pytest.approx(10 ** ((0.6 + 1.5) / 5), rel=1e-5)


def test_ccnets_normalisation(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "tiny.arpa").write_text(ARPA)
    path = tmp_path / "tiny.arpa"
    upper = PerplexityFilter(Perplexity(model=path, normalise=True)).measure(Doc("1", "A B"))
    assert upper == PerplexityFilter(Perplexity(model=path)).measure(Doc("1", "a b"))


@pytest.mark.parametrize(
    ("keep", "dropped"),
    [
        (["head"], [0, -1, 1, 1, -1]),
        (["head", "middle"], [0, -1, -1, 1, -1]),
        (["tail", "head", "middle"], [0, -1, -1, -1, -1]),
    ],
)
def test_thirds(keep: list[str], dropped: list[int]) -> None:
    each = PerplexityFilter(Perplexity(model="m.arpa", head=340, middle=520, keep=keep, min=10))
    values = [9.0, 339.0, 340.0, 520.0, None]
    assert each.judge_table(pa.table({"m_perplexity": pa.array(values, pa.float32())})).tolist() == dropped
    for value, number in zip(values, dropped, strict=True):
        verdict = each.judge({} if value is None else {"m_perplexity": value})
        assert (verdict.reason if verdict else None) == (each.reasons[number] if number >= 0 else None)


def test_cutoffs_are_percentiles() -> None:
    values = [float("nan"), *range(101)]
    assert cutoffs(values) == [30.0, 60.0]
    with pytest.raises(ArrieroError, match="nothing to cut"):
        cutoffs([float("nan")])


@settings(deadline=None)
@given(st.text(st.sampled_from("ab é\n中")), st.integers(1, 60))
def test_a_sample_is_of_the_text(text: str, size: int) -> None:
    found = sample_of(text, size)
    assert all(piece in text for piece in found.split("\n"))
    assert sample_of(text, 0) == text
    assert len(found.encode()) <= 3 * size + 8  # sizes of characters vary over the text


def test_a_sample_is_of_whole_lines_or_words() -> None:
    lines = [f"line {i} with some words" for i in range(400)]
    found = sample_of("\n".join(lines), 2048).split("\n")
    assert set(found) <= set(lines)
    assert 1200 < sum(map(len, found)) <= 2048
    words = [f"word{i}" for i in range(2000)]
    assert set(sample_of(" ".join(words), 2048).split()) <= set(words)
    assert len(sample_of("x" * 9000, 2048)) <= 2050


def test_wrong_models_and_settings_are_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = Doc("1", "some text")
    (tmp_path / "no.arpa").write_text("no model")
    with pytest.raises(ArrieroError, match="there is no n-gram model"):
        PerplexityFilter(Perplexity(model=tmp_path / "none.bin")).measure(doc)
    if "kenlm" in sys.modules:
        with pytest.raises(ArrieroError, match="is no KenLM model"):
            PerplexityFilter(Perplexity(model=tmp_path / "no.arpa")).measure(doc)
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(ArrieroError, match="needs the package kenlm"):
        PerplexityFilter(Perplexity(model=tmp_path / "no.arpa")).measure(doc)
    for bad in ({"head": 600}, {"keep": []}, {"keep": ["tail"]}, {"keep": ["head", "tail"]}):
        with pytest.raises(ValueError, match=r"head|keep"):
            Perplexity(model=model, **bad)
