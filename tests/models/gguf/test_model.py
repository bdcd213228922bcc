from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.gguf.conftest import VALUES, entries_of, random_tensors

from arriero.errors import ArrieroError
from arriero.models.gguf import GgufFile, open_gguf, written_type
from arriero.models.gguf import model as model_module
from arriero.models.gguf.dequantise import decode
from arriero.models.gguf.quantise import encode

Write = Callable[..., Path]


@pytest.mark.parametrize("family", VALUES)
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_comes_back_as_it_was(family: str, kind: str, write: Write) -> None:
    tensors = random_tensors(VALUES[family])
    with open_gguf(write(VALUES[family], tensors, kind)) as model:
        assert model.names() == tensors.keys()
        for name, tensor in tensors.items():
            assert model.shape(name) == tensor.shape
            found, stored = model.read(name), model.storage(name)
            assert stored == ("F32" if tensor.dim() == 1 or "wpe" in name else kind)
            dtype = {"F16": torch.float16, "BF16": torch.bfloat16}.get(stored, torch.float32)
            assert found.dtype == model.dtype(name) == dtype and torch.equal(found, tensor.to(dtype))
        config = model.hf_config()
        for key, value in VALUES[family].items():
            assert config[key] == value, key
        assert config["dtype"] == {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[kind]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_rows(kind: str, write: Write) -> None:
    """Each value is what its own block gives, rows permuted or not; embeddings keep eight bits, odd rows sixteen."""
    values = {**VALUES["llama"], "intermediate_size": 44}
    tensors = random_tensors(values)
    with open_gguf(write(values, tensors, kind)) as model:
        for name, tensor in tensors.items():
            table = name in ("model.embed_tokens.weight", "lm_head.weight")
            wanted = (
                "F32" if tensor.dim() == 1 else "F16" if "down_proj" in name else "Q8_0" if table else kind
            )
            assert model.storage(name) == wanted, name
            blocks = decode(encode(tensor, written_type(wanted)), written_type(wanted)).view(tensor.shape)
            assert torch.equal(model.read(name), blocks), name


def test_rows_of_queries_are_interleaved_in_the_file(write: Write) -> None:
    reader = pytest.importorskip("gguf").GGUFReader
    tensors = random_tensors(VALUES["llama"])
    stored = {t.name: t.data for t in reader(write(VALUES["llama"], tensors)).tensors}
    q = tensors["model.layers.1.self_attn.q_proj.weight"]
    for head in range(4):
        for pair in range(16):
            assert (stored["blk.1.attn_q.weight"][32 * head + 2 * pair] == q[32 * head + pair].numpy()).all()
            assert (
                stored["blk.1.attn_q.weight"][32 * head + 2 * pair + 1] == q[32 * head + 16 + pair].numpy()
            ).all()
    v = tensors["model.layers.1.self_attn.v_proj.weight"]
    assert (stored["blk.1.attn_v.weight"] == v.numpy()).all()


def test_the_gguf_package_reads_what_is_written(write: Write) -> None:
    reader = pytest.importorskip("gguf").GGUFReader
    extra = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(75)],
        "tokenizer.ggml.scores": [float(-i) for i in range(75)],
        "tokenizer.ggml.token_type": [1] * 75,
        "tokenizer.ggml.add_bos_token": True,
    }
    tensors = random_tensors(VALUES["gpt2"])
    found = reader(write(VALUES["gpt2"], tensors, "F16", tokenizer=extra, name="ein Modell ✓"))
    fields = {name: field.contents() for name, field in found.fields.items()}
    assert fields["general.name"] == "ein Modell ✓" and fields["general.file_type"] == 1
    assert {key: fields[key] for key in extra} == extra
    assert [tensor.name for tensor in found.tensors][:3] == [
        "token_embd.weight",
        "position_embd.weight",
        "blk.0.attn_norm.weight",
    ]
    assert (found.tensors[1].data == tensors["transformer.wpe.weight"].numpy()).all()
    assert tuple(found.tensors[3].shape) == (32,)


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "qwen2")
    values = VALUES["qwen2"]
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(44)
    writer.add_head_count(4)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_custom_alignment(64)
    writer.add_bos_token_id(3)
    writer.add_eos_token_id(74)
    writer.add_eot_token_id(5)
    writer.add_pad_token_id(999)
    writer.add_chat_template("{{ messages }}")
    tensors = random_tensors(values)
    names = {ours: theirs for theirs, ours, _ in model_module.architecture("qwen2", "").tensor_names(1)}
    for name, tensor in tensors.items():
        writer.add_tensor(names[name], tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_gguf(tmp_path / "m.gguf") as model:
        assert all(torch.equal(model.read(name), tensor) for name, tensor in tensors.items())
        assert model.special_ids() == {"bos_token_id": 3, "eos_token_id": [74, 5], "pad_token_id": None}
        assert model.chat_template == "{{ messages }}"
        assert model.hf_config()["rms_norm_eps"] == 1e-6


def test_equal_input_gives_equal_bytes(write: Write) -> None:
    tensors = random_tensors(VALUES["llama"])
    first = write(VALUES["llama"], tensors, "Q4_0").read_bytes()
    assert write(VALUES["llama"], dict(reversed(tensors.items())), "Q4_0").read_bytes() == first


def test_biases_are_permuted_too(write: Write) -> None:
    values = {**VALUES["llama"], "attention_bias": True}
    tensors = random_tensors(values)
    with open_gguf(write(values, tensors)) as model:
        assert model.hf_config()["attention_bias"] is True
        assert all(torch.equal(model.read(name), tensor) for name, tensor in tensors.items())


def test_reading_needs_only_a_piece_beside_the_tensor(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {**VALUES["llama"], "vocab_size": 1001}
    tensors = random_tensors(values)
    path = write(values, tensors, "Q8_0")
    pieces: list[int] = []
    monkeypatch.setattr("arriero.models.weight_source.CHUNK_VALUES", 5000)
    honest = model_module.decode

    def counted(raw: Any, kind: Any) -> Any:
        found = honest(raw, kind)
        pieces.append(found.numel())
        return found

    monkeypatch.setattr(model_module, "decode", counted)
    with open_gguf(path) as model:
        for name in ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"):
            out = torch.empty(model.shape(name), dtype=torch.bfloat16)
            model.read_into(name, out)
            stored = decode(encode(tensors[name], written_type("Q8_0")), written_type("Q8_0"))
            assert torch.equal(out, stored.view(out.shape).bfloat16())
    assert max(pieces) <= 5000 and sum(pieces) == 1001 * 64 + 128 * 64


def test_a_model_in_several_files(write: Write, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    tensors = random_tensors(VALUES["llama"])
    whole = gguf.GGUFReader(write(VALUES["llama"], tensors))
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama", split_max_tensors=7)
    for name, field in whole.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in whole.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("part-*.gguf"))
    assert len(parts) == 3
    with open_gguf(parts[0]) as model:
        assert all(torch.equal(model.read(name), tensor) for name, tensor in tensors.items())
    with pytest.raises(ArrieroError, match=r"give the first part, NAME-00001-of-00003.gguf"):
        open_gguf(parts[1])
    parts[2].unlink()
    with pytest.raises(ArrieroError, match=r"part-00003-of-00003.gguf cannot be read"):
        open_gguf(parts[0])


def test_a_tensor_without_place_keeps_its_name(write: Write) -> None:
    """The loader then says that it is no part of the model."""
    gguf = write(VALUES["qwen2"], random_tensors(VALUES["qwen2"]))
    data = gguf.read_bytes().replace(b"blk.0.attn_q.bias", b"blk.0.attn_X.bias")
    gguf.write_bytes(data)
    with open_gguf(gguf) as model:
        assert "blk.0.attn_X.bias" in model.names()
        with pytest.raises(ArrieroError, match=r"has no tensor model.layers.0.self_attn.q_proj.bias"):
            model.read("model.layers.0.self_attn.q_proj.bias")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; llama.cpp's llama has only 'silu'"),
        ({"sliding_window": 64}, "no sliding window"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' cannot be written as GGUF"),
        ({"model_type": "bert"}, "a bert cannot be written as GGUF; LlamaForCausalLM"),
        ({"architectures": ["LlamaModel"]}, "a LlamaModel cannot be written"),
        ({"num_hidden_layers": 1}, "tensor model.layers.1.* has no place"),
    ],
)
def test_what_llama_cpp_does_not_have_is_refused(changes: dict[str, Any], message: str) -> None:
    values = {**VALUES["llama"], **changes}
    with pytest.raises(ArrieroError, match=message):
        GgufFile(values, entries_of(random_tensors(VALUES["llama"])), written_type("F16"))


def test_a_value_that_does_not_fit_is_named(write: Write) -> None:
    tensors = random_tensors(VALUES["llama"])
    tensors["model.layers.0.mlp.up_proj.weight"][3, 4] = 1e6
    with pytest.raises(ArrieroError, match=r"up_proj.weight cannot be stored as F16: a value is too large"):
        write(VALUES["llama"], tensors, "F16")


def test_vocabulary_must_have_a_row_for_every_token() -> None:
    tokens = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"] * 74}
    with pytest.raises(ArrieroError, match="75 rows of embeddings, its tokenizer 74 tokens"):
        GgufFile(
            VALUES["llama"],
            entries_of(random_tensors(VALUES["llama"])),
            written_type("F16"),
            tokenizer=tokens,
        )
