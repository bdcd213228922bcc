"""The CUDA runner against the model run whole: the equalities of the torch runner's tests, with recorded steps and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.compression.rounding import quantize_model
from arriero.errors import ArrieroError
from arriero.inference.cuda import runner as cuda_runner
from arriero.inference.cuda.runner import CudaRunner
from arriero.inference.engine import Engine
from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool, blocks_of
from arriero.inference.request import Request, Sampling
from arriero.inference.rows import Rows
from arriero.inference.runners import make_runner
from arriero.inference.torch_runner import TorchRunner
from arriero.models.decoder import Decoder
from arriero.models.layers.quantized import WeightScheme
from arriero.native.linear import exact_products
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tuning.lora import adapters as lora_layers
from arriero.tuning.lora import apply_lora, save_adapter

Make = Callable[..., Decoder]
SWITCHES: list[dict[str, object]] = [
    {},
    {"n_kv_heads": 1},
    {"n_kv_heads": 4},
    {"n_heads": 6, "head_dim": 20},
    {"sliding_window": 5},
    {"sliding_window": 70},
    {"positions": "alibi", "norm": "layer", "embedding_norm": True},
    {"positions": "alibi", "n_heads": 6, "head_dim": 8, "sliding_window": 70},
    {"positions": "learned", "top_query": True, "norm": "layer", "gated": False},
    {"positions": "sinusoidal", "qkv_bias": True},
    {"rotary_dim": 4, "arrangement": "parallel", "parallel_norms": 1},
    {"rope_scaling": {"kind": "linear", "factor": 2.0}},
]
HEALTH = [HealthCheck.function_scoped_fixture]


class Recorder:
    """Stands for CUDA graphs where there are none: a replay runs the same work on the same memory."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = work()

        def replay() -> None:
            self.replays += 1
            result.copy_(work())

        return replay, result


def pool_for(model: Decoder, dtype: torch.dtype, blocks: int, device: str) -> KVPool:
    config = model.config
    pool = KVPool(
        CacheShape(config.n_layers, config.n_kv_heads, config.head_dim, dtype, device), blocks * BLOCK
    )
    if dtype != torch.int8:
        pool.keys.fill_(99)  # what nobody has written must not be seen
        pool.values.fill_(99)
    return pool


def runner_for(model: Decoder, pool: KVPool, recorded: bool = True, **options: Any) -> CudaRunner:
    """On a GPU real graphs, under the interpreter those of the recorder."""
    on_gpu = pool.shape.device != "cpu"
    made = CudaRunner(model, pool, capture=Recorder() if recorded and not on_gpu else None, **options)
    if not recorded:
        made.graphs = None
    return made


def run_cut(runner: Any, texts: list[list[int]], rng: np.random.Generator, steps: list[int]) -> list[Tensor]:
    """All logits of all texts, run in random spans of random companies."""
    order, tables, at = rng.permutation(runner.pool.n_blocks).tolist(), [], 0
    for text in texts:
        tables.append(order[at : at + blocks_of(len(text))])
        at += blocks_of(len(text))
    stored = [0] * len(texts)
    out: list[list[Tensor]] = [[] for _ in texts]
    while any(n < len(text) for n, text in zip(stored, texts, strict=True)):
        rows, asked = Rows(), []
        single = rng.random() < 0.2  # a step in which all take one token
        for i, text in enumerate(texts):
            count = min(1 if single else int(rng.choice(steps)), len(text) - stored[i])
            if count:
                rows.add(text[stored[i] : stored[i] + count], stored[i], tables[i], list(range(count)))
                asked += [i] * count
                stored[i] += count
        if asked:
            for i, row in zip(asked, runner.run(rows).cpu(), strict=True):
                out[i].append(row)
    return [torch.stack(found) for found in out]


@torch.inference_mode()
def whole(model: Decoder, text: list[int]) -> Tensor:
    ids = torch.tensor([text], device=model.embedding.weight.device)
    with exact_products():
        return model(ids)[0].float().cpu()


