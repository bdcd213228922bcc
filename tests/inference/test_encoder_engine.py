from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.inference.encoder_engine import EncoderEngine
from arriero.inference.encoder_queue import Job, next_batch
from arriero.inference.encoder_request import EncoderInput, EncoderRequest
from arriero.inference.packed_attention import PackedAttention
from arriero.inference.request import QueueFullError, RequestError
from arriero.models.checkpoint import save_model
from arriero.models.decoder import Decoder
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.attention import attend
from arriero.models.layers.masks import AttentionRule
from arriero.models.sentence_embedding import SentenceEmbedder, save_embedder_files
from arriero.tokenization.bert_vocab import from_vocab
from arriero.tokenization.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##d", "e", "f", "g", "h", "i", "."]
BERT: dict[str, Any] = {
    "vocab_size": len(WORDS), "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 48, "context_length": 40,
    "pad_id": 0, "init_std": 0.3, "dropout": 0.0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"family": "roberta", "positions": "skip_padding", "pad_id": 1, "n_segments": 1},
    "albert": {"family": "albert", "n_groups": 1, "embedding_size": 16, "embedding_projection": "after_norm"},
    "deberta": {
        "family": "deberta-v2", "attention": "disentangled", "relative_attention": True, "positions": "none",
        "position_terms": ("c2p", "p2c"), "relative_buckets": 4, "relative_span": 16, "conv_kernel": 3,
        "n_segments": 0, "mask_embeddings": True, "body_pooler": False,
    },
    "longformer": {"family": "longformer", "attention": "window", "windows": (4, 8), "positions": "skip_padding", "pad_id": 1,
                   "n_segments": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def bert_tokenizer() -> Tokenizer:
    return from_vocab(WORDS)


def encoder(**changes: Any) -> Encoder:
    model = Encoder(EncoderConfig.model_validate(BERT | changes))
    model.init_weights(0)
    return model.eval()


def texts(count: int, seed: int = 0, longest: int = 30) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list("abcefghi"), rng.integers(0, longest))) for _ in range(count)]


def close(ours: list[np.ndarray], theirs: Any) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# ---------------------------------------------------------------- the same numbers whatever the company


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_vectors_are_those_of_one_text_at_a_time(
    family: str, pooling: str, bert_tokenizer: Tokenizer
) -> None:
    model = encoder(**FAMILIES[family])
    engine = EncoderEngine(model, bert_tokenizer, pooling=pooling, normalise=False, token_budget=50)
    asked = texts(23)
    got, counts = engine.embed(asked)
    ids = [[2, *bert_tokenizer.encode(text), 3] for text in asked]
    assert counts == [len(i) for i in ids] and engine.steps > 3
    alone = [model.embed([i], pooling=pooling, normalise=False)[0] for i in ids]  # padding there is none
    close(got, alone)


