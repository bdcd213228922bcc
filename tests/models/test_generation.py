"""Any causal model continues a prompt with the tokens that its own probabilities say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model, parse_config
from arriero.models.generation import generate
from arriero.models.ngram import NGram

VOCABULARY = 13
CONFIGS: dict[str, dict[str, Any]] = {
    "lstm": {"family": "lstm", "d_model": 16, "n_layers": 2},
    "rnn": {"family": "rnn", "d_model": 16},
    "feedforward": {"family": "feedforward", "d_model": 16, "d_embedding": 4, "window": 3},
    "llama": {
        "family": "llama",
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "d_ff": 32,
        "context_length": 64,
    },
    "ngram": {},
}


@pytest.fixture(params=CONFIGS, ids=CONFIGS)
def model(request: pytest.FixtureRequest) -> Any:
    values = CONFIGS[request.param]
    if not values:
        rng = np.random.default_rng(0)
        return NGram.fit([rng.integers(0, VOCABULARY, 400)], 3, VOCABULARY)
    network = build_model(parse_config({**values, "vocab_size": VOCABULARY, "init_std": 0.5}, "test"))
    network.init_weights(1)
    return network


def test_greedy_tokens_are_the_most_probable(model: Any) -> None:
    prompt = [3, 1, 4]
    answer = generate(model, prompt, 9, temperature=0)
    assert len(answer) == 9
    for place, token in enumerate(answer):
        before = prompt + answer[:place]
        rows = model.token_logprobs([[*before, other] for other in range(VOCABULARY)])
        assert token == int(np.argmax([row[-1] for row in rows]))


def test_samples_follow_the_distribution(model: Any) -> None:
    draws = [generate(model, [2, 5], 1, seed=seed)[0] for seed in range(1500)]
    rows = model.token_logprobs([[2, 5, other] for other in range(VOCABULARY)])
    expected = np.exp([row[-1] for row in rows])
    found = np.bincount(draws, minlength=VOCABULARY) / len(draws)
    assert np.abs(found - expected).max() < 4.5 * np.sqrt(0.25 / len(draws))
    assert generate(model, [2, 5], 6, seed=3) == generate(model, [2, 5], 6, seed=3)


def test_it_ends_at_an_end_token(model: Any) -> None:
    first = generate(model, [2, 5], 8, temperature=0)
    cut = generate(model, [2, 5], 8, temperature=0, end_ids={first[3]})
    assert cut == first[: first.index(first[3])]
    with pytest.raises(ArrieroError, match="needs a prompt"):
        generate(model, [], 3)
