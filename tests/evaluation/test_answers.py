from __future__ import annotations

import numpy as np
import pytest

from arriero.data.conversations import Preference
from arriero.evaluation.answer_loss import score_conversations
from arriero.evaluation.answers import render_answer, render_pair, score_answers
from arriero.evaluation.preference import score_pairs
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.tokenization.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Decoder:
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=16,
        n_layers=1,
        n_heads=2,
        n_kv_heads=2,
        d_ff=16,
        context_length=96,
    )
    decoder = Decoder(config)
    decoder.init_weights(7)
    return decoder


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_only_the_answers_and_their_ends_are_counted(tokenizer: Tokenizer, model: Decoder) -> None:
    rows = [
        [turn("user", "by cold rivers?"), turn("assistant", "the llama")],
        [turn("user", "a"), turn("assistant", "b" * 9)],
    ]
    answers = [render_answer(tokenizer.chat, row, 96) for row in rows]
    nats, counts = score_conversations(model, answers)
    for row, answer, nat, count in zip(rows, answers, nats, counts, strict=True):
        assert count == len(tokenizer.encode(row[1]["content"])) + 1
        values = model.token_logprobs([answer.ids])[0]
        assert nat == pytest.approx(-values[np.asarray(tokenizer.chat.render(row).mask[1:])].sum(), rel=1e-5)


def test_what_does_not_fit_is_left_out(tokenizer: Tokenizer) -> None:
    row = [turn("user", "the llama"), turn("assistant", "walks " * 50)]
    n = len(tokenizer.chat.render(row).ids)
    assert (
        render_answer(tokenizer.chat, row, n) is not None
        and render_answer(tokenizer.chat, row, n - 1) is None
    )
    assert render_pair(tokenizer.chat, Preference(row[:1], row[1]["content"], "no"), n - 1) is None
    assert render_answer(tokenizer.chat, row[:1], 96) is None, "no answer in it"


def test_earlier_answers_of_a_pairs_prompt_do_not_count(tokenizer: Tokenizer) -> None:
    prompt = [turn("user", "salt"), turn("assistant", "wool and maize"), turn("user", "and")]
    sides = render_pair(tokenizer.chat, Preference(prompt, "markets", "cold rivers"), 96)
    for side, text in zip(sides, ("markets", "cold rivers"), strict=True):
        assert tokenizer.decode([i for i, s in zip(side.ids, side.supervised, strict=True) if s]) == text


def test_pairs_by_sum_and_by_mean(tokenizer: Tokenizer, model: Decoder) -> None:
    prompt = [turn("user", "salt")]
    texts = [
        ("to", "to the markets by the rivers"),
        ("to the markets by the rivers", "to"),
        ("llama", "llama"),
    ]
    pairs = [render_pair(tokenizer.chat, Preference(prompt, *text), 96) for text in texts]
    found = score_pairs(model, pairs)
    sums, counts = score_answers(model, [side for pair in pairs for side in pair])
    assert found.by_sum.tolist() == [1.0, 0.0, 0.0], "the shorter answer is likelier; a tie is no win"
    means = sums / counts
    assert found.by_mean.tolist() == (means[0::2] > means[1::2]).tolist()
    assert counts.tolist()[:2] == [len(tokenizer.encode(text)) + 1 for text in texts[0]]
