"""Adapters as the native library reads them: for each operation a table of the matrices of all adapters in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from arriero.inference.adapter_files import Adapter, LowRank
from arriero.inference.adapters import AdapterStore
from arriero.inference.rows import Rows
from arriero.native import program
from arriero.native.program import Program

Adapted = tuple[int, int, tuple[str, ...]]
"""Numbers of the two operations that add to products, and the places of these products' layers, side by side."""


class NativeAdapters:
    """Keeps the tables of one program up to date.

    Args:
        places: what :class:`~arriero.inference.native_program.ProgramMaker` tells of the program's operations.
        widths: outputs of each linear layer in the blocks, by its place.
    """

    def __init__(
        self, made: Program, places: Sequence[Adapted], widths: dict[str, int], store: AdapterStore | None
    ) -> None:
        self._program, self._places, self._widths, self._store = made, places, widths, store
        self._loaded: list[Adapter] = []
        self._kept: list[Tensor] = []

    def takes(self, name: str) -> bool:
        """Whether the adapter's rows can go through the native library."""
        return self._store is not None and self._store.get(name).rank <= program.MOST_RANK

    def numbers(self, rows: Rows) -> list[int] | None:
        """Of each row the number of its adapter in the tables, -1: none; None where no row has one."""
        names = {span.adapter for span in rows.spans if span.adapter is not None}
        if not names or self._store is None:
            return None
        wanted = {name: self._store.get(name) for name in names}
        if not set(wanted.values()) <= set(self._loaded) or not all(map(self._store.holds, self._loaded)):
            self._load(list(wanted.values()))
        number = {name: self._loaded.index(adapter) for name, adapter in wanted.items()}
        return [
            -1 if span.adapter is None else number[span.adapter]
            for span in rows.spans
            for _ in range(span.count)
        ]

    def _load(self, wanted: list[Adapter]) -> None:
        """Make the tables of ``wanted`` and of those of before that are still in the store."""
        assert self._store is not None
        old = [a for a in self._loaded if self._store.holds(a) and a not in wanted]
        self._loaded, self._kept = [*old, *wanted], []
        tables: dict[int, Any] = {}
        for down, up, layers in self._places:
            table = (program.LowRank * (len(self._loaded) * len(layers)))()
            for row, adapter in enumerate(self._loaded):
                self._fill(table, row * len(layers), adapter, layers)
            tables[down] = tables[up] = table
        self._program.set_adapters(tables)

    def _fill(self, table: Any, first: int, adapter: Adapter, layers: tuple[str, ...]) -> None:
        column = 0
        for number, place in enumerate(layers):
            found: LowRank | None = adapter.layers.get(place)
            if found is not None:
                a, turned = found.a.contiguous(), found.b.t().contiguous()
                self._kept += [a, turned]
                table[first + number] = program.LowRank(
                    len(a), len(found.b), column, 0, a.data_ptr(), turned.data_ptr()
                )
            column += self._widths[place]
