from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arriero.models.checkpoint import load_model, save_model
from arriero.models.feedforward_config import FeedForwardConfig
from arriero.models.feedforward_lm import FeedForwardLM


def make(seed: int = 0, **changes: Any) -> FeedForwardLM:
    values = {"vocab_size": 11, "d_model": 9, "d_embedding": 4, "window": 3, "init_std": 0.3, **changes}
    model = FeedForwardLM(FeedForwardConfig.model_validate(values)).eval()
    model.init_weights(seed)
    return model


def draw_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 11, (rows, length), generator=torch.Generator().manual_seed(seed))


def by_hand(model: FeedForwardLM, before: list[int]) -> np.ndarray:
    """y = b + W x + U tanh(d + H x) of the paper, for the token after ``before``."""
    value = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    window, width = model.config.window, model.config.d_embedding
    seen = [np.zeros(width)] * window + [value["embedding.weight"][i] for i in before]
    x = np.concatenate(seen[-window:])
    y = value["head.bias"] + value["head.weight"] @ np.tanh(
        value["feed_forward.bias"] + value["feed_forward.weight"] @ x
    )
    if model.config.direct:
        y = y + value["direct.weight"] @ x + value.get("direct.bias", 0.0)
    return np.asarray(y)


@pytest.mark.parametrize(
    "changes", [{}, {"direct": False}, {"window": 1}, {"two_biases": False, "window": 7}]
)
def test_it_is_the_papers_formula_at_every_place(changes: dict[str, Any]) -> None:
    model, ids = make(**changes), draw_ids(2, 6)
    logits = model(ids).detach().numpy()
    for row in range(2):
        for t in range(6):
            np.testing.assert_allclose(logits[row, t], by_hand(model, ids[row, : t + 1].tolist()), atol=1e-6)


@pytest.mark.parametrize("window", [1, 3, 8])
def test_windows_never_cross_documents(window: int) -> None:
    model, ids = make(window=window), draw_ids(2, 12)
    segments = torch.tensor([[0] * 5 + [1] * 4 + [2] * 3, [4] * 1 + [5] * 10 + [-1]])
    packed = model.hidden(ids, segments=segments)
    for row in range(2):
        for number in segments[row].unique():
            chosen = segments[row] == number
            torch.testing.assert_close(
                packed[row : row + 1, chosen], model.hidden(ids[row : row + 1, chosen]), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("window", [1, 4])
def test_a_carried_window_goes_on_where_it_stopped(window: int) -> None:
    model, ids = make(window=window), draw_ids(2, 11)
    segments = torch.tensor([[0] * 5 + [1] * 6, [0] * 11])
    whole = model.hidden(ids, segments=segments)
    first, state = model.hidden_with_state(ids[:, :6], segments=segments[:, :6])
    second, _ = model.hidden_with_state(ids[:, 6:], state, segments=segments[:, 6:])
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    fresh = model.reset(state, torch.tensor([True, False]))
    torch.testing.assert_close(model.hidden_with_state(ids[:, 6:], fresh)[0][:1], model.hidden(ids[:1, 6:]))
    carried = None
    for t in range(7):
        logits, carried = model.step(ids[:, t], carried)
    torch.testing.assert_close(logits, model(ids[:, :7])[:, -1])


@pytest.mark.parametrize("direct", [True, False])
def test_gradients_by_finite_differences(direct: bool) -> None:
    model = make(vocab_size=5, d_model=4, d_embedding=2, direct=direct).double()
    ids = draw_ids(2, 5) % 5
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (ids,))
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-7)


def test_counts_to_the_digit() -> None:
    """The reference's net: 84 symbols, embedding 32, hidden 384, 16 characters; and the paper's formula."""
    v, m, h, n = 84, 32, 384, 16
    paper = v * m + h * n * m + h + v * h + v + v * n * m
    for two_biases, expected in ((True, 275_112), (False, paper)):
        config = FeedForwardConfig(vocab_size=v, d_model=h, d_embedding=m, window=n, two_biases=two_biases)
        with torch.device("meta"):
            model = FeedForwardLM(config)
        assert sum(p.numel() for p in model.parameters()) == expected
        assert sum(model.parameter_counts().values()) == expected


def test_texts_of_any_length_are_scored() -> None:
    model = make()
    texts = [draw_ids(1, n, n)[0].tolist() for n in (5, 300, 1, 0, 17)]
    for text, found in zip(texts, model.token_logprobs(texts), strict=True):
        assert len(found) == max(0, len(text) - 1)
        for t in range(1, len(text)):
            y = by_hand(model, text[:t])
            assert found[t - 1] == pytest.approx(y[text[t]] - np.log(np.exp(y).sum()), abs=1e-5)


@pytest.mark.parametrize("changes", [{}, {"direct": False}, {"two_biases": False}])
def test_folders_hold_it(changes: dict[str, Any], tmp_path: Path) -> None:
    model, ids = make(**changes), draw_ids(2, 9)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config and torch.equal(loaded(ids), model(ids))
