from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.inference.beam import BeamSettings, Hypothesis, beam_generate, beam_search, recomputing
from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig

EOS = 0
BASE = {"vocab_size": 23, "d_model": 12, "encoder_layers": 2, "encoder_heads": 3, "encoder_d_ff": 20,
        "context_length": 16, "pad_id": 2, "eos_id": EOS, "start_id": 1}  # fmt: skip
T5 = {"positions": "relative", "norm": "rms", "arrangement": "pre", "bias": False, "scale_embedding": False,
      "scale_attention": False, "scale_head": True, "head_dim": 5, "relative_buckets": 8, "relative_max_distance": 9,
      "activation": "gelu_tanh", "gated": True}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "transformer": {},
    "learned": {"positions": "learned", "position_offset": 2, "embedding_norm": True, "decoder_heads": 2},
    "t5": T5,
}


def make_model(shape: str = "transformer", seed: int = 0) -> Seq2Seq:
    model = Seq2Seq(
        Seq2SeqConfig.model_validate({**BASE, "init": "normal", "init_std": 0.4, **SHAPES[shape]})
    )
    model.init_weights(seed)
    return model.eval()


def table_network(vocab_size: int, order: int, seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """Log-probabilities that hang on the last tokens and on the input, drawn once."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(4, *[vocab_size] * order, vocab_size, generator=generator).mul(1.5).log_softmax(-1)

    def log_probs(ids: Tensor, inputs: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(ids, (order, 0))
        return table[(inputs, *(padded[:, -i] for i in range(1, order + 1)))]

    return log_probs


def brute_force(
    log_probs: Callable[[Tensor, Tensor], Tensor], vocab_size: int, settings: BeamSettings, which: int
) -> list[Hypothesis]:
    """Every sequence that ends, or reaches the longest length, with its score."""
    found = []
    for length in range(1, settings.max_tokens + 1):
        for ids in itertools.product(range(vocab_size), repeat=length):
            ended = ids[-1] == EOS
            if EOS in ids[:-1] or not (ended or length == settings.max_tokens):
                continue
            total = 0.0
            for t, token in enumerate(ids):
                given = torch.tensor([[1, *ids[:t]]])
                total += float(log_probs(given, torch.tensor([which]))[0, token].double())
            found.append(Hypothesis(ids, total, settings.score(total, length)))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


@pytest.mark.parametrize("penalty", ["power", "gnmt"])
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.5, -0.5])
def test_a_beam_that_holds_everything_is_brute_force(length_penalty: float, penalty: Any) -> None:
    vocab_size, network = 3, table_network(3, 2)
    settings = BeamSettings(40, length_penalty, "never", max_tokens=4, penalty=penalty)
    found = beam_search(recomputing(network), [1, 1, 1], EOS, settings)
    for which in range(3):
        expected = brute_force(network, vocab_size, settings, which)
        assert len(expected) == 1 + 2 + 4 + 8 * 3
        assert [h.ids for h in found[which]] == [h.ids for h in expected]
        for ours, theirs in zip(found[which], expected, strict=True):
            assert ours.score == pytest.approx(theirs.score, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_exhaustive_beam_over_a_real_network(shape: str) -> None:
    model = make_model(shape)
    small = Seq2Seq(model.config.model_copy(update={"vocab_size": 4}))
    small.init_weights(3)
    small.eval()
    settings = BeamSettings(beams=200, length_penalty=0.5, early_stopping="never", max_tokens=3)
    sources = [[3, 2, 3, EOS], [2, EOS]]

    def scored(ids: Tensor, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return small(torch.tensor([sources[int(inputs)]]), ids)[:, -1].log_softmax(-1)

    for which, hypotheses in enumerate(beam_generate(small, sources, settings)):
        expected = brute_force(scored, 4, settings, which)
        assert [h.ids for h in hypotheses] == [h.ids for h in expected]
        assert hypotheses[0].log_prob == pytest.approx(
            float(small.target_logprobs([sources[which]], [hypotheses[0].ids])[0].sum()), rel=1e-5
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beams", [1, 3])
def test_cached_search_is_uncached_search(shape: str, beams: int) -> None:
    model = make_model(shape)
    draw = torch.Generator().manual_seed(1)
    sources = [torch.randint(3, 23, (n,), generator=draw).tolist() for n in (5, 1, 9, 3)]
    settings = BeamSettings(beams=beams, max_tokens=10)

    def scored(ids: Tensor, inputs: Tensor) -> Tensor:
        rows = [model(torch.tensor([sources[i]]), ids[row : row + 1])[0, -1] for row, i in enumerate(inputs)]
        return torch.stack(rows).log_softmax(-1)

    plain = beam_search(recomputing(scored), [1] * 4, EOS, settings)
    cached = beam_generate(model, sources, settings)
    for a, b in zip(plain, cached, strict=True):
        assert [h.ids for h in a] == [h.ids for h in b]
        assert [h.score for h in a] == pytest.approx([h.score for h in b], rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_cached_step_has_the_uncached_log_probabilities(shape: str) -> None:
    """With rows that are put in another order, doubled and dropped between the steps."""
    model = make_model(shape)
    sources = [[5, 6, 7, 8, 0], [9, 0], [3, 4, 0]]
    with torch.inference_mode():
        step = model.start(sources)
        inputs, ids = torch.arange(3), torch.full((3, 1), 1)
        log_probs = step(ids[:, 0], None)
        for parents in ([2, 0, 0, 1], [3, 3, 1], [0, 2], [1, 0]):
            rows = torch.tensor(parents)
            tokens = log_probs[rows].argsort(dim=-1)[:, -2]
            inputs, ids = inputs[rows], torch.cat([ids[rows], tokens[:, None]], dim=1)
            log_probs = step(tokens, rows)
            for row, source in enumerate(inputs.tolist()):
                plain = model(torch.tensor([sources[source]]), ids[row : row + 1])[0, -1].log_softmax(-1)
                assert torch.allclose(log_probs[row], plain, atol=2e-6)


def test_one_beam_is_greedy() -> None:
    network = table_network(5, 2, seed=3)
    found = beam_search(recomputing(network), [1, 2, 3, 4], EOS, BeamSettings(beams=1, max_tokens=9))
    for which, start in enumerate([1, 2, 3, 4]):
        ids = [start]
        while len(ids) < 10 and not (len(ids) > 1 and ids[-1] == EOS):
            ids.append(int(network(torch.tensor([ids]), torch.tensor([which])).argmax()))
        assert len(found[which]) == 1
        assert list(found[which][0].ids) == ids[1:]


def test_inputs_do_not_disturb_each_other() -> None:
    network, settings = table_network(6, 2, seed=5), BeamSettings(beams=3, max_tokens=7)
    together = beam_search(recomputing(network), [1, 1, 1, 1], EOS, settings)
    for which in range(4):
        alone = beam_search(
            recomputing(lambda ids, inputs, which=which: network(ids, inputs + which)), [1], EOS, settings
        )[0]  # fmt: skip
        assert [h.ids for h in alone] == [h.ids for h in together[which]]


def test_prompts_stand_before_the_start() -> None:
    network, prompts = table_network(5, 2, seed=1), torch.tensor([[3, 4], [2, 2]])
    settings = BeamSettings(beams=2, max_tokens=3)
    found = beam_search(recomputing(network, prompts), [4, 2], EOS, settings)
    first = network(torch.tensor([[3, 4, 4]]), torch.tensor([0]))
    best = max(found[0], key=lambda h: h.score)
    assert best.log_prob <= float(first[0, best.ids[0]])
    assert all(set(h.ids) <= set(range(5)) and h.score == h.log_prob / len(h.ids) for h in found[0])


def test_scores_of_both_penalties() -> None:
    assert BeamSettings(length_penalty=2.0).score(-6.0, 4) == -6.0 / 16
    assert BeamSettings(length_penalty=2.0, penalty="gnmt").score(-6.0, 7) == -6.0 / 4


def test_several_end_tokens() -> None:
    network = table_network(6, 1, seed=2)
    found = beam_search(recomputing(network), [1], [0, 5], BeamSettings(beams=30, max_tokens=3))[0]
    assert all(h.ids[-1] in (0, 5) or len(h.ids) == 3 for h in found)
    assert all(not {0, 5} & set(h.ids[:-1]) for h in found)
    assert {h.ids[-1] for h in found} >= {0, 5}


def test_stopping_early_never_beats_going_on() -> None:
    for seed in range(8):
        network = table_network(6, 2, seed)
        scores = {}
        for early in (True, False, "never"):
            settings = BeamSettings(beams=3, early_stopping=early, max_tokens=8)  # type: ignore[arg-type]
            scores[early] = beam_search(recomputing(network), [1], EOS, settings)[0][0].score
        assert scores["never"] >= scores[False] - 1e-9 >= scores[True] - 2e-9


def test_generation_is_bounded_by_the_positions_and_says_what_is_wrong() -> None:
    model = make_model()
    found = beam_generate(model.train(), [[3, 0]], BeamSettings(beams=2, max_tokens=1000))
    assert model.training
    assert max(len(h.ids) for h in found[0]) <= 16
    assert beam_generate(model, []) == []
    for source, words in (
        ([], "empty"),
        ([99], "outside the vocabulary"),
        ([3] * 17, "more than the model's context"),
    ):
        with pytest.raises(ArrieroError, match=words):
            beam_generate(model, [source])
    with pytest.raises(ArrieroError, match="at least one beam"):
        BeamSettings(beams=0)
