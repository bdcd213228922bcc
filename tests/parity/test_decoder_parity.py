"""Every decoder family against transformers: hidden states, logits and loss, both directions, odd sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.models.checkpoint import load_model, save_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity


@dataclass(frozen=True)
class Case:
    """A small model of transformers' and how long the test's sequences are."""

    kind: str
    settings: dict[str, Any]
    length: int = 23
    model: str = "ForCausalLM"
    ids_start: int = 0
    changes: dict[str, Any] = field(default_factory=dict)


LLAMA = {
    "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 72, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"vocab_size": 89, "n_embd": 30, "n_layer": 3, "n_head": 5, "n_positions": 40}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


OLD = int(transformers.__version__.split(".")[0]) < 5


def rope(kind: str, **values: Any) -> dict[str, Any]:
    """The keys by which the installed version is told of rotary positions."""
    said = {"rope_type": kind, "rope_theta": 10000.0, **values}
    if not OLD:
        return {"rope_parameters": said}
    share = said.pop("partial_rotary_factor", None)
    theta = said.pop("rope_theta")
    keys = {
        "rope_theta": theta,
        "rotary_emb_base": theta,
        "rope_scaling": None if kind == "default" else said,
    }
    return keys if share is None else {**keys, "rotary_pct": share}


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
CASES = {
    "gpt1": Case("OpenAIGPT", {**GPT2, **NO_DROPOUT}, model="LMHeadModel"),
    "gpt2": Case("GPT2", {**GPT2, **NO_DROPOUT}, model="LMHeadModel"),
    "gpt2, wide, relu": Case(
        "GPT2", {**GPT2, **NO_DROPOUT, "n_inner": 77, "activation_function": "relu"}, model="LMHeadModel"
    ),
    "gpt2, untied": Case("GPT2", {**GPT2, **NO_DROPOUT, "tie_word_embeddings": False}, model="LMHeadModel"),
    "gpt2, body": Case("GPT2", {**GPT2, **NO_DROPOUT}, model="Model"),
    "llama": Case("Llama", LLAMA),
    "llama, tied, head_dim, biases": Case(
        "Llama",
        {**LLAMA, "tie_word_embeddings": True, "head_dim": 10, "attention_bias": True, "mlp_bias": True},
    ),
    "llama, code llama's base": Case("Llama", {**LLAMA, **rope("default", rope_theta=1e6)}),
    "llama, linear": Case("Llama", {**LLAMA, **rope("linear", factor=2.5)}, length=100),
    "llama, dynamic, short": Case("Llama", {**LLAMA, **rope("dynamic", factor=2.0)}, length=64),
    "llama, dynamic, long": Case("Llama", {**LLAMA, **rope("dynamic", factor=2.0)}, length=101),
    "llama, yarn": Case("Llama", {**LLAMA, **rope("yarn", **YARN)}, length=120),
    "llama, yarn, own factor": Case(
        "Llama", {**LLAMA, **rope("yarn", **YARN, attention_factor=0.9, beta_fast=8.0, truncate=False)}
    ),
    "llama 3.1": Case("Llama", {**LLAMA, **rope("llama3", **LLAMA3)}, length=64),
    "llama, body": Case("Llama", LLAMA, model="Model"),
    "mistral, window": Case("Mistral", {**LLAMA, "sliding_window": 7}, length=40),
    "mistral, no window": Case("Mistral", {**LLAMA, "sliding_window": None}),
    "qwen2": Case("Qwen2", LLAMA),
    "qwen2, tied": Case("Qwen2", {**LLAMA, "tie_word_embeddings": True, "num_attention_heads": 6}),
    "neox": Case("GPTNeoX", {**LLAMA, "hidden_size": 64, "rotary_pct": 0.25}),
    "neox, whole heads, in turn": Case(
        "GPTNeoX",
        {
            **LLAMA,
            "use_parallel_residual": False,
            "tie_word_embeddings": True,
            "hidden_act": "relu",
            **rope("default", rope_theta=500.0, partial_rotary_factor=1.0),
        },
    ),
    "opt": Case("OPT", {**LLAMA, "ffn_dim": 70, "dropout": 0.0, "word_embed_proj_dim": 48}),
    "opt, norms after": Case(
        "OPT",
        {**LLAMA, "ffn_dim": 70, "dropout": 0.0, "do_layer_norm_before": False, "word_embed_proj_dim": 48},
    ),
    "bloom": Case("Bloom", {"vocab_size": 71, "hidden_size": 48, "n_layer": 2, "n_head": 6}),
    "bloom, 8 heads": Case("Bloom", {"vocab_size": 71, "hidden_size": 64, "n_layer": 2, "n_head": 8}),
    "falcon 7b": Case("Falcon", {**LLAMA, "num_attention_heads": 6, "num_kv_heads": None}),
    "falcon 40b": Case(
        "Falcon", {**LLAMA, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}
    ),
    "falcon, in turn": Case("Falcon", {**LLAMA, "parallel_attn": False, "multi_query": False}),
    "mpt": Case("Mpt", {"vocab_size": 71, "d_model": 48, "n_layers": 2, "n_heads": 6, "max_seq_len": 64}),
    "starcoder": Case("GPTBigCode", {**GPT2, **NO_DROPOUT}),
    "starcoder, every head": Case("GPTBigCode", {**GPT2, **NO_DROPOUT, "multi_query": False}),
}


def make(case: Case, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config_class = getattr(transformers, f"{case.kind}Config")
    config = config_class(**case.settings, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    model = getattr(transformers, f"{case.kind}{case.model}")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5) if "bias" not in name else parameter.uniform_(-0.3, 0.3)
            else:
                parameter.normal_(0.0, 0.15)
    return model


def ids_of(theirs: Any, rows: int, length: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, theirs.config.vocab_size, (rows, length), generator=generator)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@torch.no_grad()
def test_their_folder_gives_their_numbers(case: Case, tmp_path: Path) -> None:
    theirs = make(case)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    for rows, length in ((3, case.length), (1, 5)):
        ids = ids_of(theirs, rows, length)
        told = theirs(ids, output_hidden_states=True)
        assert_close(ours.hidden(ids), told.hidden_states[-1])
        if case.model != "Model":
            assert_close(ours(ids), told.logits)
            loss = F.cross_entropy(ours(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            assert_close(loss, theirs(ids, labels=ids).loss)
    assert sum(ours.parameter_counts().values()) == sum(p.numel() for p in theirs.parameters())


@torch.no_grad()
def test_our_folder_loads_there_whole(case: Case, tmp_path: Path) -> None:
    if case.model == "Model":
        pytest.skip("a body alone is read, never written")
    theirs = make(case)
    theirs.save_pretrained(tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours", shard_bytes=20_000)
    assert len(list((tmp_path / "ours").glob("model-*.safetensors"))) > 1
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    ids = ids_of(theirs, 2, case.length)
    assert_close(again.eval()(ids).logits, theirs(ids).logits)
    assert load_model(tmp_path / "ours").config == load_model(tmp_path / "theirs").config


@pytest.mark.parametrize(
    "name", ["llama", "mistral, window", "gpt2", "bloom", "opt", "neox", "mpt", "falcon 40b"]
)
@pytest.mark.parametrize("left", [True, False])
@torch.no_grad()
def test_padding_on_either_side(name: str, left: bool, tmp_path: Path) -> None:
    theirs = make(CASES[name])
    theirs.save_pretrained(tmp_path)
    ours, ids = load_model(tmp_path), ids_of(theirs, 3, 12)
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 4, 9)):
        mask[row, slice(0, padding) if left else slice(12 - padding, 12)] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    placed = {} if name in ("bloom", "mpt") else {"position_ids": positions}
    told = theirs(ids, attention_mask=mask, **placed).logits
    assert_close(ours(ids, segments=mask - 1)[mask.bool()], told[mask.bool()])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_kept_to_the_bit(dtype: str, tmp_path: Path) -> None:
    theirs = make(CASES["gpt2"]).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="30KB")
    ours = load_model(tmp_path / "theirs")
    assert {p.dtype for p in ours.parameters()} == {getattr(torch, dtype)}
    save_model(ours, tmp_path / "ours", dtype)
    again = type(theirs).from_pretrained(tmp_path / "ours", dtype=dtype)
    for a, b in zip(again.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