@settings(max_examples=8, deadline=None, suppress_health_check=HEALTH)
@given(
    switches=st.sampled_from(SWITCHES),
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(1, 155), min_size=1, max_size=2),
    recorded=st.booleans(),
)
def test_any_cut_gives_the_logits_of_the_whole(
    device: str, tiny: Make, switches: dict[str, object], seed: int, lengths: list[int], recorded: bool
) -> None:
    model, rng = tiny(seed % 7, **switches).to(device), np.random.default_rng(seed)
    texts = [rng.integers(0, 261, n).tolist() for n in lengths]
    pool = pool_for(model, torch.float32, sum(blocks_of(n) for n in lengths) + 2, device)
    found = run_cut(runner_for(model, pool, recorded), texts, rng, [0, 5, 40, 90])
    for text, logits in zip(texts, found, strict=True):
        torch.testing.assert_close(logits, whole(model, text), atol=3e-4, rtol=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_smaller_elements_are_close(device: str, tiny: Make, dtype: torch.dtype) -> None:
    model, rng = tiny(1, init_std=0.1).to(device), np.random.default_rng(0)
    texts = [rng.integers(0, 261, n).tolist() for n in (100, 20)]
    found = run_cut(runner_for(model, pool_for(model, dtype, 6, device)), texts, rng, [5, 40])
    for text, logits in zip(texts, found, strict=True):
        expected = whole(model, text)
        assert 0 < (logits - expected).abs().max() < 0.15 * expected.std()


def test_bfloat16_models_run_in_bfloat16(device: str, tiny: Make) -> None:
    model, rng = tiny(1, init_std=0.1).to(device, torch.bfloat16), np.random.default_rng(0)
    texts = [rng.integers(0, 261, n).tolist() for n in (100, 20)]
    found = run_cut(runner_for(model, pool_for(model, torch.bfloat16, 6, device)), texts, rng, [5, 40])
    exact = tiny(1, init_std=0.1)
    for text, logits in zip(texts, found, strict=True):
        assert logits.dtype == torch.float32
        expected = whole(exact, text)
        assert (logits - expected).abs().max() < 0.3 * expected.std()


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, None)])
def test_low_bit_weights(device: str, tiny: Make, bits: int, group: int | None, monkeypatch: Any) -> None:
    from arriero.inference.cuda import low_bit

    model, rng = tiny(3), np.random.default_rng(1)
    quantize_model(model, WeightScheme(bits, group), torch.float32)
    model.to(device)
    calls: list[int] = []
    kernel = low_bit.multiply
    monkeypatch.setattr(low_bit, "multiply", lambda x, *rest: (calls.append(len(x)), kernel(x, *rest))[1])
    texts = [rng.integers(0, 261, n).tolist() for n in (100, 20)]
    found = run_cut(runner_for(model, pool_for(model, torch.float32, 4, device)), texts, rng, [5, 90])
    assert calls and max(calls) <= low_bit.MOST_ROWS  # the kernel's share; longer prompts are torch's
    for text, logits in zip(texts, found, strict=True):
        torch.testing.assert_close(logits, whole(model, text), atol=1e-3, rtol=1e-3)
    assert all("forward" not in vars(module) for module in model.modules())  # the model is as it was


def test_pure_decoding_is_replayed_and_other_steps_are_not(device: str, tiny: Make) -> None:
    model = tiny(2).to(device)
    runner = runner_for(model, pool_for(model, torch.float32, 4, device))
    plain = TorchRunner(model, pool_for(model, torch.float32, 4, device))
    assert runner.graphs is not None
    for stored, recorded in ((0, 0), (3, 1), (4, 1), (5, 1)):
        rows = Rows()
        for n in range(3):
            rows.add([7, 8, 9] if not stored else [5 + n], stored, [n], [2] if not stored else [0])
        found = runner.run(rows)
        torch.testing.assert_close(found, plain.run(rows), atol=2e-4, rtol=1e-4)
        assert len(runner.graphs) == recorded
    for part in ("keys", "values"):
        left, right = (getattr(r.pool, part)[:, :, :, :6] for r in (runner, plain))
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)
        assert getattr(runner.pool, part)[:, 3].eq(99).all()  # the row that fills the step up stores nothing
        assert getattr(runner.pool, part)[:, :, :, 6:].eq(99).all()


