"""Adapters in the native library's steps: the same numbers as torch's, and bits that do not depend on the company."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arriero.compression.rounding import quantize_model
from arriero.inference.adapters import AdapterStore
from arriero.inference.kv_pool import CacheShape, KVPool, blocks_of
from arriero.inference.native_runner import NativeRunner
from arriero.inference.rows import Rows
from arriero.inference.torch_runner import TorchRunner
from arriero.models.decoder import Decoder
from arriero.models.layers.quantized import WeightScheme
from arriero.native import library
from arriero.native.program import MOST_RANK
from arriero.tuning.lora import adapters as lora_layers
from arriero.tuning.lora import apply_lora, save_adapter

pytestmark = pytest.mark.skipif(not library.available(), reason=library.why_not())
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {
        "positions": "learned", "norm": "layer", "gated": False, "activation": "gelu_tanh", "qkv_bias": True,
        "out_bias": True, "feed_forward_bias": True, "n_kv_heads": 4,
    },
    "parallel": {"arrangement": "parallel", "parallel_norms": 1, "norm": "layer", "gated": False},
    "post": {"arrangement": "post", "final_norm": False, "d_ff": 40},
}  # fmt: skip
Step = list[tuple[str | None, int]]
"""Adapter and number of tokens of each sequence."""


def adapter(model: Decoder, folder: Path, seed: int, rank: int, targets: list[str]) -> Path:
    adapted = copy.deepcopy(model)
    apply_lora(adapted, rank, 2 * rank, 0.0, targets, seed=seed)
    for number, layer in enumerate(lora_layers(adapted).values()):
        torch.nn.init.normal_(layer.lora_B, 0, 0.3, torch.Generator().manual_seed(100 * seed + number))
    save_adapter(adapted, folder)
    return folder


def loaded(model: Decoder, target: Decoder, tmp_path: Path) -> AdapterStore:
    """Three adapters made for ``model``, on ``target``, which may be its quantised copy."""
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    store = AdapterStore(target)
    store.load("all", adapter(model, tmp_path / "all", 1, 5, targets))
    store.load("some", adapter(model, tmp_path / "some", 2, 17, ["v_proj", "up_proj"]))
    store.load("high", adapter(model, tmp_path / "high", 3, MOST_RANK + 1, ["q_proj"]))
    return store


def run(
    make: Callable[..., Any], model: Decoder, store: AdapterStore | None, steps: list[Step]
) -> list[Tensor]:
    """Logits of all rows of each step; sequence i goes on from step to step."""
    config = model.config
    pool = KVPool(CacheShape(config.n_layers, config.n_kv_heads, config.head_dim), 2048)
    runner = make(model, pool, store)
    generator = torch.Generator().manual_seed(5)
    tokens = [torch.randint(0, 261, (99,), generator=generator).tolist() for _ in range(8)]
    stored = [0] * 8
    blocks = [pool.allocate(blocks_of(99)) or [] for _ in range(8)]
    found = []
    for step in steps:
        rows = Rows()
        for number, (name, count) in enumerate(step):
            if count:
                ids = tokens[number][stored[number] : stored[number] + count]
                rows.add(ids, stored[number], blocks[number], list(range(count)), name)
                stored[number] += count
        found.append(runner.run(rows))
    return found


STEPS: list[Step] = [
    [("all", 5), (None, 3), ("some", 9), ("all", 1)],
    [("all", 1), (None, 1), ("some", 1), ("all", 1)],
    [("all", 0), (None, 0), ("some", 2)],
    [("all", 1), (None, 2)],
]


@pytest.mark.parametrize("kind", KINDS)
def test_dense_weights_give_what_torch_gives(kind: str, tiny: Any, tmp_path: Path) -> None:
    model = tiny(0, **KINDS[kind])
    store = loaded(model, model, tmp_path)
    for native, right in zip(
        run(NativeRunner, model, store, STEPS), run(TorchRunner, model, store, STEPS), strict=True
    ):
        torch.testing.assert_close(native, right, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_native_runner_itself_adds_them(
    kind: str, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(0, **KINDS[kind])
    store = loaded(model, model, tmp_path)
    plain = run(NativeRunner, model, None, [[(None, count) for _, count in step] for step in STEPS])
    monkeypatch.setattr(TorchRunner, "run", lambda *_: pytest.fail("torch was asked"))
    adapted = run(NativeRunner, model, store, STEPS)
    assert (adapted[0][:5] - plain[0][:5]).abs().max() > 0.1
    assert torch.equal(adapted[0][5:8], plain[0][5:8])  # the rows of the sequence without one, to the bit


def test_ranks_beyond_the_tables_go_through_torch(tiny: Any, tmp_path: Path) -> None:
    model = tiny()
    store = loaded(model, model, tmp_path)
    steps: list[Step] = [[("high", 4), ("all", 3)], [("high", 1), ("all", 1)]]
    for native, right in zip(
        run(NativeRunner, model, store, steps), run(TorchRunner, model, store, steps), strict=True
    ):
        torch.testing.assert_close(native, right, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_low_bit_bases_give_the_same_bits_in_any_company(bits: int, tiny: Any, tmp_path: Path) -> None:
    model = tiny(d_ff=96)
    quantised = copy.deepcopy(model)
    quantize_model(quantised, WeightScheme(bits, 32), torch.float32)
    store = loaded(model, quantised, tmp_path)
    crowd: Step = [("all", 40), (None, 33), ("some", 21), ("all", 7)]
    whole = run(NativeRunner, quantised, store, [crowd, [(name, 1) for name, _ in crowd]])
    starts = [0, 40, 73, 94, 101]
    for number, (name, count) in enumerate(crowd):
        before: Step = [(None, 0)] * number
        alone = run(
            NativeRunner,
            quantised,
            store,
            [[*before, (name, count - 3)], [*before, (name, 3)], [*before, (name, 1)]],
        )
        own = whole[0][starts[number] : starts[number + 1]]
        assert torch.equal(torch.cat(alone[:2]), own)
        assert torch.equal(alone[2][0], whole[1][number])


def test_tables_follow_what_is_loaded(tiny: Any, tmp_path: Path) -> None:
    model = tiny()
    store = loaded(model, model, tmp_path)
    pool = KVPool(CacheShape(model.config.n_layers, model.config.n_kv_heads, model.config.head_dim), 256)
    runner = NativeRunner(model, pool, store)

    def logits(name: str | None) -> Tensor:
        rows = Rows()
        rows.add([7, 8, 9], 0, [0], [2], name)
        return runner.run(rows)

    plain, of_all, of_some = logits(None), logits("all"), logits("some")
    assert not torch.equal(of_all, of_some)
    store.unload("all")
    store.load("all", tmp_path / "some")
    assert torch.equal(logits("all"), of_some)
    assert torch.equal(logits("some"), of_some) and torch.equal(logits(None), plain)
