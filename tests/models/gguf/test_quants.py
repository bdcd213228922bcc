"""Bit for bit as the `gguf` package's reference, both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models.gguf.block_types import TYPES, WRITTEN, written_type
from arriero.models.gguf.dequantise import decode
from arriero.models.gguf.quantise import encode

BLOCK_TYPES = [kind for kind in TYPES if kind.values > 1]


def test_hand_worked_q8_0() -> None:
    values = torch.zeros(32)
    values[3], values[4], values[5] = 127.0, -2.5, 1.5
    raw = encode(values, written_type("Q8_0"))
    assert raw[:2].view("<f2")[0] == 1.0  # 127 / 127
    assert list(raw[5:8].view(np.int8)) == [127, -3, 2]  # halves go away from zero
    assert decode(raw, written_type("Q8_0"))[3:6].tolist() == [127.0, -3.0, 2.0]


def test_hand_worked_q4_0() -> None:
    values = torch.zeros(32)
    values[0], values[16], values[1] = -8.0, 7.0, 2.4
    raw = encode(values, written_type("Q4_0"))
    assert raw[:2].view("<f2")[0] == 1.0 and raw[2] == (
        15 << 4 | 0
    )  # value 0 in the low nibble, 16 in the high one
    assert decode(raw, written_type("Q4_0"))[[0, 16, 1, 2]].tolist() == [-8.0, 7.0, 2.0, 0.0]


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.name)
def test_decoding_is_the_references(kind: object) -> None:
    quants = pytest.importorskip("gguf.quants")
    generator = np.random.default_rng(1)
    raw = generator.integers(0, 256, (37, kind.bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        wanted = quants.dequantize(raw, _number(kind)).reshape(-1)
    ours = decode(raw.reshape(-1), kind).numpy()
    assert ours.dtype == np.float32
    finite = np.isfinite(wanted)
    assert finite.mean() > 0.5
    assert np.array_equal(ours.view(np.uint32)[finite], wanted.view(np.uint32)[finite])
    assert np.array_equal(np.isfinite(ours), finite)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 3e3])
def test_encoding_is_the_references(name: str, scale: float) -> None:
    quants = pytest.importorskip("gguf.quants")
    kind = written_type(name)
    values = torch.randn(19, 64, generator=torch.Generator().manual_seed(3)) * scale
    values[2] = 0
    values[3, 5:40] = values[3, 4]  # ties of the largest magnitude
    values[4] = -values[4].abs()
    values[5] = torch.arange(64) / 2  # exact halves
    wanted = quants.quantize(values.numpy(), _number(kind))
    assert np.array_equal(encode(values, kind), np.ascontiguousarray(wanted).view(np.uint8).reshape(-1))


@pytest.mark.parametrize("name", [name for name in WRITTEN if name not in ("F32", "BF16")])
def test_what_the_type_cannot_hold_is_refused(name: str) -> None:
    for bad in (float("nan"), float("inf"), 1e30):
        values = torch.ones(32)
        values[7] = bad
        with pytest.raises(OverflowError):
            encode(values, written_type(name))


def test_unknown_type_to_write() -> None:
    with pytest.raises(ArrieroError, match=r"GGUF type 'q8_1' is not written; did you mean 'Q8_0'"):
        written_type("q8_1")
    assert written_type("q4_0").name == "Q4_0"


def _number(kind: object) -> object:
    from gguf.constants import GGMLQuantizationType

    return GGMLQuantizationType[kind.name]
