from __future__ import annotations

import collections
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.meta_format import MetaModel, open_meta
from arriero.models.torch_archive import TorchArchive

PARAMS = {
    "dim": 48,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "vocab_size": -1,
    "multiple_of": 4,
    "norm_eps": 1e-5,
}
VOCABULARY, FF = 70, 64
HEAD_DIM = 8


def meta_tensors(params: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """A whole model in Meta's names."""
    generator = torch.Generator().manual_seed(seed)
    dim, kv = params["dim"], (params.get("n_kv_heads") or params["n_heads"]) * HEAD_DIM
    shapes: dict[str, tuple[int, ...]] = {
        "tok_embeddings.weight": (VOCABULARY, dim),
        "norm.weight": (dim,),
        "output.weight": (VOCABULARY, dim),
    }
    for layer in range(params["n_layers"]):
        at = f"layers.{layer}."
        shapes |= {
            f"{at}attention.w{name}.weight": (rows, dim)
            for name, rows in (("q", dim), ("k", kv), ("v", kv), ("o", dim))
        }
        shapes |= {f"{at}feed_forward.w1.weight": (FF, dim), f"{at}feed_forward.w3.weight": (FF, dim)}
        shapes |= {f"{at}feed_forward.w2.weight": (dim, FF)}
        shapes |= {f"{at}attention_norm.weight": (dim,), f"{at}ffn_norm.weight": (dim,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def axis_of(name: str, llama3: bool) -> int | None:
    """The dimension that model parallelism cuts (fairscale's layers)."""
    if "norm" in name:
        return None
    if name == "tok_embeddings.weight":
        return 0 if llama3 else 1
    return 1 if name.endswith(("wo.weight", "w2.weight")) else 0


def save(
    folder: Path, params: dict[str, Any], tensors: dict[str, Tensor], ranks: int = 1, llama3: bool = False
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    for rank in range(ranks):
        part = {}
        for name, tensor in tensors.items():
            axis = axis_of(name, llama3)
            # a clone, for torch.save would write the whole storage of a view
            part[name] = tensor if axis is None else tensor.chunk(ranks, axis)[rank].clone()
        part["rope.freqs"] = torch.ones(4)
        torch.save(part, folder / f"consolidated.{rank:02}.pth")
    return folder


@pytest.mark.parametrize(("ranks", "llama3"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shards_are_put_together(tmp_path: Path, ranks: int, llama3: bool, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in meta_tensors(PARAMS).items()}
    with open_meta(save(tmp_path, PARAMS, tensors, ranks, llama3)) as model:
        found = {name: model.read(name) for name in model.names()}
        assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
            n: model.shape(n) for n in found
        }
    assert len(found) == len(tensors) and all(tensor.dtype == dtype for tensor in found.values())
    assert torch.equal(found["model.embed_tokens.weight"], tensors["tok_embeddings.weight"])
    assert torch.equal(found["lm_head.weight"], tensors["output.weight"])
    for theirs, ours in (("attention.wo", "self_attn.o_proj"), ("attention.wv", "self_attn.v_proj"),
                         ("feed_forward.w1", "mlp.gate_proj"), ("feed_forward.w3", "mlp.up_proj"),
                         ("feed_forward.w2", "mlp.down_proj"), ("ffn_norm", "post_attention_layernorm")):  # fmt: skip
        assert torch.equal(found[f"model.layers.1.{ours}.weight"], tensors[f"layers.1.{theirs}.weight"])
    for theirs, ours, heads in (("wq", "q_proj", 6), ("wk", "k_proj", 2)):
        rows, stored = (
            found[f"model.layers.0.self_attn.{ours}.weight"],
            tensors[f"layers.0.attention.{theirs}.weight"],
        )
        for head in range(heads):
            for pair in range(HEAD_DIM // 2):
                assert torch.equal(rows[HEAD_DIM * head + pair], stored[HEAD_DIM * head + 2 * pair])
                assert torch.equal(rows[HEAD_DIM * head + pair + 4], stored[HEAD_DIM * head + 2 * pair + 1])


def test_configuration(tmp_path: Path) -> None:
    config = open_meta(save(tmp_path, PARAMS, meta_tensors(PARAMS))).hf_config()
    assert config["vocab_size"] == VOCABULARY and config["intermediate_size"] == FF
    assert config["head_dim"] == HEAD_DIM and config["num_key_value_heads"] == 2
    assert config["tie_word_embeddings"] is False and config["dtype"] == "float32"


@pytest.mark.parametrize(
    ("more", "context"),
    [
        ({"norm_eps": 1e-6}, 2048),
        ({}, 4096),
        ({"rope_theta": 1000000.0}, 16384),
        ({"rope_theta": 500000.0}, 8192),
        ({"rope_theta": 500000.0, "use_scaled_rope": True}, 131072),
        ({"max_seq_len": 77}, 77),
    ],
)
def test_context_of_each_generation(tmp_path: Path, more: dict[str, Any], context: int) -> None:
    params = {**PARAMS, **more}
    config = open_meta(save(tmp_path, params, meta_tensors(params))).hf_config()
    assert config["max_position_embeddings"] == context
    assert ("rope_scaling" in config) == ("use_scaled_rope" in more)


def test_tied_and_no_kv_heads(tmp_path: Path) -> None:
    params = {key: value for key, value in PARAMS.items() if key != "n_kv_heads"}
    tensors = meta_tensors(params)
    del tensors["output.weight"]
    config = open_meta(save(tmp_path, params, tensors)).hf_config()
    assert config["tie_word_embeddings"] is True and config["num_key_value_heads"] == 6


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim is 0; it should be an integer"),
        ({"dim": 49}, "dim 49 is not a multiple of n_heads 6"),
        ({"n_layers": 1 << 40}, "n_layers is 1099511627776"),
        ({"n_layers": 4000}, "n_layers is 4000, more than there are tensors"),
        ({"n_heads": None}, "n_heads is missing"),
        ({"n_kv_heads": 3}, "wk has 16 rows, params.json asks for 24"),
        ({"dim": 60}, "asks for a width of 60"),
        ({"moe_args": {"num_experts": 8}}, "experts"),
    ],
)
def test_figures_that_do_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = save(tmp_path, {**PARAMS, **change}, meta_tensors(PARAMS))
    with pytest.raises(ArrieroError, match=message):
        open_meta(folder)


def test_missing_files(tmp_path: Path) -> None:
    folder = save(tmp_path, PARAMS, meta_tensors(PARAMS), 2)
    (folder / "consolidated.00.pth").rename(folder / "consolidated.02.pth")
    with pytest.raises(ArrieroError, match=r"2 shards, but consolidated.00.pth is missing"):
        open_meta(folder)
    for path in folder.glob("*.pth"):
        path.unlink()
    with pytest.raises(ArrieroError, match=r"has no consolidated.00.pth"):
        open_meta(folder)
    (folder / "params.json").write_text("[1]")
    with pytest.raises(ArrieroError, match="should hold a JSON object"):
        open_meta(folder)
    (folder / "params.json").unlink()
    with pytest.raises(ArrieroError, match=r"params.json cannot be read"):
        open_meta(folder)


def test_missing_tensor_in_a_shard(tmp_path: Path) -> None:
    tensors = meta_tensors(PARAMS)
    folder = save(tmp_path, PARAMS, tensors, 2)
    torch.save({"norm.weight": tensors["norm.weight"]}, folder / "consolidated.01.pth")
    with (
        open_meta(folder) as model,
        pytest.raises(ArrieroError, match=r"consolidated.01.pth: tensor .* is missing"),
    ):
        model.read("model.layers.0.mlp.up_proj.weight")


class Evil:
    """What a pickle may do: call anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def archive(path: Path, program: bytes) -> Path:
    """A .pth with this pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/data/0", bytes(64))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_code_is_refused_and_never_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    program = pickle.dumps({"w": Evil(os.system, f"touch {marker}")}, protocol=protocol)
    path = archive(tmp_path / "evil.pth", program)
    with pytest.raises(
        ArrieroError, match=r"evil.pth is refused: its pickle (asks for (posix|nt).system|has the operation)"
    ):
        TorchArchive(path)
    assert not marker.exists()
    pickle.loads(program)  # the test is worth something: unpickling runs it
    assert marker.exists()


@pytest.mark.parametrize(
    "value",
    [
        Evil(eval, "1"),
        Evil(exec, "x = 1"),
        Evil(collections.OrderedDict, [("a", 1)]),
        Evil(torch.load, "other.pth"),
        io.BytesIO(b"x"),
        collections.Counter("aa"),
    ],
    ids=["eval", "exec", "filled dictionary", "torch.load", "BytesIO", "Counter"],
)
def test_anything_but_tensors_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ArrieroError, match=r"is refused: .*only tensors are read, nothing is run"):
        TorchArchive(archive(tmp_path / "other.pth", pickle.dumps({"w": value}, protocol=2)))


@pytest.mark.parametrize("value", [[1, 2], {"w": 3}, {5: torch.ones(2)}, {"a": {"b": torch.ones(1)}}])
def test_no_dictionary_of_tensors(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "x.pth")
    with pytest.raises(ArrieroError, match=r"no dictionary of tensors|is no tensor"):
        TorchArchive(tmp_path / "x.pth")


def test_what_torch_writes_is_read(tmp_path: Path) -> None:
    whole = torch.arange(40.0).view(5, 8)
    values = collections.OrderedDict(
        plain=whole,
        rows=whole[2:4],
        parameter=torch.nn.Parameter(whole[1].clone()),
        scalar=torch.tensor(7.5),
        empty=torch.empty(0, 3),
        half=whole.half(),
        long=torch.arange(3),
        truth=torch.tensor([True, False]),
    )
    torch.save(values, tmp_path / "x.pth")
    with TorchArchive(tmp_path / "x.pth") as found:
        assert found.tensors.keys() == values.keys()
        for name, tensor in values.items():
            described = found.tensors[name]
            out = torch.empty(described.shape, dtype=described.dtype)
            found.read_into(name, out)
            assert out.dtype == tensor.dtype and torch.equal(out, tensor), name
    torch.save({"turned": whole.t()}, tmp_path / "y.pth")
    with pytest.raises(ArrieroError, match="not stored row by row"):
        TorchArchive(tmp_path / "y.pth")


def test_state_dict_of_a_module(tmp_path: Path) -> None:
    """It has an attribute, ``_metadata``, which is let go."""
    module = torch.nn.Linear(3, 4)
    torch.save(module.state_dict(), tmp_path / "x.pth")
    with TorchArchive(tmp_path / "x.pth") as found:
        out = torch.empty(4, 3)
        found.read_into("weight", out)
    assert torch.equal(out, module.weight)
    torch.save(module, tmp_path / "z.pth")
    with pytest.raises(ArrieroError, match=r"is refused: its pickle asks for torch.nn.modules.linear.Linear"):
        TorchArchive(tmp_path / "z.pth")


def test_old_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ArrieroError, match=r"damaged or no file that torch.save wrote"):
        TorchArchive(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(1000))
    with pytest.raises(ArrieroError, match="is compressed"):
        TorchArchive(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/other", b"")
    with pytest.raises(ArrieroError, match=r"has no data.pkl"):
        TorchArchive(path)
    with pytest.raises(ArrieroError, match="cannot be read"):
        TorchArchive(tmp_path / "none.pth")


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("archive") / "x.pth"
    torch.save({"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4).bfloat16()}, path)
    return path.read_bytes()


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_reads_or_is_told(small_archive: bytes, tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(small_archive)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.pth"
    path.write_bytes(changed[: data.draw(st.sampled_from([len(changed)] * 3 + [len(changed) // 2]))])
    try:
        with TorchArchive(path) as found:
            for name, tensor in found.tensors.items():
                found.read_into(name, torch.empty(tensor.shape, dtype=tensor.dtype))
    except ArrieroError as error:
        assert "\n" not in str(error) and len(str(error)) < 500


# ---------------------------------------------------------------- parity


@pytest.mark.parity
@pytest.mark.parametrize("ranks", [1, 2])
def test_logits_are_those_of_metas_own_computation(tmp_path: Path, ranks: int) -> None:
    """Meta's model.py worked out here (complex rotation of neighbouring pairs), against transformers on what is read."""
    transformers = pytest.importorskip("transformers")
    tensors = meta_tensors(PARAMS)
    tensors = {name: tensor * (1 if "norm" in name else 0.2) for name, tensor in tensors.items()}
    model: MetaModel = open_meta(save(tmp_path, PARAMS, tensors, ranks))
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**model.hf_config())).eval()
    missing, unexpected = theirs.load_state_dict(
        {name: model.read(name) for name in model.names()}, strict=False
    )
    assert not missing and not unexpected
    ids = torch.randint(0, VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        logits = theirs(ids).logits
    expected = _meta_forward(tensors, ids)
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()


def _meta_forward(w: dict[str, Tensor], ids: Tensor) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w[name]

    def turn(x: Tensor) -> Tensor:
        angles = torch.outer(
            torch.arange(x.shape[1]).float(), 10000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        )
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(-2)

    h = w["tok_embeddings.weight"][ids]
    mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)
    for layer in range(2):
        at = f"layers.{layer}."
        x = norm(h, f"{at}attention_norm.weight")
        q, k, v = ((x @ w[f"{at}attention.w{n}.weight"].T).unflatten(-1, (-1, HEAD_DIM)) for n in "qkv")
        q, k, v = turn(q), turn(k).repeat_interleave(3, 2), v.repeat_interleave(3, 2)
        scores = torch.einsum("bthd,bshd->bhts", q, k) / HEAD_DIM**0.5 + mask
        mixed = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v).flatten(-2)
        h = h + mixed @ w[f"{at}attention.wo.weight"].T
        x = norm(h, f"{at}ffn_norm.weight")
        gate = torch.nn.functional.silu(x @ w[f"{at}feed_forward.w1.weight"].T)
        h = h + (gate * (x @ w[f"{at}feed_forward.w3.weight"].T)) @ w[f"{at}feed_forward.w2.weight"].T
    return norm(h, "norm.weight") @ w["output.weight"].T
