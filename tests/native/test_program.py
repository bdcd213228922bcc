"""Single operations of a program against torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.inference.kv_pool import CacheShape, KVPool
from arriero.inference.native_runner import pool_description
from arriero.models.layers.activation import ACTIVATIONS
from arriero.native import library, program
from arriero.native.matrices import dense
from arriero.native.program import Builder, Heads, Program

pytestmark = pytest.mark.skipif(not library.available(), reason="the native library was not built")

_POOL = KVPool(CacheShape(1, 1, 16), 64)


def run(
    builder: Builder, out: int, rows: int, wanted: list[int] | None = None, positions: list[int] | None = None
) -> Tensor:
    """Rows of the buffer ``out`` after the program."""
    width = builder.widths[out]
    builder.add(
        program.PRODUCT,
        input=out,
        out=program.LOGITS,
        matrix=dense(torch.eye(width)),
        wanted=int(wanted is not None),
    )
    made = Program(builder, Heads(1, 0, 0, 0, 1.0, 0, None, None, None))
    ids, asked = list(range(rows)), list(range(rows)) if wanted is None else wanted
    result = torch.empty(len(asked), width)
    made.run(pool_description(_POOL), ids, positions or ids, [(0, rows, 0, [0])], asked, result.data_ptr())
    return result


def loaded(x: Tensor) -> tuple[Builder, int]:
    builder = Builder()
    buffer = builder.buffer(x.shape[1])
    builder.add(program.EMBED, out=buffer, weight=x, width=x.shape[1], variant=int(x.dtype == torch.bfloat16))
    return builder, buffer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embedding_with_places(dtype: torch.dtype) -> None:
    table, places = torch.randn(5, 19).to(dtype), torch.randn(9, 19)
    builder, x = Builder(), 0
    builder.buffer(19)
    builder.add(
        program.EMBED,
        out=x,
        weight=table,
        bias=places,
        width=19,
        variant=int(dtype == torch.bfloat16),
        offset=2,
    )
    found = run(builder, x, 5, positions=[6, 0, 1, 1, 3])
    torch.testing.assert_close(found, table.float() + places[[8, 2, 3, 3, 5]], atol=0, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 16, 47, 64, 576, 1000])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_norms_with_sums(width: int, kind: str) -> None:
    x, weight, bias = torch.randn(7, width) + 3, torch.randn(width), torch.randn(width)
    builder, a = loaded(x)
    b, out = builder.buffer(width), builder.buffer(width)
    builder.add(program.EMBED, out=b, weight=x, width=width)
    given = bias if kind == "layer" else None
    builder.add(
        program.NORM, input=a, in2=b, in3=b, out=out, width=width, weight=weight, bias=given, eps=1e-5,
        variant=program.NORMS[kind],
    )  # fmt: skip
    wanted = (
        F.layer_norm(3 * x.double(), (width,), weight.double(), bias.double(), 1e-5)
        if kind == "layer"
        else F.rms_norm(3 * x.double(), (width,), weight.double(), 1e-5)
    )
    torch.testing.assert_close(run(builder, out, 7).double(), wanted, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("gated", [False, True])
def test_activations(name: str, gated: bool) -> None:
    x = torch.cat([torch.linspace(-120, 120, 90), torch.linspace(-4, 4, 184)]).view(2, 137)
    times = torch.randn(2, 137)
    builder, source = loaded(torch.cat([x, times], 1) if gated else x)
    out = builder.buffer(137)
    builder.add(
        program.GATED if gated else program.ACT,
        input=source,
        out=out,
        width=137,
        variant=program.ACTIVATIONS[name],
    )
    wanted = ACTIVATIONS[name](x.double()) * (times if gated else 1)
    torch.testing.assert_close(run(builder, out, 2).double(), wanted, atol=1e-6, rtol=2e-6)


def test_gathered_rows_and_products_side_by_side() -> None:
    x, a, b = torch.randn(6, 24), torch.randn(5, 24), torch.randn(9, 24)
    builder, source = loaded(x)
    picked, out = builder.buffer(24), builder.buffer(14)
    builder.add(program.GATHER, input=source, out=picked, width=24, wanted=1)
    builder.add(program.PRODUCT, input=picked, out=out, matrix=dense(a), wanted=1, chained=1)
    builder.add(program.PRODUCT, input=picked, out=out, matrix=dense(b), wanted=1, offset=5)
    found = run(builder, out, 6, wanted=[1, 4])
    torch.testing.assert_close(found, x[[1, 4]] @ torch.cat([a, b]).T, atol=1e-5, rtol=1e-5)


def test_no_wanted_rows() -> None:
    builder, source = loaded(torch.randn(3, 8))
    picked = builder.buffer(8)
    builder.add(program.GATHER, input=source, out=picked, width=8, wanted=1)
    assert run(builder, picked, 3, wanted=[]).shape == (0, 8)
