from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.models import scoring
from arriero.models.checkpoint import load_language_model, load_model, save_model
from arriero.models.recurrent import Recurrent
from arriero.models.recurrent_config import RecurrentConfig

FAMILIES = ("rnn", "lstm")
TORCH: dict[str, Any] = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM}


def make(family: str, seed: int = 0, **changes: Any) -> Recurrent:
    values = {"vocab_size": 31, "d_model": 13, "n_layers": 2, "d_embedding": 7, "init_std": 0.3, **changes}
    model = Recurrent(RecurrentConfig.model_validate({"family": family, **values})).eval()
    model.init_weights(seed)
    return model


def draw_ids(rows: int, length: int, seed: int = 0, vocabulary: int = 31) -> torch.Tensor:
    return torch.randint(0, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


def reference(model: Recurrent) -> Any:
    """torch's own module with the same weights."""
    config = model.config
    theirs = TORCH[config.family](config.embedding_width, config.d_model, config.n_layers, batch_first=True)
    with torch.no_grad():
        for number, layer in enumerate(model.layers):
            for name, value in layer.named_parameters():
                getattr(theirs, f"{name}_l{number}").copy_(value)
    return theirs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [1, 2, 19])
@pytest.mark.parametrize("layers", [1, 3])
def test_it_is_torchs_network_forward_and_backward(family: str, length: int, layers: int) -> None:
    model = make(family, n_layers=layers, tie_embeddings=False)
    theirs, ids = reference(model), draw_ids(3, length)
    x = model.embedding.weight.detach()[ids].requires_grad_()
    wanted, state = theirs(x)
    hidden, carried = model.hidden_with_state(ids)
    torch.testing.assert_close(hidden, wanted, rtol=1e-5, atol=1e-6)
    for ours, other in zip(carried, state if family == "lstm" else (state,), strict=True):
        torch.testing.assert_close(ours.transpose(0, 1), other, rtol=1e-5, atol=1e-6)
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    (hidden * weight).sum().backward()
    (wanted * weight).sum().backward()
    for number, layer in enumerate(model.layers):
        for name, value in layer.named_parameters():
            torch.testing.assert_close(
                value.grad, getattr(theirs, f"{name}_l{number}").grad, rtol=1e-4, atol=1e-5
            )
    table = torch.zeros_like(model.embedding.weight).index_add(0, ids.flatten(), x.grad.flatten(0, 1))
    torch.testing.assert_close(model.embedding.weight.grad, table, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_in_double_precision(family: str) -> None:
    """Finite differences, over documents' borders too."""
    model = make(family, d_model=3, n_layers=2, vocab_size=5, d_embedding=2).double()
    ids, segments = draw_ids(2, 5, vocabulary=5), torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, 2]])
    names, values = zip(*model.named_parameters(), strict=True)
    weight = torch.randn(2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, parameters, strict=True))
        logits = torch.func.functional_call(model, given, (ids,), {"segments": segments})
        return (logits * weight).sum()

    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6)


