from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model, predicted_file_bytes, read_config, read_format, save_model
from arriero.models.decoder import Decoder

MakeModel = Callable[..., Decoder]


@pytest.fixture
def folder(make_model: MakeModel, tmp_path: Path) -> Path:
    save_model(make_model(), tmp_path)
    return tmp_path


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def failure(folder: Path) -> str:
    with pytest.raises(ArrieroError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trip(make_model: MakeModel, tmp_path: Path, tied: bool, dtype: str) -> None:
    model = make_model(tie_embeddings=tied)
    save_model(model, tmp_path, dtype)
    back = load_model(tmp_path)
    assert back.config == model.config == read_config(tmp_path)
    assert read_format(tmp_path) == dtype
    assert not back.training
    for (name, a), b in zip(model.named_parameters(), back.parameters(), strict=True):
        assert torch.equal(a.to(b.dtype), b), name
        assert b.dtype == getattr(torch, dtype)
    assert load_model(tmp_path, dtype="float32").norm.weight.dtype == torch.float32
    size = (tmp_path / "model.safetensors").stat().st_size
    assert predicted_file_bytes(model.config, dtype) == size


def test_tied_table_is_stored_once_and_read_even_if_stored_twice(folder: Path) -> None:
    names = load_file(folder / "model.safetensors").keys()
    assert "model.embed_tokens.weight" in names and "lm_head.weight" not in names
    before = load_model(folder).embedding.weight
    change_tensors(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert torch.equal(load_model(folder).embedding.weight, before)


def test_same_model_same_bytes(make_model: MakeModel, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(make_model(), tmp_path / name, "bfloat16", eos_token_id=2)
    for file in ("config.json", "model.safetensors", "generation_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_special_ids_are_written(make_model: MakeModel, tmp_path: Path) -> None:
    save_model(make_model(), tmp_path, bos_token_id=1, eos_token_id=[2, 5])
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 1, "eos_token_id": [2, 5]}
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == [2, 5]


def test_shards(folder: Path) -> None:
    before = load_model(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:5], names[5:])):
        file = f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    after = load_model(folder)
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))

    index.write_text(json.dumps({"weight_map": {**weight_map, "model.norm.weight": "../other.safetensors"}}))
    assert "outside the folder" in failure(folder)
    index.write_text(json.dumps({"weight_map": {**weight_map, names[0]: "model-00002-of-00002.safetensors"}}))
    assert f"does not hold the tensor {names[0]}" in failure(folder)
    index.write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors is missing" in failure(folder)
    index.write_text("[]")
    assert "is no index" in failure(folder)


def test_faults_in_the_weights(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change_tensors(folder, lambda t: t.update({name: torch.zeros(3, 4)}))
    assert f"tensor {name} has shape [3, 4], its configuration asks for [96, 48]" in failure(folder)
    change_tensors(folder, lambda t: t.update({name: torch.zeros(96, 48, dtype=torch.int32)}))
    assert f"tensor {name} is stored as torch.int32" in failure(folder)
    change_tensors(folder, lambda t: t.pop(name))
    assert f"tensor {name} is missing" in failure(folder)
    change_tensors(folder, lambda t: t.update({name: torch.zeros(96, 48), "model.extra": torch.zeros(1)}))
    assert "tensor model.extra is not part of the model" in failure(folder)


@pytest.mark.parametrize("keep", [0, 5, 300, -4])
def test_cut_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors is damaged or no safetensors file" in failure(folder)


def test_faults_in_the_configuration(folder: Path, tmp_path: Path) -> None:
    change_config(folder, rope_parameters={"rope_type": "spiral", "rope_theta": 5e5, "factor": 8})
    assert "rotary scaling 'spiral'" in failure(folder)
    change_config(
        folder,
        rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "original_max_position_embeddings": 9},
    )
    assert "rope_scaling.factor: Field required" in failure(folder)
    change_config(folder, rope_parameters=None, hidden_act="gelu")
    assert "hidden_act is 'gelu'" in failure(folder)
    change_config(folder, hidden_act="silu", architectures=["MistralForCausalLM"])
    assert "is a MistralForCausalLM; of this family Arriero reads LlamaForCausalLM" in failure(folder)
    change_config(folder, architectures=["LlamaForCausalLM"], model_type="lama")
    assert "is a LlamaForCausalLM; Arriero reads the model types albert" in failure(folder)
    change_config(folder, model_type="llama")
    change_config(folder, architectures=["LlamaForCausalLM"], quantization_config={"quant_method": "gptq"})
    assert "quantization_config is not one that Arriero reads" in failure(folder)
    change_config(folder, quantization_config=None, dtype="float64")
    assert "unknown dtype 'float64'" in failure(folder)
    change_config(folder, dtype="float32", hidden_size="wide")
    assert 'hidden_size is "wide", not a whole number' in failure(folder)
    (folder / "config.json").write_text("{")
    assert "config.json cannot be read" in failure(folder)
    (folder / "config.json").unlink()
    assert "is no model folder: it has no config.json" in failure(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "has no weights" in failure(folder)
