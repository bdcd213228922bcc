"""What an engine that owns its model holds in memory: low-bit codes once, and everything else as it was."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.compression.rounding import quantize_model
from arriero.inference.engine import Engine
from arriero.inference.request import Request, Sampling
from arriero.models.checkpoint import load_decoder, save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme, use_plain_layers
from arriero.native import library
from arriero.native.linear import exact_products
from arriero.serving.bench_engine import weights_read
from arriero.tokenization.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(not library.available(), reason="no native library here")

SCHEMES = [WeightScheme(8, 32), WeightScheme(8, None), WeightScheme(4, 32)]
SAMPLING = Sampling(temperature=0, max_tokens=20, ignore_end=True, logprobs=2, prompt_logprobs=1)


def made(tiny: Callable[..., Decoder], scheme: WeightScheme, **changes: Any) -> Decoder:
    """A quantised model whose layers' rows fill whole tiles, unless ``changes`` say otherwise."""
    model = tiny(d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, **changes)
    quantize_model(model, scheme, torch.bfloat16)
    return model


def engine_of(model: Decoder, tokenizer: Tokenizer, lean: bool) -> Engine:
    return Engine(model, tokenizer, max_batch=2, runner="native", lean=lean)


def layers_of(model: Decoder) -> list[QuantizedLinear]:
    return [m for m in model.modules() if isinstance(m, QuantizedLinear)]


def bare(layer: QuantizedLinear) -> bool:
    return "weight_packed" not in dict(layer.named_buffers())


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.name}-{s.group_size}")
def test_the_model_is_as_it_was(
    scheme: WeightScheme, tiny: Callable[..., Decoder], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = made(tiny, scheme)
    plain, prompt = copy.deepcopy(model), tokenizer.encode("hello world")
    state, read = {k: v.clone() for k, v in model.state_dict().items()}, weights_read(model)
    expected = list(engine_of(plain, tokenizer, False).generate([Request(prompt, SAMPLING)]))
    engine = engine_of(model, tokenizer, True)
    assert all(bare(layer) for layer in layers_of(model)) and not any(
        bare(layer) for layer in layers_of(plain)
    )
    assert list(engine.generate([Request(prompt, SAMPLING)])) == expected
    found = model.state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)
    assert weights_read(model) == read
    ids = torch.tensor([prompt])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            assert torch.equal(other(ids), plain(ids)) and torch.equal(model(ids), plain(ids))
            with exact_products():
                assert torch.equal(other(ids), plain(ids)) and torch.equal(model(ids), plain(ids))
    assert torch.equal(model(ids), plain(ids)), "with gradients on"
    for folder, one in ((tmp_path / "a", model), (tmp_path / "b", plain)):
        save_model(one, folder)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (
        tmp_path / "b" / "model.safetensors"
    ).read_bytes()
    for one in (model, plain):
        use_plain_layers(one, torch.float32)
    assert torch.equal(model(ids), plain(ids))


def answered(engine: Engine, prompt: list[int]) -> Any:
    (completion,) = engine.generate([Request(prompt, SAMPLING)])
    return completion.ids, completion.logprobs


def test_new_weights_are_read_and_moved_models_have_buffers(
    tiny: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    model, other = made(tiny, SCHEMES[0]), made(tiny, SCHEMES[0], seed=5)
    prompt = tokenizer.encode("hello world")
    expected = answered(engine_of(copy.deepcopy(other), tokenizer, False), prompt)
    engine = engine_of(model, tokenizer, True)
    assert answered(engine, prompt) != expected
    model.load_state_dict(other.state_dict())
    assert answered(engine, prompt) == expected
    assert all(bare(layer) for layer in layers_of(model)), "handed over anew"
    assert answered(engine, prompt) == expected
    model.to("cpu")
    assert not any(bare(layer) for layer in layers_of(model))


def test_rows_that_share_a_tile_stay_with_their_layers(
    tiny: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    """Keys of 8 rows end within a tile of 16: the joined tiles cannot be cut there."""
    model = tiny(d_model=64, n_heads=8, n_kv_heads=1, d_ff=96)
    quantize_model(model, SCHEMES[0], torch.bfloat16)
    plain, prompt = copy.deepcopy(model), tokenizer.encode("hello")
    answers = list(engine_of(plain, tokenizer, False).generate([Request(prompt, SAMPLING)]))
    assert list(engine_of(model, tokenizer, True).generate([Request(prompt, SAMPLING)])) == answers
    attention = model.blocks[0].attention
    assert bare(attention.q_proj) and not bare(attention.k_proj) and bare(attention.o_proj)
    found, state = model.state_dict(), plain.state_dict()
    assert all(torch.equal(found[k], state[k]) for k in state)


MEASURE = """
import gc, json, sys, torch
from pathlib import Path
torch.set_num_threads(1)
import arriero.inference.native_runner, arriero.models.families.llama
from arriero.cost.allocator import return_freed_memory
from arriero.cost.procfs import resident_bytes
from arriero.inference.engine import Engine
from arriero.inference.request import Request, Sampling

def resident():
    gc.collect()
    return_freed_memory()
    return resident_bytes()

def run(folder):
    engine = Engine.load(Path(folder), max_batch=1, max_tokens_total=128)
    list(engine.generate([Request([1, 2, 3] * 10, Sampling(temperature=0, max_tokens=4))]))
    return engine

run(sys.argv[1])  # whatever is loaded once, is loaded
before = resident()
engine = run(sys.argv[2])
print(json.dumps({"grown": resident() - before, "runner": engine.runner.name}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_memory_grows_by_little_more_than_the_file(bits: int, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A process that loads 38 M weights: before codes were held once, it grew by twice their file."""
    for name, width in (("small", 64), ("large", 512)):
        shape = {"vocab_size": 264, "d_model": width, "n_layers": 9, "n_heads": 8, "n_kv_heads": 4,
                 "d_ff": 4 * width, "context_length": 160}  # fmt: skip
        model = Decoder(DecoderConfig.model_validate(shape))
        model.init_weights(0)
        quantize_model(model, WeightScheme(bits, 32), torch.bfloat16)
        save_model(model, tmp_path / name, "bfloat16")
        tokenizer.save(tmp_path / name)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    file = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert told["runner"] == "native"
    assert load_decoder(tmp_path / "large").config.d_model == 512
    assert 0.9 * file < told["grown"] < 1.25 * file + (4 << 20), (told, file)
