"""The engines that a model is compared with in this process: transformers and llama.cpp."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from arriero.errors import ArrieroError
from arriero.serving.compare import Rival, Scores

FLOAT32_TOLERANCE = 1e-3
"""Nats. Two float32 implementations differ by their order of summation, some 1e-5 on models of hundreds of millions
of parameters; a wrong constant shows in the second digit."""
HALF_TOLERANCE = 0.05
"""Nats. llama.cpp rounds activations to 16 bits where the file holds weights of 16 bits."""
PACKED_TOLERANCE = 1.0
"""Nats. llama.cpp rounds activations to 8 bits where the file holds packed weights; Arriero unpacks them."""


@contextmanager
def open_rival(name: str, model: Path, key: str | None = None) -> Iterator[Rival]:
    """The engine of this name (transformers, llama.cpp, or a server's address) with the model in it.

    Raises:
        ArrieroError: no such engine, it is not installed, or it cannot read the model.
    """
    if name.startswith(("http://", "https://")):
        from arriero.serving.compare_url import Server
        from arriero.tokenization.load import load_tokenizer

        yield Server(name, key, load_tokenizer(model))
    elif name == "transformers":
        yield Transformers(model)
    elif name in ("llama.cpp", "llama-cpp", "llamacpp"):
        with TemporaryDirectory(prefix="arriero-compare-") as folder:
            yield LlamaCpp(model if model.suffix == ".gguf" else write_gguf(model, Path(folder)))
    else:
        raise ArrieroError(
            f"--with {name}: it should be transformers, llama.cpp, or a server's address such as "
            "http://127.0.0.1:8000"
        )


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArrieroError(
            f"{package} is not installed here ({error}): pip install {package}, or compare with a server's address"
        ) from None


class Transformers:
    """Hugging Face's transformers, in float32 with its plain attention."""

    name = "transformers"
    tolerance = FLOAT32_TOLERANCE

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ArrieroError(
                f"{folder} is a file: transformers reads a model folder; compare it with llama.cpp"
            )
        library = _library("transformers", "transformers")
        self.name = f"transformers {library.__version__}"
        import torch

        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
        try:
            self._model = library.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
            ).eval()
            self._tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
            raise ArrieroError(f"transformers cannot read {folder}: {_first_line(error)}") from None

    def ids(self, text: str) -> list[int] | None:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | list[int] | None:
        if not self._tokenizer.chat_template:
            return None
        text = self._tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
        )
        return str(text)

    def scores(self, ids: list[int]) -> Scores:
        import torch

        with torch.inference_mode():
            logits = self._model(torch.tensor([ids])).logits[0]
        return Scores(logits.double().log_softmax(-1))


class LlamaCpp:
    """llama.cpp through llama-cpp-python, keys and values in float32."""

    name = "llama.cpp"

    def __init__(self, file: Path, context: int = 0) -> None:
        self._library = _library("llama_cpp", "llama-cpp-python")
        self.name = f"llama.cpp (llama-cpp-python {self._library.__version__})"
        self.tolerance = _tolerance(file)
        try:
            self._model = self._library.Llama(
                str(file), n_ctx=context, logits_all=True, verbose=False, type_k=0, type_v=0, n_batch=512
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise ArrieroError(f"llama.cpp cannot read {file}: {_first_line(error)}") from None

    def ids(self, text: str) -> list[int] | None:
        return list(self._model.tokenize(text.encode(), add_bos=False, special=False))

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | list[int] | None:
        template = self._model.metadata.get("tokenizer.chat_template")
        if not template:
            return None
        names = [
            self._model._model.token_get_text(i) for i in (self._model.token_eos(), self._model.token_bos())
        ]
        formatter = importlib.import_module("llama_cpp.llama_chat_format").Jinja2ChatFormatter(
            template, *names
        )
        return str(formatter(messages=[dict(m) for m in messages]).prompt)

    def scores(self, ids: list[int]) -> Scores:
        import torch

        self._model.reset()
        self._model.eval(ids)
        rows = torch.from_numpy(self._model.scores[: len(ids)].copy())
        return Scores(rows.double().log_softmax(-1))


def write_gguf(folder: Path, into: Path) -> Path:
    """The model of a folder as a float32 GGUF file, quantised layers made plain.

    Raises:
        ArrieroError: a model or tokenizer that GGUF cannot hold.
    """
    import torch

    from arriero.models.checkpoint import load_decoder, read_special_ids, tensor_entries
    from arriero.models.gguf import GgufFile, written_type
    from arriero.models.hf_config import config_to_hf
    from arriero.models.layers.quantized import use_plain_layers
    from arriero.tokenization.load import load_tokenizer
    from arriero.tokenization.to_gguf import gguf_tokenizer_metadata, with_special_ids

    model = load_decoder(folder, dtype="float32")
    use_plain_layers(model, torch.float32)
    tokenizer = gguf_tokenizer_metadata(load_tokenizer(folder), model.config.vocab_size)
    file = GgufFile(
        config_to_hf(model.config, "float32", {}), tensor_entries(model, "float32"), written_type("f32"),
        name=folder.name, tokenizer=with_special_ids(tokenizer, read_special_ids(folder)), where=str(folder),
    )  # fmt: skip
    path = into / "model.gguf"
    file.write(path, lambda _: None)
    return path


def _tolerance(file: Path) -> float:
    """By the least exact weights of a GGUF file."""
    from arriero.models.gguf.container import Container

    container = Container(file)
    try:
        kinds = {tensor.kind.name for tensor in container.tensors.values()}
    finally:
        container.close()
    if kinds <= {"F32"}:
        return FLOAT32_TOLERANCE
    return HALF_TOLERANCE if kinds <= {"F32", "F16", "BF16"} else PACKED_TOLERANCE


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
