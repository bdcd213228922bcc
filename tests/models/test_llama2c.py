from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model
from arriero.models.llama2c import open_llama2c

DATA = Path(__file__).parents[1] / "data" / "stories260k"
DIM, FF, LAYERS, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 24, 20, 2, 4, 2, 11, 16
FIGURES = (DIM, FF, LAYERS, HEADS, KV_HEADS, VOCABULARY, CONTEXT)
ORDER_0 = ["embed", "norm1", "q", "k", "v", "o", "norm2", "gate", "down", "up", "norm", "rotary", "head"]
ORDER_1 = ["norm1", "norm2", "norm", "embed", "q", "k", "v", "o", "gate", "down", "up", "head"]
KV = DIM // HEADS * KV_HEADS
SHAPES = {
    "embed": (VOCABULARY, DIM), "norm1": (LAYERS, DIM), "q": (LAYERS, DIM, DIM), "k": (LAYERS, KV, DIM),
    "v": (LAYERS, KV, DIM), "o": (LAYERS, DIM, DIM), "norm2": (LAYERS, DIM), "gate": (LAYERS, FF, DIM),
    "down": (LAYERS, DIM, FF), "up": (LAYERS, FF, DIM), "norm": (DIM,), "rotary": (CONTEXT, DIM // HEADS),
    "head": (VOCABULARY, DIM),
}  # fmt: skip


def write(path: Path, version: int, tied: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(version)
    values = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    order = [name for name in (ORDER_1 if version else ORDER_0) if not (tied and name == "head")]
    figures = list(FIGURES)
    if version:
        head = struct.pack("<Ii7iB", 0x616B3432, 1, *figures, tied).ljust(256, b"\0")
    else:
        figures[5] *= 1 if tied else -1
        head = struct.pack("<7i", *figures)
    path.write_bytes(head + b"".join(values[name].numpy().astype("<f4").tobytes() for name in order))
    return values


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_is_found(tmp_path: Path, version: int, tied: bool) -> None:
    values = write(tmp_path / "m.bin", version, tied)
    with open_llama2c(tmp_path / "m.bin") as model:
        assert model.hf_config()["tie_word_embeddings"] is tied
        assert ("lm_head.weight" in model.names()) is not tied
        for name, key in (("mlp.gate_proj", "gate"), ("mlp.down_proj", "down"), ("mlp.up_proj", "up"),
                          ("self_attn.o_proj", "o"), ("self_attn.v_proj", "v"), ("input_layernorm", "norm1"),
                          ("post_attention_layernorm", "norm2")):  # fmt: skip
            for layer in range(LAYERS):
                assert torch.equal(model.read(f"model.layers.{layer}.{name}.weight"), values[key][layer])
        assert torch.equal(model.read("model.norm.weight"), values["norm"])
        assert torch.equal(model.read("model.embed_tokens.weight"), values["embed"])
        k = model.read("model.layers.1.self_attn.k_proj.weight")
        for head in range(KV_HEADS):
            for pair in range(3):
                assert torch.equal(k[6 * head + pair], values["k"][1][6 * head + 2 * pair])
                assert torch.equal(k[6 * head + pair + 3], values["k"][1][6 * head + 2 * pair + 1])


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    write(path, 0, True)
    data = path.read_bytes()
    for damaged, message in (
        (data[:20], "too short for a header"),
        (data[:-4], "is cut short"),
        (data + bytes(4), "its header asks for"),
        (struct.pack("<i", 0) + data[4:], "dim is 0"),
        (struct.pack("<i", -3) + data[4:], "dim is -3"),
        (data[:12] + struct.pack("<i", 5) + data[16:], "5 and 2 heads do not fit dim 24"),
        (data[:8] + struct.pack("<i", 1 << 23) + data[12:], "is cut short"),
        (struct.pack("<Ii", 0x616B3432, 2).ljust(300, b"\0"), "has version 2"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ArrieroError, match=message):
            open_llama2c(path)
    with pytest.raises(ArrieroError, match="cannot be read"):
        open_llama2c(tmp_path / "none.bin")


def test_stories260k_gives_its_golden_outputs() -> None:
    golden = json.loads((DATA / "golden.json").read_text())
    model = load_model(DATA / "stories260K.bin")
    wanted = golden["greedy_from_bos"]["ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([wanted]))[0]
        assert logits[:-1].argmax(-1).tolist() == wanted[1:]
        last = model(torch.tensor([golden["prompt"]["ids"]]))[0, -1]
    top = last.topk(5)
    assert top.indices.tolist() == golden["prompt"]["top5_ids"]
    assert top.values.tolist() == pytest.approx(golden["prompt"]["top5_logits"], abs=2e-4)
