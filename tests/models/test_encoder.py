"""The encoder on its own: shapes, counts, masks, seeds and error messages. Equality with others is tests/parity's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model, load_model, save_model
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.models.encoder_task import with_task
from arriero.models.preset import get_preset, presets

ENCODERS = [name for name, preset in presets().items() if isinstance(preset.config, EncoderConfig)]


def make_encoder(seed: int = 0, **changes: Any) -> Encoder:
    values = {
        "vocab_size": 53,
        "d_model": 24,
        "n_layers": 2,
        "n_heads": 3,
        "d_ff": 32,
        "context_length": 40,
        "init_std": 0.2,
    }
    model = Encoder(EncoderConfig.parse({**values, **changes}, "test")).eval()
    model.init_weights(seed)
    return model


def random_ids(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(5, 53, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ENCODERS)
def test_published_counts(name: str) -> None:
    preset = get_preset(name)
    with torch.device("meta"):
        model = build_model(preset.config)
    counts = model.parameter_counts()
    assert sum(counts.values()) == preset.parameters == sum(p.numel() for p in model.parameters())
    assert "other" not in counts


@pytest.mark.parametrize(
    ("name", "task", "parameters"),
    [
        ("bert-base", "pretraining", 110_106_428),
        ("bert-base", "masked_lm", 109_514_298),
        ("bert-large", "pretraining", 336_226_108),
        ("roberta-base", "masked_lm", 124_697_433),
        ("roberta-large", "masked_lm", 355_412_057),
        ("lawformer", "masked_lm", 126_304_904),
    ],
)
def test_published_counts_with_heads(name: str, task: str, parameters: int) -> None:
    config = get_preset(name).config.model_copy(update={"task": task})
    with torch.device("meta"):
        assert sum(build_model(config).parameter_counts().values()) == parameters


@pytest.mark.parametrize("name", ["bert-base", "albert-base", "deberta-base", "deberta-v3-base", "lawformer"])
def test_plans_need_no_values(name: str) -> None:
    config = get_preset(name).config.model_copy(update={"task": "sequence_classification", "n_labels": 5})
    with FakeTensorMode():
        model = build_model(config)
        ids = torch.zeros(2, 70, dtype=torch.int64)
        assert model(ids).shape == (2, 5)
        logits = model(ids, attention_mask=torch.ones(2, 70))
        model.loss(logits, torch.zeros(2, dtype=torch.int64)).backward()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "skip_padding", "pad_id": 1},
        {"embedding_size": 10, "embedding_projection": "after_norm", "n_groups": 1},
        {"attention": "disentangled", "relative_attention": True, "position_terms": ["c2p", "p2c"], "positions": "none",
         "mask_embeddings": True, "conv_kernel": 3, "relative_buckets": 4},
        {"attention": "window", "windows": [4, 8]},
    ],
)  # fmt: skip
def test_padding_changes_nothing(changes: dict[str, Any]) -> None:
    model = make_encoder(**changes)
    pad = model.config.pad_id or 0
    ids = random_ids(1, 11)
    padded = torch.cat([ids, torch.full((1, 6), pad)], dim=1)
    mask = torch.cat([torch.ones(1, 11), torch.zeros(1, 6)], dim=1)
    with torch.no_grad():
        alone, together = model.hidden(ids), model.hidden(padded, attention_mask=mask)
    torch.testing.assert_close(together[:, :11], alone, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(together).all()


def test_nothing_padded_takes_no_mask() -> None:
    model, ids = make_encoder(), random_ids(2, 9)
    with torch.no_grad():
        assert torch.equal(model.hidden(ids), model.hidden(ids, attention_mask=torch.ones(2, 9)))


def test_a_row_of_padding_is_no_nan() -> None:
    mask = torch.ones(2, 6)
    mask[1] = 0
    for changes in ({}, {"attention": "disentangled"}, {"attention": "window", "windows": [4, 4]}):
        with torch.no_grad():
            hidden = make_encoder(**changes).hidden(random_ids(2, 6), attention_mask=mask)
        assert torch.isfinite(hidden).all()


def test_roberta_positions_count_tokens_not_places() -> None:
    model = make_encoder(positions="skip_padding", pad_id=1)
    ids = random_ids(1, 5)
    left = torch.cat([torch.full((1, 3), 1), ids], dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        torch.testing.assert_close(model.hidden(left, attention_mask=mask)[:, 3:], model.hidden(ids))


def test_shared_layers_sum_their_gradients() -> None:
    """The gradient of a shared block is the sum over layers of those that unshared copies of it would have."""
    shared = make_encoder(n_groups=1, n_layers=3)
    apart = make_encoder(n_layers=3)
    state = shared.state_dict()
    with torch.no_grad():
        for name, parameter in apart.named_parameters():
            source = name
            if name.startswith("blocks."):
                source = "blocks.0.0." + name.split(".", 2)[2]
            parameter.copy_(state[source])
    ids, weights = random_ids(2, 8), torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(3))
    for model in (shared, apart):
        (model.hidden(ids) * weights).sum().backward()
    grads = dict(apart.named_parameters())
    for name, parameter in shared.named_parameters():
        if name.startswith("blocks."):
            rest = name.split(".", 3)[3]
            total = sum(grads[f"blocks.{layer}.{rest}"].grad for layer in range(3))
            # the bias of keys has no gradient: a constant on all scores of a query
            torch.testing.assert_close(parameter.grad, total, rtol=1e-4, atol=1e-4 * float(weights.norm()))


def test_same_seed_same_bits() -> None:
    one, other = make_encoder(4, task="pretraining"), make_encoder(4, task="pretraining")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one.embedding.word.weight, make_encoder(5).embedding.word.weight)


def test_untied_dead_bias_is_zero() -> None:
    model = make_encoder(task="masked_lm", tie_embeddings=False)
    assert not model.head.bias.any()
    assert model.head.decoder.weight.shape == (53, 24)


def test_word_logits_at_chosen_places() -> None:
    model, ids = make_encoder(task="masked_lm"), random_ids(2, 7)
    places = torch.tensor([[True, False, True, False, False, False, True]]).repeat(2, 1)
    with torch.no_grad():
        hidden = model.hidden(ids)
        torch.testing.assert_close(model.word_logits(hidden[places]), model(ids)[places])


def test_with_task_keeps_the_body(tmp_path: Any) -> None:
    model = make_encoder(task="masked_lm", family="bert")
    classifier = with_task(model, "sequence_classification", seed=3, n_labels=3, label_names=["a", "b", "c"])
    ids = random_ids(2, 6)
    with torch.no_grad():
        assert torch.equal(model.hidden(ids), classifier.hidden(ids))
        assert classifier(ids).shape == (2, 3)
    assert classifier.pooler is not None and torch.isfinite(classifier.pooler.dense.weight).all()
    save_model(classifier, tmp_path)
    again = load_model(tmp_path)
    assert again.config.label_names == ("a", "b", "c")
    with torch.no_grad():
        assert torch.equal(again(ids), classifier(ids))


def test_dropout_in_training_alone() -> None:
    model, ids = make_encoder(dropout=0.5, task="sequence_classification"), random_ids(2, 6)
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids))
        model.train()
        assert not torch.equal(model(ids), model(ids))


def test_bfloat16_autocast() -> None:
    for changes in ({}, {"attention": "disentangled", "relative_attention": True, "position_terms": ["c2p"]},
                    {"attention": "window", "windows": [4, 4]}):  # fmt: skip
        model, ids = make_encoder(**changes), random_ids(2, 9)
        mask = torch.ones(2, 9)
        mask[1, 5:] = 0
        with torch.no_grad():
            exact = model.hidden(ids, attention_mask=mask)
            with torch.autocast("cpu", torch.bfloat16):
                rough = model.hidden(ids, attention_mask=mask)
        assert (rough.float() - exact).abs().mean() < 0.03 * exact.abs().mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 25}, "d_model 25 is not a multiple of n_heads 3"),
        ({"windows": [4, 4]}, "windows go with attention 'window'"),
        ({"attention": "window", "windows": [4, 5]}, "should be even"),
        ({"attention": "window", "windows": [4]}, "1 windows for 2 layers"),
        ({"relative_attention": True}, "relative_attention goes with attention 'disentangled'"),
        ({"embedding_size": 8}, "needs a projection"),
        ({"n_groups": 3}, "n_groups 3 is more than n_layers 2"),
        ({"label_names": ["a"], "n_labels": 3}, "1 label_names for n_labels 3"),
        ({"task": "question_answering", "n_labels": 3}, "question answering has 2 outputs"),
        ({"conv_kernel": 2}, "conv_kernel 2 is even"),
        ({"positions": "skip_padding", "pad_id": None}, "need pad_id"),
        ({"tasc": "none"}, "unknown key"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArrieroError, match=message):
        make_encoder(**changes)


def test_bad_inputs() -> None:
    model = make_encoder()
    with pytest.raises(ArrieroError, match="41 tokens are more than the 40"):
        model.hidden(random_ids(1, 41))
    with pytest.raises(ArrieroError, match="position 40 is beyond"):
        model.hidden(random_ids(1, 3), positions=torch.tensor([[0, 1, 40]]))
    with pytest.raises(ArrieroError, match="global_attention is Longformer's"):
        model.hidden(random_ids(1, 3), global_attention=torch.ones(1, 3))
    with pytest.raises(ArrieroError, match="has no loss"):
        model.loss(torch.zeros(1), torch.zeros(1))
    with pytest.raises(ArrieroError, match="no masked LM head"):
        model.word_logits(torch.zeros(2, 24))
    answers = make_encoder(task="question_answering", attention="window", windows=[4, 4], sep_id=2)
    with pytest.raises(ArrieroError, match="three separators"):
        answers(random_ids(1, 9))


def test_loss_of_no_token_is_zero() -> None:
    model, ids = make_encoder(task="masked_lm"), random_ids(2, 5)
    loss = model.loss(model(ids), torch.full((2, 5), -100))
    assert loss.item() == 0.0
    loss.backward()
    assert np.isfinite(model.embedding.word.weight.grad.numpy()).all()
