"""The facts kernel: equal on every level of instructions, safe with any bytes, linear in time."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from arriero.data.facts import FactsSettings, fallback
from arriero.data.facts.figures import COUNTERS
from arriero.data.facts.kernel import kernel
from arriero.errors import ArrieroError
from arriero.native import library
from arriero.native import text as native_text
from arriero.native.text import TextKernel

pytestmark = pytest.mark.usefixtures("native")
TEXT = ("The quick brown fox, it's said, jumps over 12 lazy dogs. 今天天气很好。\n\n" * 40).encode()


def the_kernel(**settings: object) -> TextKernel:
    found = kernel(FactsSettings(**settings))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_counters_have_the_same_names_and_order_in_c_and_python() -> None:
    assert native_text.counter_names() == COUNTERS


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (1, 1), (3, 5), (20, 13), (1, 17)])
def test_signatures_are_equal_on_every_level(level: str, bands: int, rows: int) -> None:
    settings = FactsSettings(bands=bands, rows=rows)
    found = the_kernel(bands=bands, rows=rows).signature(TEXT)
    assert found.dtype == np.uint32 and found.shape == (bands * rows,)
    np.testing.assert_array_equal(found, fallback.signature(TEXT, settings), err_msg=level)


def test_any_bytes_are_safe() -> None:
    rng = random.Random(3)
    pool = [*TEXT[:200], 0xC3, 0xE2, 0x80, 0xF0, 0x9F, 0xFF, 0xED, 0xA0, 0, 10, 32]
    kernel_ = the_kernel()
    for size in [*range(40), *(rng.randrange(400) for _ in range(300))]:
        data = bytes(rng.choice(pool) for _ in range(size))
        counters, signature, digest = kernel_.measure(data)
        assert counters[0] == size and counters[1] <= size and len(signature) == 112 and len(digest) == 16
        kernel_.normalise(data).decode()
        starts_ends = kernel_.words(data)
        assert (starts_ends[:, 0] < starts_ends[:, 1]).all() and (starts_ends <= size).all()
        assert kernel_.lines(data, False)["end"].max() <= size


def test_every_byte_of_a_cut_character_is_a_bad_one() -> None:
    for end in range(1, 4):
        counters, _, _ = the_kernel().measure("a😀".encode()[: 1 + end])
        assert counters[COUNTERS.index("control_characters")] == end


@pytest.mark.parametrize(
    "piece",
    ["a", ".", "(", "-", "@", "a.", "1,", "[", "[1", "\n", " \n", " ", "\r", "'s", "x@", "今", "é", "\u0301", "…", "a b ",
     "http://a.", "0", "cookie", "lorem ipsu", "a\n\n"],
)  # fmt: skip
def test_no_worst_case(piece: str) -> None:
    """Four times the text takes at most some ten times the time (linear would be four)."""

    def seconds(size: int) -> float:
        data = piece.encode() * (size // len(piece.encode()))
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            the_kernel().measure(data)
            the_kernel().lines(data, True)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(1_600_000) < 12 * max(seconds(400_000), 0.01)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, "0")
    assert kernel(FactsSettings()) is None
    with pytest.raises(ArrieroError, match="cannot be used"):
        native_text._library()