@given(
    family=st.sampled_from(FAMILIES),
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_documents_packed_in_a_row_know_nothing_of_each_other(
    family: str, lengths: list[list[int]], seed: int
) -> None:
    longest = max(sum(row) for row in lengths)
    numbers = [
        [n for n, size in enumerate(row) for _ in range(size)] + [len(row)] * (longest - sum(row))
        for row in lengths
    ]
    segments, ids, model = torch.tensor(numbers), draw_ids(len(lengths), longest, seed), make(family, seed)
    packed = model.hidden(ids, segments=segments)
    for row, numbered in enumerate(segments):
        for number in numbered.unique():
            chosen = numbered == number
            alone = model.hidden(ids[row : row + 1, chosen])
            torch.testing.assert_close(packed[row : row + 1, chosen], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_carried_state_goes_on_where_it_stopped(family: str) -> None:
    model, ids = make(family), draw_ids(3, 20)
    whole = model.hidden(ids)
    first, state = model.hidden_with_state(ids[:, :11])
    second, _ = model.hidden_with_state(ids[:, 11:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-5, atol=1e-6)
    fresh = model.reset(state, torch.tensor([False, True, False]))
    torch.testing.assert_close(
        model.hidden_with_state(ids[1:2, 11:])[0], model.hidden_with_state(ids[:, 11:], fresh)[0][1:2]
    )
    state = None
    for t in range(5):
        logits, state = model.step(ids[:, t], state)
    torch.testing.assert_close(logits, model(ids[:, :5])[:, -1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("family", "expected"), [("lstm", 526_420), ("rnn", 155_860)])
def test_counts_to_the_digit(family: str, expected: int) -> None:
    """The sizes of the reference's calibration: one layer of 320 units, embedding 64, 84 symbols."""
    config = RecurrentConfig(
        family=family,
        vocab_size=84,
        d_model=320,
        d_embedding=64,
        tie_embeddings=False,  # type: ignore[arg-type]
    )
    with torch.device("meta"):
        model = Recurrent(config)
    assert sum(p.numel() for p in model.parameters()) == sum(model.parameter_counts().values()) == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("width", [0, 5, 13])
@pytest.mark.parametrize("two_biases", [False, True])
def test_counts_by_part(family: str, tied: bool, width: int, two_biases: bool) -> None:
    model = make(family, tie_embeddings=tied, d_embedding=width, two_biases=two_biases)
    assert sum(model.parameter_counts().values()) == sum(p.numel() for p in model.parameters())
    assert model.hidden(draw_ids(1, 2)).shape[-1] == model.width
    assert model(draw_ids(2, 3)).shape == (2, 3, 31)


def test_layers_have_four_times_as_many_weights_as_the_formula_says() -> None:
    counts = make("lstm", n_layers=1, two_biases=False).parameter_counts()
    assert counts["recurrent"] == 4 * 13 * (7 + 13) + 4 * 13
    assert make("lstm", n_layers=1).parameter_counts()["recurrent"] == counts["recurrent"] + 4 * 13


def test_fresh_weights_are_the_same_for_the_same_seed_and_the_forget_gate_starts_open() -> None:
    first, again, other = make("lstm", 3), make("lstm", 3), make("lstm", 4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    bias = first.layers[1].bias_ih.detach().view(4, 13)
    assert torch.equal(bias[1], torch.ones(13)) and not bias[[0, 2, 3]].any()


def test_dropout_touches_no_recurrent_connection() -> None:
    """With everything dropped between layers, the state of the first still moves as without."""
    model, still = make("lstm", dropout=0.9), make("lstm")
    torch.manual_seed(0)
    model.train()
    ids = draw_ids(2, 6)
    assert not torch.equal(model.hidden(ids), model.hidden(ids)), "a new draw every time"
    model.embedding.weight.data.zero_()
    still.embedding.weight.data.zero_()
    dropped, plain = model.hidden_with_state(ids)[1], still.hidden_with_state(ids)[1]
    assert torch.equal(dropped[0][:, 0], plain[0][:, 0]), "nothing of the first layer's own state was dropped"
    model.eval()
    assert torch.equal(model.hidden(ids), model.hidden(ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_any_length_are_scored(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "TOKENS_PER_BATCH", 60)
    monkeypatch.setattr(scoring, "CARRIED_ROWS", 3)
    model = make(family)
    texts = [draw_ids(1, n, n)[0].tolist() for n in (5, 211, 1, 64, 0, 90, 33, 2)]
    for text, found in zip(texts, model.token_logprobs(texts), strict=True):
        assert len(found) == max(0, len(text) - 1)
        if len(found):
            ids = torch.tensor([text])
            wanted = torch.log_softmax(model(ids[:, :-1]).double(), -1).gather(2, ids[:, 1:, None])
            np.testing.assert_allclose(found, wanted[0, :, 0].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "two_biases": False}, {"d_embedding": 0}])
def test_folders_hold_it(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = make(family, **changes)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    ids = draw_ids(2, 9)
    assert torch.equal(loaded(ids), model(ids))
    text = ids[0].tolist()
    np.testing.assert_array_equal(
        load_language_model(tmp_path).token_logprobs([text])[0], model.token_logprobs([text])[0]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_stays_near(family: str) -> None:
    model, ids = make(family), draw_ids(2, 30)
    wanted = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(ids)
    torch.testing.assert_close(found.float(), wanted, atol=0.02, rtol=0.05)
    torch.testing.assert_close(make(family).to(torch.bfloat16)(ids).float(), wanted, atol=0.02, rtol=0.05)
