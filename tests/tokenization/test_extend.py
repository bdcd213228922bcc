"""More pieces for a tokenizer, and rows for them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.tokenization.bpe import bytes_per_token, train_bpe
from arriero.tokenization.extend import add_special_tokens, extend, old_pieces
from arriero.tokenization.grow import grow_embeddings
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tokenization.wordpiece_train import train_wordpiece

CHINESE = [
    "羊驼走过高山。商人带着羊驼走过高山，路很长。",
    "羊驼喜欢读书，商人喜欢羊驼。高山上有一条路。",
    "商人知道路要多少钱，羊驼走过高山，到达了。",
] * 3


def byte_level() -> Tokenizer:
    return train_bpe(sample_texts(30_000), 400, "llama3", 2)


def byte_fallback() -> Tokenizer:
    pytest.importorskip("sentencepiece")
    from arriero.tokenization.sentencepiece_train import train_sentencepiece

    return train_sentencepiece(sample_texts(30_000), 400)


@pytest.fixture(scope="module", params=[byte_level, byte_fallback])
def pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, Tokenizer]:
    old = request.param()
    return old, extend(old, CHINESE, 60)


def test_old_ids_stay_and_new_text_takes_fewer(pair: tuple[Tokenizer, Tokenizer]) -> None:
    old, new = pair
    assert new.vocab_size == old.vocab_size + 60
    assert [new.token_bytes(id) for id in range(old.vocab_size)] == [
        old.token_bytes(id) for id in range(old.vocab_size)
    ]
    assert new.special_ids == old.special_ids
    assert bytes_per_token(old, CHINESE) < 1.2 < 3.5 < bytes_per_token(new, CHINESE)
    for text in sample_texts(3_000):
        assert new.encode(text) == old.encode(text)  # nothing of the new text is in it
    used = {id for text in CHINESE for id in new.encode(text)}
    assert "羊驼" in new.decode(sorted(used)[-60:])


@given(st.lists(st.sampled_from([*"羊驼走过高山。商人", "tea ", " ", "🦙"]) | st.text(max_size=4)))
def test_any_text_comes_back(pair: tuple[Tokenizer, Tokenizer], parts: list[str]) -> None:
    old, new = pair
    text = "".join(parts).replace("▁", "")
    ids = new.encode(text)
    assert new.decode(ids) == text
    # The new encoding is the old one, merged further: taking the new pieces apart gives the old ids.
    apart = old_pieces(old, new)
    written = [part for id in ids for part in apart.get(id, [id])]
    assert b"".join(map(old.token_bytes, written)) == b"".join(map(new.token_bytes, ids))


def test_extending_is_deterministic_and_saves(pair: tuple[Tokenizer, Tokenizer], tmp_path: object) -> None:
    old, new = pair
    assert extend(old, iter(CHINESE), 60).fingerprint == new.fingerprint
    assert extend(old, CHINESE, 5).vocab_size == old.vocab_size + 5
    assert extend(old, [], 5).vocab_size == old.vocab_size
    most = extend(old, CHINESE, 100_000)
    assert most.vocab_size < old.vocab_size + 1_000
    for id, parts in old_pieces(old, most).items():
        assert b"".join(map(old.token_bytes, parts)) == most.token_bytes(id)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("padding", [0, 7, 100])
def test_new_rows_are_means_of_the_old_pieces_rows(
    pair: tuple[Tokenizer, Tokenizer], tied: bool, padding: int
) -> None:
    old, new = pair
    config = DecoderConfig(
        vocab_size=old.vocab_size + padding, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=24,
        context_length=32, tie_embeddings=tied,
    )  # fmt: skip
    model = Decoder(config)
    model.init_weights(3)
    grown = grow_embeddings(model.eval(), old, new)
    assert grown.config.vocab_size == max(config.vocab_size, new.vocab_size)
    assert not grown.training and all(p.device.type == "cpu" for p in grown.parameters())
    table, before = grown.embedding.weight, model.embedding.weight
    assert torch.equal(table[: old.vocab_size], before[: old.vocab_size])
    for id, parts in old_pieces(old, new).items():
        torch.testing.assert_close(table[id], before[parts].mean(0))
        if not tied:
            torch.testing.assert_close(grown.head.weight[id], model.head.weight[parts].mean(0))
    ids = torch.tensor([old.encode("tea and a tin")])
    with torch.no_grad():
        torch.testing.assert_close(
            grown.logits(grown.hidden(ids))[..., : old.vocab_size],
            model.logits(model.hidden(ids))[..., : old.vocab_size],
        )


def test_what_does_not_fit_is_refused(pair: tuple[Tokenizer, Tokenizer]) -> None:
    old, new = pair
    config = DecoderConfig(
        vocab_size=300, d_model=8, n_layers=1, n_heads=1, n_kv_heads=1, d_ff=8, context_length=8
    )
    with pytest.raises(ArrieroError, match="300 rows"):
        grow_embeddings(Decoder(config), old, new)
    with pytest.raises(ArrieroError, match="does not begin"):
        old_pieces(new, old)
    with pytest.raises(ArrieroError, match="this tokenizer is WordPiece"):
        extend(train_wordpiece(sample_texts(5_000), 300), CHINESE, 10)


def test_special_tokens_come_after_all_ids(pair: tuple[Tokenizer, Tokenizer]) -> None:
    old, _ = pair
    first = next(iter(old.special_ids))
    more = add_special_tokens(old, ["<|a|>", first, "<|b|>"])
    assert (more.token_id("<|a|>"), more.token_id("<|b|>")) == (old.vocab_size, old.vocab_size + 1)
    assert more.token_id(first) == old.special_ids[first] and more.vocab_size == old.vocab_size + 2
    assert (
        old.vocab_size not in more.encode("<|a|>")
        and more.encode("x <|a|>", parse_special=True)[-1] == old.vocab_size
    )
    with pytest.raises(ArrieroError, match="ordinary piece"):
        add_special_tokens(old, ["e"])