@given(
    st.lists(st.lists(st.integers(5, 14), min_size=1, max_size=40), min_size=1, max_size=12),
    st.integers(1, 120),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_lengths_under_any_budget(bert_tokenizer: Tokenizer, asked: list[list[int]], budget: int) -> None:
    model = encoder()
    engine = EncoderEngine(model, bert_tokenizer, token_budget=budget)
    got, counts = engine.embed(asked)
    assert counts == [len(i) for i in asked]
    close(got, [model.embed([i])[0] for i in asked])


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"positions": "learned", "norm": "layer", "gated": False}, {"sliding_window": 5}, {"positions": "alibi"},
        {"positions": "relative"}, {"positions": "sinusoidal"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_vectors_of_a_decoder(changes: dict[str, Any], pooling: str, tiny: Any, tokenizer: Tokenizer) -> None:
    model: Decoder = tiny(0, **changes)
    engine = EncoderEngine(model, tokenizer, pooling=pooling, token_budget=60)
    asked = ["", *["täxt" * n for n in (1, 7, 2, 9)], "another", "one"][1:]
    got, counts = engine.embed(asked)
    for text, vector, count in zip(asked, got, counts, strict=True):
        ids = tokenizer.encode(text)
        assert count == len(ids)
        with torch.inference_mode():
            hidden = model.hidden(torch.tensor([ids]))[0]
        vectors = hidden.mean(0) if pooling == "mean" else hidden[-1]
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(vectors, dim=0), atol=1e-5)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_classes(problem: str, bert_tokenizer: Tokenizer) -> None:
    model = encoder(task="sequence_classification", n_labels=3, label_names=("x", "y", "z"), problem=problem)
    engine = EncoderEngine(model, bert_tokenizer, token_budget=64)
    asked = texts(9)
    right = model.classify([[2, *bert_tokenizer.encode(text), 3] for text in asked])
    for answer, expected in zip(engine.classify(asked), right, strict=True):
        assert list(answer.probabilities) == ["x", "y", "z"]
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-5)
        assert answer.label == "xyz"[int(expected.argmax())]
    assert engine.tasks == ("embed", "classify")


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "longformer"])
def test_scores_of_pairs(family: str, bert_tokenizer: Tokenizer) -> None:
    model = encoder(**FAMILIES[family], task="sequence_classification", n_labels=1)
    engine = EncoderEngine(model, bert_tokenizer, token_budget=60)
    query, documents = "a b", texts(7, seed=2)
    scores, counts = engine.rerank(query, documents)
    for document, score, count in zip(documents, scores, counts, strict=True):
        first, second = ([*bert_tokenizer.encode(t), 3] for t in (query, document))
        ids = torch.tensor([[2, *first, *second]])
        segments = torch.tensor([[0] * (len(first) + 1) + [1] * len(second)])
        with torch.inference_mode():
            told = {"segments": segments} if model.config.n_segments > 1 else {}
            logit = model(ids, **told)[0, 0]
        assert score == pytest.approx(float(logit.sigmoid()), abs=1e-5) and count == ids.shape[1]
    raw = EncoderEngine(model, bert_tokenizer, sigmoid=False).rerank(query, documents[:1])[0][0]
    assert 1 / (1 + np.exp(-raw)) == pytest.approx(scores[0], abs=1e-5)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=9),
    st.booleans(),
    st.sampled_from([None, 3]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_packed_attention_is_that_of_each_text(
    lengths: list[int], causal: bool, window: int | None, slopes: bool
) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))

    def draw(heads: int) -> Tensor:
        return torch.randn(1, heads, sum(lengths), 8, generator=generator)

    q, k, v = draw(4), draw(2), draw(2)
    rule = None
    if causal and (window or slopes):
        rule = AttentionRule(window, torch.tensor([0.5, 0.25, 0.1, 0.05]) if slopes else None)
    got = PackedAttention(lengths, causal).attend(0, q, k, v, rule)
    for start, length in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True):
        own = slice(int(start), int(start) + length)
        distance = torch.arange(length)[:, None] - torch.arange(length)
        mask = rule.apply(distance >= 0, distance, q.dtype)[None] if rule else None
        right = attend(q[:, :, own], k[:, :, own], v[:, :, own], mask, causal)
        torch.testing.assert_close(got[:, :, own], right, atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------- vectors


def test_dimensions_are_cut_and_normalised_again(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer, normalise=False)
    whole = engine.embed(["a b c"])[0][0]
    short = engine.embed(["a b c"], dimensions=5)[0][0]
    unit = engine.embed(["a b c"], dimensions=5, normalise=True)[0][0]
    np.testing.assert_allclose(short, whole[:5], atol=1e-6)
    np.testing.assert_allclose(unit, whole[:5] / np.linalg.norm(whole[:5]), atol=1e-6)
    for wrong in (0, -1, 33):
        with pytest.raises(RequestError, match=f"dimensions {wrong} is not between 1 and the model's 32"):
            engine.embed(["a"], dimensions=wrong)


def test_nothing_and_one_text(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer)
    assert engine.embed([]) == ([], [])
    vectors, counts = engine.embed(["."])
    assert vectors[0].shape == (32,) and vectors[0].dtype == np.float32 and counts == [3]
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-6)


# ---------------------------------------------------------------- what is too long