def test_changed_weights_are_read_again(device: str, tiny: Make) -> None:
    model = tiny(2).to(device)
    quantize_model(model, WeightScheme(8), torch.float32)
    runner = runner_for(model, pool_for(model, torch.float32, 2, device))
    rows = Rows()
    rows.add([5], 0, [1], [0])
    before = runner.run(rows)
    with torch.no_grad():
        model.embedding.weight.data = model.embedding.weight.data * 1.5
        model.blocks[0].attention.v_proj.weight_scale = model.blocks[0].attention.v_proj.weight_scale * 2
    runner.refresh()
    assert runner.graphs is not None
    assert not len(runner.graphs)
    after = runner.run(rows)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after.cpu(), whole(model, [5]), atol=1e-3, rtol=1e-3)


def test_where_nothing_can_be_recorded_steps_run_all_the_same(device: str, tiny: Make, caplog: Any) -> None:
    def fails(work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        raise RuntimeError("not while capturing")

    model = tiny(2).to(device)
    runner = CudaRunner(model, pool_for(model, torch.float32, 2, device), capture=fails)
    rows = Rows()
    rows.add([5], 0, [1], [0])
    torch.testing.assert_close(runner.run(rows).cpu(), whole(model, [5]), atol=2e-4, rtol=1e-4)
    assert runner.graphs is None
    assert "not while capturing" in caplog.text


def test_only_wanted_rows(device: str, tiny: Make) -> None:
    model = tiny(2).to(device)
    runner = runner_for(model, pool_for(model, torch.float32, 4, device))
    rows = Rows()
    rows.add([5, 6, 7], 0, [2], [2])
    rows.add([8, 9], 0, [0], [])
    torch.testing.assert_close(runner.run(rows)[0].cpu(), whole(model, [5, 6, 7])[-1], atol=2e-4, rtol=1e-4)
    unwanted = Rows()
    unwanted.add([5], 0, [1], [])
    assert runner.run(unwanted).shape == (0, 261)


def test_wrong_rows_are_refused(device: str, tiny: Make) -> None:
    model = tiny(2).to(device)
    runner = runner_for(model, pool_for(model, torch.float32, 4, device))
    for ids, stored, blocks, reason in (
        ([261], 0, [0], "id"), ([-1], 0, [0], "id"), ([1], 160, [0, 1, 2], "context"), ([1] * 3, 62, [0], "blocks"),
    ):  # fmt: skip
        rows = Rows()
        rows.add(ids, stored, blocks, [0])
        with pytest.raises(ArrieroError, match=reason):
            runner.run(rows)


def test_an_engine_gives_the_answers_of_the_torch_runner(
    device: str, tiny: Make, tokenizer: Tokenizer
) -> None:
    model = tiny(4).to(device)
    sampling = Sampling(temperature=0, max_tokens=12, ignore_end=True)
    asked = [Request(list(range(5 + n, 10 + 9 * n)), sampling) for n in range(4)]
    asked.append(Request([5, 6, 7, 8] * 6, sampling, speculative="prompt"))
    expected = Engine(model, tokenizer, runner="torch").generate(asked)
    engine = Engine(model, tokenizer, runner="cuda", token_budget=30)
    assert engine.runner.name == "cuda"
    assert [c.ids for c in engine.generate(asked)] == [c.ids for c in expected]
    engine.check_integrity()


def test_a_mixed_crowd_of_adapters(
    device: str, tiny: Make, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = tiny(4)
    folders = {}
    for seed, name in enumerate(("red", "blue")):
        adapted = tiny(4)
        apply_lora(adapted, 4 + seed, 8, 0.0, ["q_proj", "v_proj", "down_proj"], seed=seed)
        for number, layer in enumerate(lora_layers(adapted).values()):
            torch.nn.init.normal_(layer.lora_B, 0, 0.4, torch.Generator().manual_seed(10 * seed + number))
        folders[name] = tmp_path_factory.mktemp(name)
        save_adapter(adapted, folders[name])
    model.to(device)
    sampling = Sampling(temperature=0, max_tokens=6, ignore_end=True)
    answers = []
    for runner in ("torch", "cuda"):
        engine = Engine(model, tokenizer, runner=runner, token_budget=30)  # type: ignore[arg-type]
        for name, folder in folders.items():
            engine.adapters.load(name, folder)
        asked = [
            Request(list(range(5 + n, 10 + 6 * n)), sampling, adapter=(None, *folders)[n % 3])
            for n in range(4)
        ]
        answers.append([c.ids for c in engine.generate(asked)])
    assert answers[0] == answers[1]
    assert answers[0][0] != answers[0][1]


@pytest.mark.gpu
def test_float8_on_hopper(tiny: Make) -> None:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("there is no GPU with float8 products")
    model = tiny(1, init_std=0.1).to("cuda", torch.bfloat16)
    text = np.random.default_rng(0).integers(0, 261, 100).tolist()
    runner = CudaRunner(model, pool_for(model, torch.bfloat16, 2, "cuda"), float8=True)
    found = run_cut(runner, [text], np.random.default_rng(0), [5, 40])[0]
    expected = whole(tiny(1, init_std=0.1), text)
    assert 0 < (found - expected).norm() < 0.3 * expected.norm()


# ---------------------------------------------------------------- who takes what; needs neither a GPU nor triton


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_runner.importlib.util, "find_spec", lambda name: None)


def test_without_triton_the_reason_is_told(tiny: Make, no_triton: None) -> None:
    model = tiny(0)
    pool = pool_for(model, torch.float32, 1, "cpu")
    with pytest.raises(
        ArrieroError, match="the package triton, which compiles its kernels, is not installed"
    ):
        make_runner("cuda", model, pool, None)
    assert make_runner("auto", model, pool, None).name in (
        "native",
        "torch",
    )  # on a processor nobody misses it


def test_on_a_gpu_without_triton_the_torch_runner_computes(tiny: Make, no_triton: None, caplog: Any) -> None:
    model = tiny(0)
    pool = pool_for(model, torch.float32, 1, "cpu")
    object.__setattr__(pool.shape, "device", "cuda:0")
    assert make_runner("auto", model, pool, None).name == "torch"
    assert "the torch runner computes, not the CUDA runner: the package triton" in caplog.text
    with pytest.raises(ArrieroError, match="fp8 is for the CUDA runner, which does not run here"):
        make_runner("auto", model, pool, None, fp8=True)
    with pytest.raises(ArrieroError, match="head int8 is for the native runner"):
        make_runner("auto", model, pool, None, "int8")


def test_models_that_are_not_for_it(tiny: Make) -> None:
    scaling = {"kind": "dynamic", "factor": 2.0, "original_context_length": 32}
    assert "relative positions" in (cuda_runner.why_not(tiny(0, positions="relative")) or "")
    assert "rotary angles" in (cuda_runner.why_not(tiny(0, rope_scaling=scaling)) or "")
    assert cuda_runner.why_not(tiny(0)) is None


def test_old_gpus_and_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mps" in (cuda_runner.why_not_here(torch.device("mps")) or "")
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU X")
    assert "GPU X has 7.5" in (cuda_runner.why_not_here(torch.device("cuda")) or "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert cuda_runner.why_not_here(torch.device("cuda")) is None
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "on the processor" in (cuda_runner.why_not_here(torch.device("cpu")) or "")


def test_float8_is_refused_where_it_cannot_be(tiny: Make) -> None:
    model = tiny(0)
    pool = pool_for(model, torch.float32, 1, "cpu")
    for kind in ("auto", "torch", "native"):
        with pytest.raises(ArrieroError, match="fp8 is for the CUDA runner"):
            make_runner(kind, model, pool, None, fp8=True)  # type: ignore[arg-type]


def test_float8_is_refused_under_the_interpreter(device: str, tiny: Make) -> None:
    if device != "cpu":
        pytest.skip("the kernels run on the GPU")
    model = tiny(0)
    with pytest.raises(ArrieroError, match="float8 products need an NVIDIA GPU"):
        make_runner("cuda", model, pool_for(model, torch.float32, 1, "cpu"), None, fp8=True)
