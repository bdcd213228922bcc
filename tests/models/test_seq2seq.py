from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import arriero.models
from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model, load_model, save_model
from arriero.models.families import get_family
from arriero.models.layers.relative_bias import RelativeBias, relative_buckets
from arriero.models.protocol import LanguageModel
from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig

BASE = {"vocab_size": 23, "d_model": 12, "encoder_layers": 2, "encoder_heads": 3, "encoder_d_ff": 20,
        "context_length": 16, "pad_id": 2, "eos_id": 0, "start_id": 1}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "transformer": {"head_bias": True},
    "bart": {"positions": "learned", "position_offset": 2, "embedding_norm": True, "decoder_heads": 2,
             "scale_embedding": False, "activation": "gelu", "init": "normal", "init_std": 0.3, "head_bias": True},
    "t5": {"positions": "relative", "norm": "rms", "arrangement": "pre", "bias": False, "scale_embedding": False,
           "scale_attention": False, "scale_head": True, "head_dim": 5, "decoder_layers": 1, "init": "t5"},
}  # fmt: skip


def make_config(family: str, **changes: Any) -> Seq2SeqConfig:
    return Seq2SeqConfig.model_validate({**BASE, "family": family, **SHAPES[family], **changes})


def make_model(family: str, seed: int = 0, **changes: Any) -> Seq2Seq:
    model = Seq2Seq(make_config(family, **changes))
    model.init_weights(seed)
    return model.eval()


def presets() -> dict[str, dict[str, Any]]:
    folder = Path(arriero.models.__file__).parent / "presets"
    files = (folder / f"{name}.yaml" for name in ("transformer", "bart", "t5"))
    return {name: values for file in files for name, values in yaml.safe_load(file.read_text()).items()}


@pytest.mark.parametrize("name", presets())
def test_published_sizes_to_the_digit(name: str) -> None:
    values = dict(presets()[name])
    expected = values.pop("parameters")
    assert values.pop("year") >= 2017
    assert values.pop("source")
    family = get_family(values["family"])
    config = Seq2SeqConfig.model_validate({**family.defaults, **family.fixed, **values})
    with torch.device("meta"):
        model = build_model(config)
    assert sum(p.numel() for p in model.parameters()) == expected
    assert sum(model.parameter_counts().values()) == expected


def test_the_base_transformer_by_part() -> None:
    """The counts written out: 8 heads of 64 with biases, 2048 wide, LayerNorms of weight and bias."""
    with torch.device("meta"):
        model = Seq2Seq(
            Seq2SeqConfig(vocab_size=37000, d_model=512, encoder_layers=6, encoder_heads=8, encoder_d_ff=2048)
        )
    attention, feed_forward = 6 * 4 * (512 * 512 + 512), 6 * (2 * 512 * 2048 + 2048 + 512)
    assert model.parameter_counts() == {
        "embedding": 37000 * 512, "encoder_attention": attention, "encoder_feed_forward": feed_forward,
        "decoder_attention": attention, "cross_attention": attention, "decoder_feed_forward": feed_forward,
        "norm": 6 * 5 * 2 * 512,
    }  # fmt: skip
    untied = make_model("t5", tie_embeddings=False)
    assert untied.parameter_counts()["head"] == 23 * 12
    assert untied.parameter_counts()["positions"] == 2 * 32 * 3


@pytest.mark.parametrize("family", SHAPES)
def test_folders_keep_every_bit(family: str, tmp_path: Path) -> None:
    model = make_model(family)
    if model.head_bias is not None:
        model.head_bias.normal_(generator=torch.Generator().manual_seed(0))
    save_model(model, tmp_path)
    back = load_model(tmp_path)
    assert back.config.model_copy(update={"init": "glorot", "init_std": 0.02}) == model.config.model_copy(
        update={"init": "glorot", "init_std": 0.02}
    )
    assert back.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in back.state_dict().items())


