"""ggml's storage types: how many values a block holds, how many bytes it takes, its number in the file.

Source: ``ggml.h`` (enum ggml_type) and ``ggml-common.h`` (the blocks) of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

from arriero.errors import ArrieroError, did_you_mean


@dataclass(frozen=True)
class BlockType:
    """A storage type; ``file_type`` is its number in ``general.file_type`` when most of a model is stored so."""

    name: str
    id: int
    values: int
    bytes: int
    file_type: int | None = None

    def size(self, n_values: int) -> int:
        """Bytes of so many values, a multiple of the block."""
        return n_values // self.values * self.bytes


TYPES = (
    BlockType("F32", 0, 1, 4, 0),
    BlockType("F16", 1, 1, 2, 1),
    BlockType("BF16", 30, 1, 2, 32),
    BlockType("Q4_0", 2, 32, 18, 2),
    BlockType("Q4_1", 3, 32, 20, 3),
    BlockType("Q5_0", 6, 32, 22, 8),
    BlockType("Q5_1", 7, 32, 24, 9),
    BlockType("Q8_0", 8, 32, 34, 7),
    BlockType("Q2_K", 10, 256, 84),
    BlockType("Q3_K", 11, 256, 110),
    BlockType("Q4_K", 12, 256, 144),
    BlockType("Q5_K", 13, 256, 176),
    BlockType("Q6_K", 14, 256, 210),
)
BY_NAME = {kind.name: kind for kind in TYPES}
BY_ID = {kind.id: kind for kind in TYPES}

WRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
"""Types that Arriero writes. ggml's K types are found by a search whose outcome depends on the compiler's order of
sums; they are read only."""


def written_type(name: str) -> BlockType:
    """The type to write, by its name in any case.

    Raises:
        ArrieroError: no type that Arriero writes.
    """
    if name.upper() not in WRITTEN:
        raise ArrieroError(f"GGUF type '{name}' is not written{did_you_mean(name.upper(), WRITTEN)}")
    return BY_NAME[name.upper()]
