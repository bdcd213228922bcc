"""Requests with adapters through the whole engine."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from arriero.compression.rounding import quantize_model
from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.request import Request, RequestError, Sampling
from arriero.models.decoder import Decoder
from arriero.models.layers.quantized import WeightScheme
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tuning.lora import adapters as lora_layers
from arriero.tuning.lora import apply_lora, merge_lora, save_adapter

GREEDY = Sampling(temperature=0, max_tokens=12, ignore_end=True, logprobs=3)
NAMES = ("red", "blue")


@pytest.fixture(scope="module")
def tuned(model: Decoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, tuple[Path, Decoder]]:
    """Adapter folder and the model with it merged, by name; None: the model itself."""
    found: dict[str | None, tuple[Path, Decoder]] = {None: (Path(), model)}
    for seed, name in enumerate(NAMES):
        folder = tmp_path_factory.mktemp(name)
        adapted = copy.deepcopy(model)
        apply_lora(adapted, 4 + seed, 8, 0.0, ["q_proj", "v_proj", "up_proj", "down_proj"][seed:], seed=seed)
        for number, layer in enumerate(lora_layers(adapted).values()):
            torch.nn.init.normal_(layer.lora_B, 0, 0.4, torch.Generator().manual_seed(10 * seed + number))
        save_adapter(adapted, folder)
        merge_lora(adapted)
        found[name] = folder, adapted
    return found


def make(
    model: Decoder, tokenizer: Tokenizer, tuned: dict[str | None, tuple[Path, Decoder]], **options: object
) -> Engine:
    engine = Engine(model, tokenizer, **options)  # type: ignore[arg-type]
    for name in NAMES:
        engine.adapters.load(name, tuned[name][0])
    return engine


def asked(count: int = 9) -> list[Request]:
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(5, 261, (4 + 9 * i,), generator=generator).tolist() for i in range(count)]
    return [Request(p, GREEDY, adapter=(None, *NAMES)[i % 3]) for i, p in enumerate(prompts)]


@pytest.mark.parametrize("runner", ["torch", "auto"])
def test_a_mixed_crowd_answers_as_merged_models_do(
    model: Decoder, tokenizer: Tokenizer, tuned: dict[str | None, tuple[Path, Decoder]], runner: str
) -> None:
    answers = make(model, tokenizer, tuned, runner=runner, token_budget=40).generate(asked())
    for request, answer in zip(asked(), answers, strict=True):
        with torch.inference_mode():
            logits = tuned[request.adapter][1](torch.tensor([request.prompt + answer.ids]))[0]
        right = torch.log_softmax(logits[len(request.prompt) - 1 : -1].double(), -1)
        assert right.argmax(-1).tolist() == answer.ids
        own = [right[step, token].item() for step, token in enumerate(answer.ids)]
        assert answer.logprobs == pytest.approx(own, abs=5e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_alone_equals_in_a_crowd_on_a_quantised_base(
    model: Decoder, tokenizer: Tokenizer, tuned: dict[str | None, tuple[Path, Decoder]], bits: int
) -> None:
    quantised = copy.deepcopy(model)
    quantize_model(quantised, WeightScheme(bits, 32), torch.float32)
    crowd = make(quantised, tokenizer, tuned, token_budget=50).generate(asked())
    for request, answer in zip(asked(), crowd, strict=True):
        (alone,) = make(quantised, tokenizer, tuned, max_batch=1, prefix_cache=False).generate([request])
        assert alone.ids == answer.ids
        assert alone.logprobs == pytest.approx(answer.logprobs, abs=1e-3)


def test_the_prefix_cache_keeps_adapters_apart(
    model: Decoder, tokenizer: Tokenizer, tuned: dict[str | None, tuple[Path, Decoder]]
) -> None:
    prompt = torch.randint(5, 261, (140,), generator=torch.Generator().manual_seed(8)).tolist()
    engine = make(model, tokenizer, tuned)
    fresh = {}
    for name in (None, *NAMES):
        (fresh[name],) = make(model, tokenizer, tuned, prefix_cache=False).generate(
            [Request(prompt, GREEDY, adapter=name)]
        )
    for name in (None, "red", "blue", None, "blue", "red"):
        (answer,) = engine.generate([Request(prompt, GREEDY, adapter=name)])
        assert answer.ids == fresh[name].ids
    assert (
        engine.counters.cached_tokens == 3 * 128
    )  # each of the three found its own again, and nobody else's


def test_another_adapter_under_an_old_name_finds_nothing_cached(
    model: Decoder, tokenizer: Tokenizer, tuned: dict[str | None, tuple[Path, Decoder]]
) -> None:
    prompt = torch.randint(5, 261, (140,), generator=torch.Generator().manual_seed(8)).tolist()
    engine = make(model, tokenizer, tuned)
    (red,) = engine.generate([Request(prompt, GREEDY, adapter="red")])
    engine.adapters.unload("red")
    engine.adapters.load("red", tuned["blue"][0])
    (blue,) = engine.generate([Request(prompt, GREEDY, adapter="red")])
    assert engine.counters.cached_tokens == 0
    (right,) = make(model, tokenizer, tuned).generate([Request(prompt, GREEDY, adapter="blue")])
    assert blue.ids == right.ids != red.ids


def test_an_adapter_stays_while_requests_use_it(
    model: Decoder, tokenizer: Tokenizer, tuned: dict[str | None, tuple[Path, Decoder]]
) -> None:
    engine = make(model, tokenizer, tuned)
    first, second = (
        engine.submit(r) for r in (Request([7, 8], GREEDY, adapter="red", n=2), Request([9], GREEDY))
    )
    engine.step()
    with pytest.raises(ArrieroError, match="'red' is in use by 1 request:"):
        engine.adapters.unload("red")
    engine.abort(first)
    engine.adapters.unload("red")
    while not engine.idle:
        engine.step()
    engine.adapters.unload("blue")
    assert second and engine.adapters.names() == []


def test_an_unknown_adapter_is_refused_before_any_work(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer)
    with pytest.raises(RequestError, match="no adapter is called 'red'; loaded are: none") as raised:
        engine.submit(Request([7], GREEDY, adapter="red"))
    assert raised.value.param == "model" and engine.idle
