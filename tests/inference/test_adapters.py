from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from arriero.compression.rounding import quantize_model
from arriero.errors import ArrieroError
from arriero.inference.adapters import AdapterStore
from arriero.models.decoder import Decoder
from arriero.models.layers.quantized import WeightScheme, use_plain_layers
from arriero.tuning.lora import adapters as lora_layers
from arriero.tuning.lora import apply_lora, merge_lora, save_adapter

CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none",
    "use_dora": False, "use_rslora": False, "modules_to_save": None,
}  # fmt: skip
PLACES = {
    "self_attn.q_proj": ("attention.q_proj", 32, 32),
    "self_attn.k_proj": ("attention.k_proj", 32, 16),
    "self_attn.v_proj": ("attention.v_proj", 32, 16),
    "self_attn.o_proj": ("attention.o_proj", 32, 32),
    "mlp.gate_proj": ("feed_forward.gate_proj", 32, 64),
    "mlp.up_proj": ("feed_forward.up_proj", 32, 64),
    "mlp.down_proj": ("feed_forward.down_proj", 64, 32),
}
"""Name in Llama's files -> ours, inputs, outputs; of the tiny model."""


def write(folder: Path, tensors: dict[str, Tensor], **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors"
    )
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def peft_folder(
    folder: Path, seed: int, ranks: dict[str, int] | None = None, layers: int = 2, **changes: Any
) -> Path:
    """An adapter on every linear layer of Llama, or on those of ``ranks``."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(layers):
        for place, rank in (ranks or dict.fromkeys(PLACES, 4)).items():
            _, n_in, n_out = PLACES[place]
            name = f"base_model.model.model.layers.{layer}.{place}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, n_in, generator=generator) * 0.3
            tensors[f"{name}.lora_B.weight"] = torch.randn(n_out, rank, generator=generator) * 0.3
    return write(folder, tensors, **changes)


def merged(
    model: Decoder, folder: Path, scale: Callable[[str, int], float] = lambda place, rank: 8 / rank
) -> Decoder:
    """A copy of the model with the adapter worked into its weights, by plain arithmetic in float64."""
    from safetensors.torch import load_file

    result = copy.deepcopy(model)
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, a in tensors.items():
        if "lora_A" in name:
            layer, place = (
                name.removeprefix("base_model.model.model.layers.").split(".lora_A")[0].split(".", 1)
            )
            linear = result.get_submodule(f"blocks.{layer}.{PLACES[place][0]}")
            b = tensors[name.replace("lora_A", "lora_B")]
            with torch.no_grad():
                linear.weight.add_((b.double() @ a.double() * scale(place, len(a))).float())
    return result


def ids(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 261, (count, 9), generator=torch.Generator().manual_seed(seed))


def mixed(store: AdapterStore, model: Decoder, rows: Tensor, names: list[str | None]) -> Tensor:
    """Logits of a batch whose sequence i goes through ``names[i]``."""
    with torch.inference_mode(), store.active([name for name in names for _ in range(rows.shape[1])]):
        return model(rows)


@pytest.fixture
def store(model: Decoder, tmp_path: Path) -> AdapterStore:
    store = AdapterStore(model)
    store.load("one", peft_folder(tmp_path / "one", 1))
    store.load("two", peft_folder(tmp_path / "two", 2, {"self_attn.q_proj": 4, "mlp.down_proj": 4}))
    return store


# ---------------------------------------------------------------- the same numbers as merged weights


def test_a_mixed_batch_equals_merged_weights(model: Decoder, store: AdapterStore, tmp_path: Path) -> None:
    names: list[str | None] = ["two", None, "one", "two", "one", None]
    rows = ids(6)
    got = mixed(store, model, rows, names)
    models = {None: model, **{name: merged(model, tmp_path / name) for name in ("one", "two")}}
    for row, name in enumerate(names):
        with torch.inference_mode():
            torch.testing.assert_close(got[row], models[name](rows)[row], atol=2e-4, rtol=1e-4)
    with torch.inference_mode():
        assert (got[2] - model(rows)[2]).abs().max() > 0.1  # an adapter does something


@given(st.lists(st.sampled_from([None, "one", "two"]), min_size=1, max_size=7), st.integers(0, 1000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_alone_equals_any_mixture(
    model: Decoder, store: AdapterStore, names: list[str | None], seed: int
) -> None:
    rows = ids(len(names), seed)
    together = mixed(store, model, rows, names)
    for row, name in enumerate(names):
        alone = mixed(store, model, rows[row : row + 1], [name])
        torch.testing.assert_close(together[row], alone[0], atol=3e-4, rtol=1e-4)


def test_rows_without_an_adapter_are_untouched_and_leave_no_hooks(
    model: Decoder, store: AdapterStore
) -> None:
    rows = ids(3)
    with torch.inference_mode():
        plain = model(rows)
    torch.testing.assert_close(
        mixed(store, model, rows, [None, "one", None])[0], plain[0], atol=1e-5, rtol=1e-5
    )
    assert torch.equal(mixed(store, model, rows, [None] * 3), plain)
    assert not any(module._forward_hooks for module in model.modules())


def test_after_a_step_the_model_is_itself(model: Decoder, store: AdapterStore) -> None:
    rows = ids(2)
    mixed(store, model, rows, ["one", "two"])
    with torch.inference_mode():
        assert torch.equal(model(rows), copy.deepcopy(model)(rows))


def test_a_failed_step_leaves_no_adapter_behind(model: Decoder, store: AdapterStore) -> None:
    with pytest.raises(ArrieroError, match="got 9 rows in a step of 3"), store.active(["one"] * 3):
        model(ids(1))
    with torch.inference_mode():
        torch.testing.assert_close(model(ids(1)), copy.deepcopy(model)(ids(1)))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_base_with_adapters(model: Decoder, tmp_path: Path, bits: int) -> None:
    quantised = copy.deepcopy(model)
    quantize_model(quantised, WeightScheme(bits, 16), torch.float32)
    plain = copy.deepcopy(quantised)
    use_plain_layers(plain, torch.float32)
    folder = peft_folder(tmp_path / "a", 3)
    store = AdapterStore(quantised)
    store.load("a", folder)
    rows = ids(3)
    got = mixed(store, quantised, rows, ["a", None, "a"])
    with torch.inference_mode():
        torch.testing.assert_close(got[[0, 2]], merged(plain, folder)(rows)[[0, 2]], atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(got[1], plain(rows)[1], atol=1e-5, rtol=1e-5)


def test_a_bfloat16_base_keeps_its_dtype(model: Decoder, tmp_path: Path) -> None:
    half = copy.deepcopy(model).bfloat16()
    store = AdapterStore(half)
    store.load("a", peft_folder(tmp_path, 3))
    got = mixed(store, half, ids(2), ["a", "a"])
    assert got.dtype == torch.bfloat16
    with torch.inference_mode():
        right = merged(model, tmp_path)(ids(2))
        assert (got.float() - right).abs().mean() < 0.1 * (model(ids(2)) - right).abs().mean()


# ---------------------------------------------------------------- scales and ranks


def test_scale_and_rank_of_each_module(model: Decoder, tmp_path: Path) -> None:
    ranks = {"self_attn.q_proj": 4, "mlp.up_proj": 7, "mlp.down_proj": 2}
    folder = peft_folder(
        tmp_path, 4, ranks,
        rank_pattern={"up_proj": 7, "mlp.down_proj": 2}, alpha_pattern={"up_proj": 3.5, "^model.layers.*q_proj": 1},
    )  # fmt: skip
    alphas = {"self_attn.q_proj": 1, "mlp.up_proj": 3.5, "mlp.down_proj": 8}
    store = AdapterStore(model)
    adapter = store.load("a", folder)
    assert adapter.rank == 7 and adapter.bytes == store.used_bytes > 0
    right = merged(model, folder, lambda place, rank: alphas[place] / rank)
    with torch.inference_mode():
        torch.testing.assert_close(
            mixed(store, model, ids(2), ["a", "a"]), right(ids(2)), atol=2e-4, rtol=1e-4
        )


def test_rank_stabilised_scale(model: Decoder, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, 5, use_rslora=True)
    store = AdapterStore(model)
    store.load("a", folder)
    right = merged(model, folder, lambda place, rank: 8 / rank**0.5)
    with torch.inference_mode():
        torch.testing.assert_close(
            mixed(store, model, ids(2), ["a", "a"]), right(ids(2)), atol=5e-4, rtol=1e-4
        )


def test_what_our_own_tuning_leaves(model: Decoder, tmp_path: Path) -> None:
    tuned = copy.deepcopy(model)
    apply_lora(tuned, 3, 6, 0.0, ["q_proj", "v_proj", "down_proj"], seed=1)
    for layer in lora_layers(tuned).values():
        torch.nn.init.normal_(layer.lora_B, 0, 0.3, torch.Generator().manual_seed(2))
    save_adapter(tuned, tmp_path / "artifact" / "adapter")
    merge_lora(tuned)
    store = AdapterStore(model)
    store.load("mine", tmp_path / "artifact")  # the artifact keeps it in a folder of its own
    with torch.inference_mode():
        torch.testing.assert_close(
            mixed(store, model, ids(2), ["mine"] * 2), tuned(ids(2)), atol=2e-4, rtol=1e-4
        )


def test_names_of_an_adapter_made_for_the_body_alone(model: Decoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = peft_folder(tmp_path / "a", 6)
    tensors = load_file(folder / "adapter_model.safetensors")
    short = {name.replace("model.model.layers", "model.layers"): tensor for name, tensor in tensors.items()}
    store = AdapterStore(model)
    store.load("whole", folder)
    store.load("body", write(tmp_path / "b", short))
    assert store.salt("whole") == store.salt("body") != b""


def test_the_model_that_an_adapter_is_merged_into_does_not_take_it_again(
    model: Decoder, tmp_path: Path
) -> None:
    peft_folder(tmp_path / "artifact" / "adapter", 1)
    store = AdapterStore(model, tmp_path / "artifact")
    with pytest.raises(ArrieroError, match=r"merged into the model in .* already"):
        store.load("mine", tmp_path / "artifact")
    store.load("other", peft_folder(tmp_path / "elsewhere", 1))


# ---------------------------------------------------------------- life


def test_names_counts_and_unloading(store: AdapterStore) -> None:
    assert store.names() == ["one", "two"]
    store.acquire("one")
    store.acquire("one")
    with pytest.raises(ArrieroError, match="'one' is in use by 2 requests"):
        store.unload("one")
    store.unload("one", when_idle=True)
    assert store.names() == ["two"] and store.uses("one") == 2
    with pytest.raises(ArrieroError, match="is being unloaded"):
        store.acquire("one")
    assert store.get("one").name == "one"  # those that run still have it
    store.release("one")
    store.release("one")
    with pytest.raises(ArrieroError, match="no adapter is called 'one'"):
        store.get("one")
    store.unload("two")
    assert store.names() == [] and store.used_bytes == 0
    with pytest.raises(ArrieroError, match="no adapter is called 'two'"):
        store.unload("two")


def test_more_releases_than_requests_are_a_bug(store: AdapterStore) -> None:
    with pytest.raises(ArrieroError, match="released more often"):
        store.release("one")


def test_limits(model: Decoder, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, 1)
    size = AdapterStore(model).load("a", folder).bytes
    few = AdapterStore(model, max_adapters=1)
    few.load("a", folder)
    with pytest.raises(ArrieroError, match="1 adapters are loaded, the most allowed"):
        few.load("b", folder)
    small = AdapterStore(model, max_bytes=size + 1)
    small.load("a", folder)
    with pytest.raises(ArrieroError, match="only 1 of the limit are left"):
        small.load("b", folder)
    small.unload("a")
    small.load("b", folder)


def test_salts_follow_the_content(model: Decoder, tmp_path: Path) -> None:
    store = AdapterStore(model)
    store.load("a", peft_folder(tmp_path / "a", 1))
    store.load("same", tmp_path / "a")
    store.load("b", peft_folder(tmp_path / "b", 2))
    store.load("louder", peft_folder(tmp_path / "c", 1, lora_alpha=9))
    assert store.salt(None) == b"" and store.salt("a") == store.salt("same")
    assert len({store.salt(name) for name in ("a", "b", "louder", None)}) == 4


def test_many_threads_may_load_and_unload(model: Decoder, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, 1)
    store = AdapterStore(model, max_adapters=3)
    failed: list[str] = []

    def work(name: str) -> None:
        for _ in range(5):
            try:
                store.load(name, folder)
                store.acquire(name)
                store.release(name)
                store.unload(name)
            except ArrieroError as error:
                if "the most allowed" not in str(error):
                    failed.append(str(error))

    threads = [threading.Thread(target=work, args=(f"a{i}",)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and store.names() == []


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["", "two words", "-a", "a" * 129, "päp"])
def test_names_that_are_none(store: AdapterStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(ArrieroError, match="cannot be called"):
        store.load(name, tmp_path / "one")


def test_a_name_is_taken_once(store: AdapterStore, tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="'one' is loaded already"):
        store.load("one", tmp_path / "two")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "whole layers"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base's weights"),
        ({"r": 0}, "r should be a positive whole number, not 0"),
        ({"r": 5}, r"lora_A.weight has shape \[4, 64\], this model and rank 5 ask for \[5, 64\]"),
        ({"lora_alpha": "8"}, "lora_alpha should be a positive number"),
        ({"rank_pattern": {"(": 4}}, "no regular expression"),
        ({"rank_pattern": 4}, "rank_pattern should be an object"),
        ({"lora_bias": True}, "biases of its own"),
    ],
)
def test_configurations_that_are_refused(
    model: Decoder, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = peft_folder(tmp_path, 1, **changes)
    with pytest.raises(ArrieroError, match=message) as raised:
        AdapterStore(model).load("a", folder)
    assert "\n" not in str(raised.value) and "adapter" in str(raised.value)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{Q}.lora_A.weight": torch.zeros(4, 33), f"{Q}.lora_B.weight": torch.zeros(32, 4)}, r"shape \[4, 33\]"),
        ({f"{Q}.lora_A.weight": torch.zeros(4, 32), f"{Q}.lora_B.weight": torch.zeros(16, 4)}, r"shape \[16, 4\]"),
        ({f"{Q}.lora_A.weight": torch.zeros(4, 32)}, "has no partner lora_B"),
        ({f"{Q}.lora_B.weight": torch.zeros(32, 4)}, "has no partner lora_A"),
        ({f"{Q}.weight": torch.zeros(4, 32)}, "is no part of a plain LoRA adapter"),
        ({f"{Q}.lora_magnitude_vector": torch.zeros(32)}, "DoRA is not served"),
        ({Q.replace("0.", "2.") + ".lora_A.weight": torch.zeros(4, 32)}, "no linear layer in the blocks"),
        ({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)}, "lm_head"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 261)}, "embedding are not served"),
        ({f"{Q}.lora_A.weight": torch.full((4, 32), float("nan")), f"{Q}.lora_B.weight": torch.zeros(32, 4)}, "finite"),
        ({f"{Q}.lora_A.weight": torch.zeros(4, 32).int(), f"{Q}.lora_B.weight": torch.zeros(32, 4)}, "not as floats"),
        ({}, "no tensor"),
    ],
)  # fmt: skip
def test_tensors_that_are_refused(
    model: Decoder, tmp_path: Path, tensors: dict[str, Tensor], message: str
) -> None:
    store = AdapterStore(model)
    with pytest.raises(ArrieroError, match=message) as raised:
        store.load("a", write(tmp_path, tensors))
    assert "\n" not in str(raised.value) and store.names() == []


def test_files_that_are_not_there_or_are_pickles(model: Decoder, tmp_path: Path) -> None:
    store = AdapterStore(model)
    with pytest.raises(ArrieroError, match="holds no adapter"):
        store.load("a", tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ArrieroError, match="pickle, which Arriero never reads"):
        store.load("a", tmp_path)
    (tmp_path / "adapter_model.bin").unlink()
    folder = peft_folder(tmp_path, 1)
    whole = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(ArrieroError, match="cut short"):
        store.load("a", folder)
    (folder / "adapter_model.safetensors").write_bytes(whole)
    (folder / "adapter_config.json").write_text("[1")
    with pytest.raises(ArrieroError, match="cannot be read"):
        store.load("a", folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ArrieroError, match=r"has no adapter_config\.json"):
        store.load("a", folder)


def test_an_unknown_adapter_in_a_step(model: Decoder, store: AdapterStore) -> None:
    with pytest.raises(ArrieroError, match="no adapter is called 'ones'; did you mean 'one'"):
        mixed(store, model, ids(1), ["ones"])
