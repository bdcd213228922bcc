"""Prompts and training samples for filling in the middle."""

from __future__ import annotations

import pytest

from arriero.errors import ArrieroError
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.extend import add_special_tokens
from arriero.tokenization.infill import CODE_LLAMA, Infilling, InfillTokens, infill_prompt
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

DOCUMENT = "def llama(road):\n    return road + 1\n\nprint(llama(2))\n"


@pytest.fixture(scope="module")
def sentencepiece() -> Tokenizer:
    pytest.importorskip("sentencepiece")
    from arriero.tokenization.sentencepiece_train import train_sentencepiece

    return add_special_tokens(train_sentencepiece([*sample_texts(20_000), DOCUMENT], 400), CODE_LLAMA)


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    names = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>")
    return add_special_tokens(train_bpe([*sample_texts(20_000), DOCUMENT], 400, "gpt2", 2), names)


def test_prompts(sentencepiece: Tokenizer) -> None:
    tokens = InfillTokens.of(sentencepiece)
    psm = infill_prompt(sentencepiece, "a b", "c")
    spm = infill_prompt(sentencepiece, "a b", "c", suffix_first=True, bos=False)
    assert sentencepiece.decode(psm, skip_special=False) == "<s>▁<PRE> a b▁<SUF>c▁<MID>"
    assert sentencepiece.decode(spm, skip_special=False) == "▁<PRE>▁<SUF>c▁<MID> a b"
    assert psm[:2] == [sentencepiece.bos_id, tokens.prefix] and psm[-1] == tokens.middle
    assert b"".join(map(sentencepiece.token_bytes, sentencepiece.encode_continuation("c"))) == b"c"
    assert b"".join(map(sentencepiece.token_bytes, sentencepiece.encode("c"))) == b" c"


@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_samples_hold_the_document(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    tokens, infilling = InfillTokens.of(tokenizer), Infilling(tokenizer, seed=5)
    counts = {"plain": 0, "psm": 0, "spm": 0}
    cuts = set()
    for number in range(400):
        ids = infilling.sample(DOCUMENT, number)
        if tokens.prefix not in ids:
            counts["plain"] += 1
            assert ids == tokenizer.encode(DOCUMENT)
            continue
        assert ids[0] == tokens.prefix and ids[-1] == tokens.end
        suffix, middle = ids.index(tokens.suffix), ids.index(tokens.middle)
        text = [
            b"".join(map(tokenizer.token_bytes, part)).decode()
            for part in (ids[1:suffix], ids[suffix + 1 : middle], ids[middle + 1 : -1])
        ]
        if suffix == 1:
            counts["spm"] += 1
            assert text[2].removeprefix(" ") + text[1] == DOCUMENT  # PSM with an empty prefix looks the same
        else:
            counts["psm"] += 1
            assert text[0].removeprefix(" ") + text[2] + text[1] == DOCUMENT
        cuts.add(len(text[1]))
    assert 20 < counts["plain"] < 65 and 140 < counts["psm"] < 220 and 140 < counts["spm"] < 220
    assert len(cuts) > 30


def test_a_sample_depends_on_seed_and_number_alone(byte_level: Tokenizer) -> None:
    one, other = Infilling(byte_level, seed=1), Infilling(byte_level, seed=2)
    backwards = [one.sample(DOCUMENT, number) for number in reversed(range(20))][::-1]
    assert [one.sample(DOCUMENT, number) for number in range(20)] == backwards
    assert backwards != [other.sample(DOCUMENT, number) for number in range(20)]
    never = Infilling(byte_level, rate=0)
    assert all(never.sample(DOCUMENT, number) == byte_level.encode(DOCUMENT) for number in range(20))


def test_refusals(tokenizer: Tokenizer, byte_level: Tokenizer) -> None:
    with pytest.raises(ArrieroError, match="no infilling tokens"):
        infill_prompt(tokenizer, "a", "b")
    with pytest.raises(ArrieroError, match="between 0 and 1"):
        Infilling(byte_level, rate=1.5)