def test_long_texts_are_refused_or_cut_when_asked(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer, longest=6)
    with pytest.raises(RequestError, match="text 1 has 7 tokens, the model reads 6"):
        engine.embed(["a", "a b c e f"])
    (vector,), (count,) = engine.embed(["a b c e f"], truncate=True)
    assert count == 6
    close([vector], engine.embed(["a b c e"])[0])  # what is cut is text, [SEP] stays
    with pytest.raises(RequestError, match="text 0 has 7 tokens"):
        engine.embed([[5] * 7])
    assert engine.embed([[5] * 7], truncate=True)[1] == [6]


def test_the_longer_of_a_pair_is_cut_first(bert_tokenizer: Tokenizer) -> None:
    model = encoder(task="sequence_classification", n_labels=1)
    engine = EncoderEngine(model, bert_tokenizer, longest=8)
    with pytest.raises(RequestError, match="pair 1 has 9 tokens"):
        engine.rerank("a b", ["a", "c e f g"])
    assert engine.rerank("a b", ["c e f g"], truncate=True)[0] == pytest.approx(
        engine.rerank("a b", ["c e f"])[0], abs=1e-6
    )


def test_the_limit_is_never_more_than_the_positions(bert_tokenizer: Tokenizer) -> None:
    assert EncoderEngine(encoder(), bert_tokenizer, longest=999).context_length == 40
    roberta = encoder(**FAMILIES["roberta"])
    engine = EncoderEngine(roberta, bert_tokenizer)
    assert engine.context_length == 38
    engine.embed([[5] * 38, [5] * 38])
    with pytest.raises(RequestError, match="39 tokens"):
        engine.embed([[5] * 39])
    assert EncoderEngine(encoder(**FAMILIES["deberta"]), bert_tokenizer).context_length is None


# ---------------------------------------------------------------- what is refused


def test_tasks_that_the_model_has_not(
    bert_tokenizer: Tokenizer, model: Decoder, tokenizer: Tokenizer
) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer)
    with pytest.raises(RequestError, match="cannot classify; it can: embed"):
        engine.classify(["a"])
    with pytest.raises(RequestError, match="cannot rerank"):
        EncoderEngine(model, tokenizer).rerank("a", ["b"])
    three = EncoderEngine(encoder(task="sequence_classification", n_labels=3), bert_tokenizer)
    assert three.labels == ("LABEL_0", "LABEL_1", "LABEL_2") and engine.labels == ()
    with pytest.raises(RequestError, match="cannot rerank; it can: embed, classify"):
        three.rerank("a", ["b"])


def test_inputs_that_are_refused(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer)
    with pytest.raises(RequestError, match="input 1 has an id outside the vocabulary of 15"):
        engine.embed([[5], [15]])
    with pytest.raises(RequestError, match="input 0 has an id outside"):
        engine.embed([[-1]])
    with pytest.raises(RequestError, match="text 0 has no token"):
        engine.embed([[]])
    with pytest.raises(RequestError, match="surrogate"):
        engine.embed(["\ud800"])
    with pytest.raises(ArrieroError, match="unknown pooling 'meen'; did you mean 'mean'"):
        EncoderEngine(encoder(), bert_tokenizer, pooling="meen")
    assert engine.idle


def test_special_names_in_a_text_are_plain_text(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer)
    (one,) = engine.read(["a [SEP] b"])
    assert one.ids.count(3) == 1


def test_damaged_weights_are_told(bert_tokenizer: Tokenizer) -> None:
    broken = encoder()
    with torch.no_grad():
        broken.blocks[0].feed_forward.up_proj.weight.fill_(float("nan"))
    engine = EncoderEngine(broken, bert_tokenizer)
    with pytest.raises(ArrieroError, match="not a number"):
        engine.embed(["a"])
    assert engine.idle


# ---------------------------------------------------------------- the queue


def requests(engine: EncoderEngine, *asked: list[str]) -> list[EncoderRequest]:
    return [EncoderRequest("embed", tuple(engine.read(some))) for some in asked]


