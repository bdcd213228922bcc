"""Weights in another project's files, seen as a Hugging Face folder is seen: names, shapes, values, configuration.

GGUF, Meta's ``consolidated.*.pth`` and llama2.c's ``.bin`` answer the same questions as
:class:`~arriero.models.tensor_files.TensorReader`, so that one loader fills a model from any of them. A tensor is
read in pieces straight into its place in the model: beside the model only a few megabytes are ever in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from arriero.errors import ArrieroError

CHUNK_VALUES = 1 << 20
"""Values that are decoded at a time: 4 MiB in float32."""
MAX_CONTEXT = 1 << 24
"""Longest context that a file is believed to have: tables of positions are as long as the context."""


class WeightSource(ABC):
    """A model's weights under Hugging Face's tensor names, with the configuration that goes with them.

    A context manager; the files stay open in between.
    """

    path: Path
    metadata: dict[str, Any]
    """What the file says of itself, by its own names."""
    chat_template: str | None = None

    @abstractmethod
    def hf_config(self) -> dict[str, Any]:
        """What ``config.json`` of a Hugging Face folder would say of this model.

        Raises:
            ArrieroError: a figure is missing, contradicts the tensors, or describes a variant that is not known.
        """

    @abstractmethod
    def names(self) -> set[str]:
        """Hugging Face's names of the tensors; one that has no such name keeps its own."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor as Hugging Face has it, from the header alone."""

    @abstractmethod
    def dtype(self, name: str) -> torch.dtype:
        """dtype in which :meth:`read` gives the tensor; float32 for block-quantised ones."""

    @abstractmethod
    def read_into(self, name: str, out: Tensor) -> None:
        """Fill ``out`` (of the tensor's shape, any float dtype and device) piece by piece.

        Raises:
            ArrieroError: the file is cut short, or there is no such tensor.
        """

    @abstractmethod
    def special_ids(self) -> dict[str, Any]:
        """``bos_token_id``, ``eos_token_id`` (one id or several) and ``pad_token_id``, None where not declared."""

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    def read(self, name: str) -> Tensor:
        """The whole tensor, on the CPU."""
        out = torch.empty(self.shape(name), dtype=self.dtype(name))
        self.read_into(name, out)
        return out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """The rows of a query or key projection, seen in the order of interleaved rotary pairs.

    Hugging Face turns (i, i + head_dim/2) together, Meta's code and ggml turn (2i, 2i+1). The result is a view
    [heads, head_dim/2, 2, ...] of ``rows`` [heads * head_dim, ...]; writing into it converts the other way.
    """
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2)


def pieces(view: Tensor, multiple: int = 1) -> Iterator[tuple[int, Tensor]]:
    """``view`` cut along its first dimension: (index of the first value, part) of about :data:`CHUNK_VALUES`.

    Args:
        multiple: every part but the last holds a multiple of so many values (the block of a quantised type).
    """
    view = view if view.dim() else view.unsqueeze(0)
    rows = view.shape[0]
    per_row = view.numel() // max(1, rows)
    step = max(1, CHUNK_VALUES // max(1, per_row))
    if (step * per_row) % multiple:
        step = step // multiple * multiple or multiple
    for start in range(0, rows, step):
        yield start * per_row, view[start : start + step]


def check_figure(values: dict[str, Any], key: str, where: str, most: int = MAX_CONTEXT) -> int:
    """``values[key]`` if it is an integer from 1 to ``most``.

    Raises:
        ArrieroError: it is missing or something else.
    """
    value = values.get(key)
    if type(value) is not int or not 1 <= value <= most:
        told = "is missing" if value is None else f"is {short(value)}"
        raise ArrieroError(f"{where}: {key} {told}; it should be an integer from 1 to {most}")
    return value


def short(value: object, most: int = 60) -> str:
    """Text from a file as it may stand in a message: one line of bounded length."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else text[:most] + "…"
