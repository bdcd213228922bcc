"""Encoder-decoders against transformers' Marian, BART and T5 and against torch's own Transformer, on random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arriero.errors import ArrieroError
from arriero.inference.beam import BeamSettings, beam_generate
from arriero.models.checkpoint import load_model, save_model
from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

OLD = int(transformers.__version__.split(".")[0]) < 5
VOCABULARY = 61
COMMON = {
    "vocab_size": VOCABULARY, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 37, "max_position_embeddings": 33,
    "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "bos_token_id": 0,
    "forced_eos_token_id": None,
    # transformers 4 makes its decoder's cache as deep as the encoder
    "use_cache": not OLD,
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": 30, "d_kv": 7, "d_ff": 44, "num_layers": 3, "num_decoder_layers": 2,
    "num_heads": 3, "relative_attention_num_buckets": 10, "relative_attention_max_distance": 9,
    "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "marian": ("Marian", {**COMMON, "d_model": 28, "scale_embedding": True, "activation_function": "swish"}),
    "marian, one head, unscaled": (
        "Marian",
        {**COMMON, "d_model": 14, "encoder_attention_heads": 1, "decoder_attention_heads": 7,
         "activation_function": "relu"},
    ),
    "marian, a table and a vocabulary for each side": (
        "Marian",
        {**COMMON, "d_model": 28, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 67},
    ),
    "marian, untied": ("Marian", {**COMMON, "d_model": 28, "tie_word_embeddings": False}),
    "bart, untied": ("Bart", {**COMMON, "d_model": 28, "tie_word_embeddings": False}),
    "bart": ("Bart", {**COMMON, "d_model": 28}),
    "bart, scaled": ("Bart", {**COMMON, "d_model": 36, "scale_embedding": True, "decoder_layers": 1}),
    "t5 1.0": ("T5", T5),
    "t5 1.1": ("T5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5 1.1, as transformers makes it": (
        "T5",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "t5, gated silu, tied, symmetric": (
        "T5", {**T5, "feed_forward_proj": "gated-silu", "num_decoder_layers": None, "d_kv": 16},
    ),
    "t5, buckets and eps": (
        "T5", {**T5, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
               "layer_norm_epsilon": 1e-3, "feed_forward_proj": "gelu"},
    ),
}  # fmt: skip
HEADS = {
    "Marian": "MarianMTModel",
    "Bart": "BartForConditionalGeneration",
    "T5": "T5ForConditionalGeneration",
}


@torch.no_grad()
def theirs_of(case: str, seed: int = 0) -> Any:
    """Every weight drawn anew, so that no bias is 0 and no norm is 1."""
    name, values = CASES[case]
    model = getattr(transformers, HEADS[name])(getattr(transformers, f"{name}Config")(**values)).eval()
    torch.manual_seed(seed)
    for key, parameter in model.named_parameters():
        if "norm" in key and key.endswith("weight"):
            parameter.uniform_(0.5, 1.5)
        elif not (name == "Marian" and "embed_positions" in key):
            parameter.normal_(0, 0.2)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    return model


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Seq2Seq]:
    if OLD and "vocabulary for each side" in request.param:
        pytest.skip("transformers 4 gives both sides the source's table, whatever decoder_vocab_size says")
    theirs = theirs_of(request.param)
    if (
        request.param == "t5 1.1"
    ):  # transformers 5 ties the head of a fresh model whatever its configuration says
        with torch.no_grad():
            theirs.lm_head.weight = nn.Parameter(torch.randn(VOCABULARY, T5["d_model"]))
    theirs.save_pretrained(tmp_path)
    return theirs, load_model(tmp_path)


def batch(source_length: int = 11, target_length: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sources padded on the right and on the left, their mask, targets."""
    draw = torch.Generator().manual_seed(3)
    source = torch.randint(3, VOCABULARY, (3, source_length), generator=draw)
    target = torch.randint(3, VOCABULARY, (3, target_length), generator=draw)
    mask = torch.ones(3, source_length, dtype=torch.int64)
    mask[1, source_length // 2 :] = 0
    mask[2, : source_length // 3] = 0
    return source, mask, target


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.no_grad()
def assert_same(ours: Seq2Seq, theirs: Any, *lengths: int) -> None:
    source, mask, target = batch(*lengths)
    found = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target, output_hidden_states=True)
    memory = ours.encode(source, mask)
    hidden = ours.hidden(target, memory, mask)
    assert_close(memory[mask.bool()], found.encoder_last_hidden_state[mask.bool()])
    assert_close(hidden, found.decoder_hidden_states[-1])
    assert_close(ours.logits(hidden), found.logits)
    assert_close(ours(source, target, mask), found.logits)


def test_transformers_models_load_here(pair: tuple[Any, Seq2Seq]) -> None:
    theirs, ours = pair
    for lengths in ((11, 7), (2, 1), (5, 29)):
        assert_same(ours, theirs, *lengths)
    assert sum(ours.parameter_counts().values()) == sum(
        p.numel()
        for name, p in theirs.named_parameters()
        if p.requires_grad and (ours.config.share_embeddings or "shared" not in name)  # theirs is unused then
    )


def test_masks_on_the_target(pair: tuple[Any, Seq2Seq]) -> None:
    theirs, ours = pair
    source, mask, target = batch()
    written = torch.ones_like(target)
    written[0, :3], written[1, 5:] = 0, 0
    with torch.no_grad():
        found = theirs(
            input_ids=source, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=written
        )
        seen = written.bool()
        assert_close(ours(source, target, mask, written)[seen], found.logits[seen])


def test_loss_gradients_and_log_probabilities(pair: tuple[Any, Seq2Seq]) -> None:
    theirs, ours = pair
    source, _, labels = batch()
    loss = theirs(input_ids=source, labels=labels).loss
    loss.backward()
    target = torch.cat([torch.full((3, 1), ours.config.start_id), labels[:, :-1]], dim=1)
    mine = nn.functional.cross_entropy(ours(source, target).flatten(0, 1), labels.flatten())
    mine.backward()
    assert mine.item() == pytest.approx(loss.item(), rel=1e-5)
    rows = torch.arange(VOCABULARY) != ours.config.pad_id  # whose gradient theirs leaves out
    shared = theirs.get_encoder().embed_tokens.weight.grad[rows]
    assert (ours.embedding.weight.grad[rows] - shared).abs().max() <= 1e-4 * shared.abs().max()
    scored = ours.target_logprobs(source.tolist(), labels.tolist())
    assert -sum(float(values.sum()) for values in scored) / labels.numel() == pytest.approx(
        loss.item(), rel=1e-5
    )


def test_folders_written_here_load_there(pair: tuple[Any, Seq2Seq], tmp_path: Path) -> None:
    theirs, ours = pair
    if ours.config.share_embeddings and not ours.config.tie_embeddings:
        pytest.skip(
            "a head of its own beside one table: only transformers 4 has that, and it is read, never written"
        )
    save_model(ours, tmp_path / "out", bos_token_id=0, eos_token_id=2, pad_token_id=1)
    back, problems = type(theirs).from_pretrained(
        tmp_path / "out", output_loading_info=True, use_cache=not OLD
    )
    assert not problems["unexpected_keys"]
    assert_same(ours, back.eval())
    assert_same(load_model(tmp_path / "out"), theirs)
    for key in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(back.config, key) == getattr(theirs.config, key)
        assert getattr(back.generation_config, key) == getattr(theirs.config, key)
    source, _, _ = batch()  # what it starts and ends with stands in the folder
    written = back.generate(
        input_ids=source, do_sample=False, num_beams=3, max_new_tokens=9, use_cache=not OLD
    )
    for row, one in zip(
        written.tolist(), beam_generate(ours, source.tolist(), BeamSettings(3, max_tokens=9)), strict=True
    ):
        assert list(one[0].ids) == row[1 : 1 + len(one[0].ids)]


def test_beam_search_is_transformers_generate(pair: tuple[Any, Seq2Seq]) -> None:
    theirs, ours = pair
    source, mask, _ = batch(9)
    mask[2] = 1
    sources = [row[m.bool()].tolist() for row, m in zip(source, mask, strict=True)]
    for beams, penalty, early in (
        (2, 1.0, False),
        (3, 0.4, True),
        (4, 2.0, "never"),
        (3, -1.0, False),
        (5, 0.0, True),
    ):
        found = theirs.generate(
            input_ids=source, attention_mask=mask, num_beams=beams, length_penalty=penalty, early_stopping=early,
            do_sample=False, max_new_tokens=14, num_return_sequences=beams, return_dict_in_generate=True,
            output_scores=True, forced_eos_token_id=None,
        )  # fmt: skip
        hypotheses = beam_generate(ours, sources, BeamSettings(beams, penalty, early, 14))  # type: ignore[arg-type]
        flat = [hypothesis for one in hypotheses for hypothesis in one]
        assert [h.score for h in flat] == pytest.approx(found.sequences_scores.tolist(), rel=1e-4)
        for hypothesis, row in zip(flat, found.sequences.tolist(), strict=True):
            assert list(hypothesis.ids) == row[1 : 1 + len(hypothesis.ids)]
    greedy = theirs.generate(
        input_ids=source, attention_mask=mask, num_beams=1, do_sample=False, max_new_tokens=14,
        forced_eos_token_id=None,
    )  # fmt: skip
    for row, one in zip(
        greedy.tolist(), beam_generate(ours, sources, BeamSettings(1, max_tokens=14)), strict=True
    ):
        assert list(one[0].ids) == row[1 : 1 + len(one[0].ids)]


def test_models_without_their_head_and_sharded_ones(tmp_path: Path) -> None:
    for case in ("marian", "bart", "t5 1.0"):
        theirs = theirs_of(case)
        body = theirs if case.startswith("t5") else theirs.model
        body.save_pretrained(tmp_path / case, max_shard_size="20KB")
        assert len(list((tmp_path / case).glob("*.safetensors"))) > 2
        ours = load_model(tmp_path / case)
        source, mask, target = batch()
        with torch.no_grad():
            expected = theirs(
                input_ids=source, attention_mask=mask, decoder_input_ids=target, output_hidden_states=True
            )
            hidden = ours.hidden(target, ours.encode(source, mask), mask)
            assert_close(hidden, expected.decoder_hidden_states[-1])


def test_what_a_folder_cannot_say_is_refused(tmp_path: Path) -> None:
    theirs_of("marian").save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    model = load_model(tmp_path)
    model.config = model.config.model_copy(update={"tie_embeddings": False})
    with pytest.raises(ArrieroError, match="set share_embeddings to false"):
        save_model(model, tmp_path / "untied")
    (tmp_path / "config.json").write_text(json.dumps({**values, "activation_function": "mish"}))
    with pytest.raises(ArrieroError, match="mish"):
        load_model(tmp_path)


def test_the_papers_positions_go_to_transformers_as_tables(tmp_path: Path) -> None:
    config = Seq2SeqConfig(
        vocab_size=VOCABULARY, d_model=24, encoder_layers=2, encoder_heads=3, encoder_d_ff=50, context_length=31,
        head_bias=True, pad_id=1, eos_id=2, start_id=1,
    )  # fmt: skip
    ours = Seq2Seq(config).eval()
    ours.init_weights(0)
    save_model(ours, tmp_path)
    assert_same(ours, transformers.MarianMTModel.from_pretrained(tmp_path).eval())
    back = load_model(tmp_path)
    assert back.config == config
    source, mask, target = batch()
    with torch.no_grad():
        assert torch.equal(back(source, target, mask), ours(source, target, mask))


@torch.no_grad()
def test_torchs_own_transformer() -> None:
    """Weights copied into ``torch.nn.Transformer``, which knows neither embedding nor head."""
    config = Seq2SeqConfig(
        vocab_size=37, d_model=24, encoder_layers=2, decoder_layers=3, encoder_heads=4, encoder_d_ff=50,
    )  # fmt: skip
    ours = Seq2Seq(config).eval()
    ours.init_weights(5)
    draw = torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    theirs = nn.Transformer(24, 4, 2, 3, 50, 0.0, "relu", batch_first=True, norm_first=False).eval()
    theirs.encoder.norm, theirs.decoder.norm = None, None
    names = {"attention": "self_attn", "cross_attention": "multihead_attn"}
    for ours_side, theirs_side in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        for block, layer in zip(ours_side.blocks, theirs_side.layers, strict=True):
            norms = [block.attention_norm]
            for mine, other in names.items():
                if hasattr(block, mine):
                    _copy_attention(getattr(block, mine), getattr(layer, other))
            if hasattr(block, "cross_attention"):
                norms.append(block.cross_attention_norm)
            norms.append(block.feed_forward_norm)
            layer.linear1.load_state_dict(block.feed_forward.up_proj.state_dict())
            layer.linear2.load_state_dict(block.feed_forward.down_proj.state_dict())
            for number, norm in enumerate(norms, 1):
                getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
    source = torch.randint(0, 37, (3, 13), generator=draw)
    target = torch.randint(0, 37, (3, 9), generator=draw)
    mask = torch.ones(3, 13, dtype=torch.bool)
    mask[0, 8:] = False
    vectors = [_positioned(ours, ids) for ids in (source, target)]
    expected = theirs(
        *vectors, tgt_mask=nn.Transformer.generate_square_subsequent_mask(9), src_key_padding_mask=~mask,
        memory_key_padding_mask=~mask,
    )  # fmt: skip
    assert_close(ours.hidden(target, ours.encode(source, mask), mask), expected)


def _positioned(model: Seq2Seq, ids: torch.Tensor) -> torch.Tensor:
    """Embedding times sqrt(d) and the paper's positions, written out (section 3.5)."""
    width = model.config.d_model
    place = torch.zeros(ids.shape[1], width)
    for position in range(ids.shape[1]):
        for pair in range(width // 2):
            angle = torch.tensor(position / 10000 ** (2 * pair / width))
            place[position, 2 * pair], place[position, 2 * pair + 1] = angle.sin(), angle.cos()
    return model.embedding.weight[ids] * width**0.5 + place


def _copy_attention(ours: Any, theirs: nn.MultiheadAttention) -> None:
    parts = (ours.q_proj, ours.k_proj, ours.v_proj)
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.o_proj.state_dict())