@pytest.mark.parametrize("family", SHAPES)
def test_fresh_weights_depend_on_the_seed_alone_and_train(family: str) -> None:
    a, b, c = make_model(family, 1), make_model(family, 1), make_model(family, 2)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.embedding.weight, c.embedding.weight)
    a(torch.tensor([[3, 4, 0]]), torch.tensor([[1, 5]])).logsumexp(-1).sum().backward()
    for name, parameter in a.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_fresh_t5_weights_have_the_published_deviations() -> None:
    model = make_model(
        "t5", d_model=64, encoder_heads=8, decoder_heads=8, head_dim=16, encoder_d_ff=512, decoder_d_ff=512
    )
    block = model.encoder.blocks[0]
    for weight, expected in (
        (block.attention.q_proj.weight, (64 * 16) ** -0.5),
        (block.attention.k_proj.weight, 64**-0.5),
        (block.attention.o_proj.weight, (8 * 16) ** -0.5),
        (block.feed_forward.up_proj.weight, 64**-0.5),
        (block.feed_forward.down_proj.weight, 512**-0.5),
        (model.embedding.weight, 1.0),
    ):
        assert weight.std().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("family", SHAPES)
def test_padding_changes_nothing(family: str) -> None:
    model = make_model(family)
    source, target = torch.tensor([[5, 6, 7, 0]]), torch.tensor([[1, 8, 9]])
    with torch.no_grad():
        alone = model(source, target)
        padded = torch.cat([source, torch.full((1, 3), 2)], dim=1)
        mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
        longer = torch.cat([target, torch.full((1, 2), 2)], dim=1)
        assert torch.allclose(model(padded, longer, mask)[:, :3], alone, atol=1e-5)
        assert not torch.allclose(model(padded, longer)[:, :3], alone, atol=1e-3)


@pytest.mark.parametrize("family", SHAPES)
def test_the_target_never_sees_what_comes(family: str) -> None:
    model = make_model(family)
    source, target = torch.tensor([[5, 6, 0]]), torch.tensor([[1, 8, 9, 10]])
    with torch.no_grad():
        whole = model(source, target)
        changed = model(source, torch.tensor([[1, 8, 9, 22]]))
        assert torch.equal(whole[:, :3], changed[:, :3])
        assert not torch.allclose(whole[:, 3], changed[:, 3], atol=1e-4)


@pytest.mark.parametrize("family", SHAPES)
def test_probabilities_of_targets_and_of_texts(family: str) -> None:
    model = make_model(family)
    draw = np.random.default_rng(0)
    sources = [[*draw.integers(3, 23, n).tolist(), 0] for n in (2, 0, 9, 5)]
    targets = [[*draw.integers(3, 23, n).tolist(), 0] for n in (6, 3, 0, 12)]
    targets[1] = []
    found = model.target_logprobs(sources, targets)
    for source, target, values in zip(sources, targets, found, strict=True):
        assert values.dtype == np.float64
        assert values.shape == (len(target),)
        total = 0.0
        for t, token in enumerate(target):
            with torch.no_grad():
                given = torch.tensor([[1, *target[:t]]])
                total += float(model(torch.tensor([source]), given)[0, -1].log_softmax(-1)[token])
        assert values.sum() == pytest.approx(total, abs=1e-4)
    assert isinstance(model, LanguageModel)
    texts = [[4, 5, 6], [7], []]
    plain = model.token_logprobs(texts)
    assert [len(values) for values in plain] == [2, 0, 0]
    assert np.allclose(plain[0], model.target_logprobs([[0]], [texts[0]])[0][1:])
    begun = model.token_logprobs([[1, 4, 5]])[0]
    assert np.allclose(begun, model.target_logprobs([[0]], [[4, 5]])[0])


def test_next_tokens_probabilities_sum_to_one() -> None:
    model = make_model("transformer")
    total = sum(
        math.exp(values[-1]) for values in model.target_logprobs([[5, 0]] * 23, [[7, i] for i in range(23)])
    )
    assert total == pytest.approx(1.0, abs=1e-5)


