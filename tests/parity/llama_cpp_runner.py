"""llama.cpp by whichever Python binding is installed: llama-cpp-python, or llama-cpp-py-sync (which has wheels)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

CONTEXT = 512


def why_not() -> str:
    """Why llama.cpp cannot be run here; empty when it can."""
    if any(importlib.util.find_spec(name) for name in ("llama_cpp", "llama_cpp_py_sync")):
        return ""
    return "needs llama.cpp: pip install llama-cpp-py-sync (wheel), or llama-cpp-python (built from source)"


class Binding(Protocol):
    """One loaded file; the cache is float32, so that only the weights' type makes a difference."""

    def start(self) -> None:
        """Forget what was read."""

    def read(self, ids: list[int]) -> np.ndarray[Any, Any]:
        """Logits [T, V] after each of the next ids."""

    def encode(self, text: str, special: bool) -> list[int]: ...
    def close(self) -> None: ...


class LlamaCpp:
    """Runs GGUF files."""

    def __init__(self) -> None:
        self._open: dict[Path, Binding] = {}

    def greedy(self, path: Path, ids: list[int], count: int) -> list[int]:
        """The ``count`` likeliest next tokens, one after the other."""
        model = self._model(path)
        model.start()
        logits = model.read(ids)
        found: list[int] = []
        while len(found) < count:
            found.append(int(logits[-1].argmax()))
            logits = model.read(found[-1:])
        return found

    def logits(self, path: Path, ids: list[int]) -> Tensor:
        """[T, V], float32."""
        model = self._model(path)
        model.start()
        return torch.from_numpy(model.read(ids))

    def encode(self, path: Path, text: str, special: bool = False) -> list[int]:
        """Ids of a text; with ``special`` the names of special tokens in it are these tokens."""
        return self._model(path).encode(text, special)

    def close(self) -> None:
        for model in self._open.values():
            model.close()
        self._open.clear()

    def _model(self, path: Path) -> Binding:
        if path not in self._open:
            python = importlib.util.find_spec("llama_cpp") is not None
            self._open[path] = _LlamaCppPython(path) if python else _PySync(path)
        return self._open[path]


class _LlamaCppPython:
    def __init__(self, path: Path) -> None:
        from llama_cpp import GGML_TYPE_F32, Llama

        self._model = Llama(
            str(path), n_ctx=CONTEXT, n_batch=CONTEXT, n_threads=1, n_threads_batch=1, logits_all=True,
            type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32, verbose=False,
        )  # fmt: skip
        self.close = self._model.close
        self.start = self._model.reset

    def read(self, ids: list[int]) -> np.ndarray[Any, Any]:
        self._model.eval(ids)
        return self._model.scores[self._model.n_tokens - len(ids) : self._model.n_tokens].copy()

    def encode(self, text: str, special: bool) -> list[int]:
        return list(self._model.tokenize(text.encode(), add_bos=False, special=special))


class _PySync:
    def __init__(self, path: Path) -> None:
        from llama_cpp_py_sync import Llama

        self._model = Llama(
            str(path), n_ctx=CONTEXT, n_batch=CONTEXT, n_threads=1, n_threads_batch=1, flash_attn_type=0,
            type_k="f32", type_v="f32",
        )  # fmt: skip
        self._lib, self._context, self._place = self._model._lib, self._model._ctx, 0
        self.close = self._model.close

    def start(self) -> None:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        self._place = 0

    def read(self, ids: list[int]) -> np.ndarray[Any, Any]:
        batch = self._lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, id in enumerate(ids):
            batch.token[i], batch.pos[i], batch.logits[i] = id, self._place + i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        assert self._lib.llama_decode(self._context, batch) == 0
        size = 4 * self._model.n_vocab
        rows = [
            np.frombuffer(self._model._ffi.buffer(self._lib.llama_get_logits_ith(self._context, i), size), np.float32)
            for i in range(len(ids))
        ]
        found = np.stack(rows)
        self._lib.llama_batch_free(batch)
        self._place += len(ids)
        return found

    def encode(self, text: str, special: bool) -> list[int]:
        return list(self._model.tokenize(text, add_special=False, parse_special=special))
