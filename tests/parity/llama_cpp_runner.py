"""llama.cpp by whichever Python binding is installed: llama-cpp-python (built from source), or xllamacpp (wheels)."""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

CONTEXT = 512


def why_not() -> str:
    """Why llama.cpp cannot be run here; empty when it can."""
    if any(importlib.util.find_spec(name) for name in ("llama_cpp", "xllamacpp")):
        return ""
    return "needs llama.cpp: pip install xllamacpp (a wheel), or llama-cpp-python (built from source)"


class Binding(Protocol):
    """One loaded file; its cache is float32, so that only the weights' type makes a difference."""

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The likeliest next tokens, one after the other: ``count``, or fewer when the text ends."""

    def logprobs(self, ids: list[int]) -> Tensor:
        """Of every token [V] after ``ids``."""

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text; with ``special`` the names of special tokens in it are these tokens."""

    def close(self) -> None: ...


def open_in_llama_cpp(path: Path) -> Binding:
    return _LlamaCppPython(path) if importlib.util.find_spec("llama_cpp") else _XLlamaCpp(path)


class _LlamaCppPython:
    def __init__(self, path: Path) -> None:
        from llama_cpp import GGML_TYPE_F32, Llama

        self._model = Llama(
            str(path), n_ctx=CONTEXT, n_batch=CONTEXT, n_threads=1, n_threads_batch=1, logits_all=True,
            type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32, verbose=False,
        )  # fmt: skip
        self.close = self._model.close

    def greedy(self, ids: list[int], count: int) -> list[int]:
        self._model.reset()
        self._model.eval(ids)
        found: list[int] = []
        while len(found) < count:
            found.append(int(np.argmax(self._last())))
            self._model.eval(found[-1:])
        return found

    def logprobs(self, ids: list[int]) -> Tensor:
        self._model.reset()
        self._model.eval(ids)
        return torch.from_numpy(self._last().copy()).log_softmax(-1)

    def _last(self) -> Any:
        return self._model.scores[self._model.n_tokens - 1]

    def encode(self, text: str, special: bool = False) -> list[int]:
        return list(self._model.tokenize(text.encode(), add_bos=False, special=special))


class _XLlamaCpp:
    """llama.cpp's own server, inside this process."""

    def __init__(self, path: Path) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path, parameters.n_ctx, parameters.n_parallel = str(path), CONTEXT, 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = (
            xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )  # it rounds
        parameters.warmup = parameters.fit_params = False
        self._server: Any = xllamacpp.Server(parameters)

    def greedy(self, ids: list[int], count: int) -> list[int]:
        return [item["id"] for item in self._complete(ids, count, 1)]

    def logprobs(self, ids: list[int]) -> Tensor:
        (item,) = self._complete(ids, 1, 100_000)
        found = torch.full((len(item["top_logprobs"]),), torch.nan)
        for entry in item["top_logprobs"]:
            found[entry["id"]] = entry["logprob"]
        return found

    def _complete(self, ids: list[int], count: int, shown: int) -> list[dict[str, Any]]:
        answer = self._server.handle_completions({
            "prompt": ids, "n_predict": count, "temperature": 0, "samplers": ["top_k"], "top_k": 1, "n_probs": shown,
            "cache_prompt": False,
        })  # fmt: skip
        content: list[dict[str, Any]] = answer["choices"][0]["logprobs"]["content"]
        return content

    def encode(self, text: str, special: bool = False) -> list[int]:
        body = json.dumps({"content": text, "add_special": False, "parse_special": special}).encode()
        url = f"{self._server.listening_address}/tokenize"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            tokens: list[int] = json.load(answer)["tokens"]
        return tokens

    def close(self) -> None:
        self._server = None