def test_stepped_like_the_other_engine(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer, token_budget=30, max_waiting=3)
    some = [texts(20, seed) for seed in range(3)]
    ids = [engine.submit(r) for r in requests(engine, *some)]
    with pytest.raises(QueueFullError, match="3 requests are waiting already"):
        engine.submit(requests(engine, ["a"])[0])
    assert engine.waiting == 3 and engine.running == 0 and not engine.idle
    assert engine.step() == [] and engine.running >= 1
    found = {}
    aborted = engine.abort(ids[1])
    assert aborted is not None and aborted.finish_reason == "abort" and engine.abort(ids[1]) is None
    while not engine.idle:
        found |= {event.request_id: event for event in engine.step()}
    assert list(found) == [ids[0], ids[2]]
    for number in (0, 2):
        values = found[ids[number]].values
        assert values is not None and found[ids[number]].finish_reason == "stop"
        close(values, EncoderEngine(encoder(), bert_tokenizer).embed(some[number])[0])
    assert engine.step() == []


def test_abort_all_leaves_nothing(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(), bert_tokenizer)
    ids = [engine.submit(r) for r in requests(engine, ["a"], ["b"])]
    assert [event.request_id for event in engine.abort_all()] == ids
    assert engine.idle and engine.step() == []


def test_a_request_of_its_own_kind_of_work(bert_tokenizer: Tokenizer) -> None:
    engine = EncoderEngine(encoder(task="sequence_classification", n_labels=1), bert_tokenizer)
    inputs = tuple(engine.read(["a b", "c"]))
    values = engine.run([EncoderRequest(task, inputs) for task in ("embed", "rerank", "classify")])
    assert [len(v[0]) for v in values] == [32, 1, 1] and engine.steps == 3


@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), min_size=1, max_size=4),
    st.integers(1, 60),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_batches(asked: list[list[int]], budget: int, padded: bool) -> None:
    """Every input is in one batch, the oldest request leads, and the budget holds but for a single long text."""
    jobs = [
        Job(i, EncoderRequest("embed", tuple(EncoderInput((5,) * n) for n in lengths)))
        for i, lengths in enumerate(asked)
    ]
    seen = []
    while left := [job for job in jobs if job.left]:
        lead = (left[0], left[0].left[-1])
        batch = next_batch(left, budget, padded)
        assert lead in batch
        lengths = [job.length(number) for job, number in batch]
        assert lengths == sorted(lengths, reverse=True)
        cost = max(lengths) * len(lengths) if padded else sum(lengths)
        assert cost <= budget or len(batch) == 1
        seen += [(job.id, number) for job, number in batch]
    assert sorted(seen) == [(i, n) for i, lengths in enumerate(asked) for n in range(len(lengths))]


# ---------------------------------------------------------------- folders


def test_a_folder_of_sentence_transformers(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    model = encoder()
    save_model(model, tmp_path)
    save_embedder_files(SentenceEmbedder(model, "cls", False, 12), tmp_path)
    bert_tokenizer.save(tmp_path)
    engine = EncoderEngine.load(tmp_path, token_budget=99)
    assert (engine.pooling, engine.normalise, engine.context_length, engine.token_budget) == (
        "cls",
        False,
        12,
        99,
    )
    close(engine.embed(["a b"])[0], model.embed([[2, 5, 6, 3]], pooling="cls", normalise=False))
    assert EncoderEngine.load(tmp_path, pooling="max").pooling == "max"


@pytest.mark.parametrize("name", ["torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"])
def test_a_cross_encoders_activation(tmp_path: Path, bert_tokenizer: Tokenizer, name: str) -> None:
    save_model(encoder(task="sequence_classification", n_labels=1), tmp_path)
    bert_tokenizer.save(tmp_path)
    assert EncoderEngine.load(tmp_path).sigmoid
    values = json.loads((tmp_path / "config.json").read_text())
    values["sentence_transformers"] = {"activation_fn": name}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert EncoderEngine.load(tmp_path).sigmoid == name.endswith("Sigmoid")


def test_a_folder_of_a_decoder(tmp_path: Path, model: Decoder, tokenizer: Tokenizer) -> None:
    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    engine = EncoderEngine.load(tmp_path, pooling="last")
    close(
        engine.embed(["abc"])[0],
        EncoderEngine(copy.deepcopy(model), tokenizer, pooling="last").embed(["abc"])[0],
    )
    with pytest.raises(ArrieroError):
        EncoderEngine.load(tmp_path / "nothing")