def test_scoring_says_what_is_wrong() -> None:
    model = make_model("transformer")
    for sources, targets, words in (
        ([[3]], [[3], [4]], "1 sources and 2 targets"),
        ([[]], [[3]], "source 0 is empty"),
        ([[3]], [[30]], "target 0 has an id outside the vocabulary of 23"),
        ([[3]], [[3] * 17], "target 0 has 17 tokens, more than the model's context of 16"),
    ):
        with pytest.raises(ArrieroError, match=words):
            model.target_logprobs(sources, targets)
    with pytest.raises(ArrieroError, match="more than the model's context of 16"):
        model.encode(torch.zeros(1, 17, dtype=torch.int64))
    assert make_model("t5").encode(torch.zeros(1, 70, dtype=torch.int64)).shape == (1, 70, 12)


def test_configurations_that_do_not_fit_are_refused() -> None:
    for changes, words in (
        ({"d_model": 13}, "d_model 13 is not a multiple of encoder_heads 3"),
        ({"decoder_heads": 5}, "not a multiple of decoder_heads 5"),
        ({"eos_id": 23}, "eos_id 23 is outside the vocabulary of 23"),
        ({"decoder_vocab_size": 30}, "decoder_vocab_size goes with share_embeddings false"),
        (
            {"positions": "relative", "relative_max_distance": 16},
            "should be more than half of relative_buckets 32",
        ),
        ({"encoder_layer": 3}, "unknown key.*did you mean 'encoder_layers'"),
    ):
        with pytest.raises(ArrieroError, match=words):
            Seq2SeqConfig.parse({**BASE, **changes}, "here")


def test_half_precision_and_autocast() -> None:
    for family in SHAPES:
        model = make_model(family)
        source, target, mask = (
            torch.tensor([[5, 6, 0, 2]]),
            torch.tensor([[1, 8, 9]]),
            torch.tensor([[1, 1, 1, 0]]),
        )
        with torch.no_grad():
            exact = model(source, target, mask).log_softmax(-1)
            with torch.autocast("cpu", torch.bfloat16):
                cast = model(source, target, mask).float().log_softmax(-1)
            half = model.bfloat16()(source, target, mask).float().log_softmax(-1)
        for found in (cast, half):
            assert (found - exact).abs().max() < 0.35
            assert (found - exact).abs().mean() < 0.08


# ---------------------------------------------------------------- T5's relative positions


def bucket_by_the_paper(distance: int, n_buckets: int, max_distance: int, both_ways: bool) -> int:
    """One distance at a time, in plain arithmetic."""
    first = 0
    if both_ways:
        n_buckets //= 2
        first = n_buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(0, -distance)
    exact = n_buckets // 2
    if distance < exact:
        return first + distance
    grown = exact + int(
        math.log(distance / exact) / math.log(max_distance / exact) * (n_buckets - exact) + 1e-6
    )
    return first + min(grown, n_buckets - 1)


@settings(max_examples=60, deadline=None)
@given(
    n_buckets=st.integers(4, 64), stretch=st.integers(2, 40), both_ways=st.booleans(),
    distances=st.lists(st.integers(-400, 400), min_size=1, max_size=40),
)  # fmt: skip
def test_buckets(n_buckets: int, stretch: int, both_ways: bool, distances: list[int]) -> None:
    max_distance = n_buckets * stretch + 1
    found = relative_buckets(torch.tensor(distances), n_buckets, max_distance, both_ways).tolist()
    for distance, bucket in zip(distances, found, strict=True):
        assert 0 <= bucket < n_buckets
        expected = bucket_by_the_paper(distance, n_buckets, max_distance, both_ways)
        assert bucket == expected or (abs(bucket - expected) == 1 and abs(distance) >= n_buckets // 4)


def test_the_last_query_stands_at_the_last_key() -> None:
    bias = RelativeBias(8, 20, 3, both_ways=False)
    torch.nn.init.normal_(bias.table.weight)
    whole = bias(9, 9)
    assert whole.shape == (1, 3, 9, 9)
    assert torch.equal(bias(1, 9), whole[:, :, -1:])
    assert torch.equal(bias(4, 9), whole[:, :, -4:])
