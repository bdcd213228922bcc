"""The kernels as machine code for GPUs that are not here: Triton's compiler needs none.

A process of its own, because the interpreter that other tests run under cannot be switched off again.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from arriero.inference.cuda import low_bit
from arriero.inference.cuda import paged_attention as paged

FLOATS = {"fp32": (tl.float32, 4), "bf16": (tl.bfloat16, 2)}

def build(kernel, pointers, fixed, sm, **options):
    names = kernel.arg_names
    fixed = fixed | {n: 1 for n in ONES if n in names}
    kinds = {n: "constexpr" if n in fixed else pointers.get(n, "fp32" if n == "scale" else "i32") for n in names}
    values = {(names.index(n),): v for n, v in fixed.items()}
    made = compile(ASTSource(kernel, kinds, values), target=GPUTarget("cuda", sm, 32), options=options)
    assert made.asm["cubin"] and made.metadata.shared <= 99 * 1024, (kernel.__name__, made.metadata.shared)

ONES = []  # arguments that are 1, which Triton makes constants of the kernel

TABLES = {n: "*i32" for n in ("tables", "owners", "lengths")}
PARTS = {n: "*fp32" for n in ("sums", "peaks", "totals", "slopes")}

def attention(kind, stored, width, group, sm):
    dtype, size = FLOATS[kind]
    scale = "*fp32" if stored == "i8" else "*" + stored
    pool = {"keys": "*" + stored, "values": "*" + stored, "key_scales": scale, "value_scales": scale}
    tile, int8 = paged._tile(width), stored == "i8"
    build(paged._attend_part, {"q": "*" + kind} | pool | TABLES | PARTS, dict(
        BLOCK=64, PART=4, GROUP=group, GROUP_TILE=paged._tile(group), WIDTH=width, TILE=tile, INT8=int8,
        SLOPES=group != 4, PRODUCTS=dtype), sm, **paged.launch(tile, size))
    build(paged._store_rows, {"k": "*" + kind, "v": "*" + kind} | pool | TABLES, dict(
        BLOCK=64, WIDTH=width, TILE=tile, INT8=int8), sm, num_warps=1)
    build(paged._join_parts, PARTS | TABLES | {"out": "*" + kind}, dict(
        BLOCK=64, PART=4, WIDTH=width, TILE=tile), sm, num_warps=1)

def product(kind, bits, inputs, sm):
    pointers = {"x": "*" + kind, "packed": "*u8", "scales": "*" + kind, "bias": "*" + kind, "y": "*" + kind}
    build(low_bit._product, pointers, dict(
        BITS=bits, BIASED=True, PRODUCTS=FLOATS[kind][0], ROWS=16, OUTPUTS=32, INPUTS=inputs), sm, num_warps=4)

for sm in map(int, sys.argv[1].split(",")):
    attention("bf16", "bf16", 128, 4, sm)
    attention("bf16", "i8", 80, 1, sm)
    attention("fp32", "fp32", 64, 3, sm)
    if sm == 90:
        attention("bf16", "bf16", 256, 4, sm)
    for bits, inputs in ((4, 32), (4, 128), (8, 128)):
        product("bf16", bits, inputs, sm)
    product("fp32", 4, 64, sm)
    ONES += ["window", "width", "n_kv_heads", "rows", "groups"]
    attention("bf16", "bf16", 64, 4, sm)
    product("bf16", 4, 128, sm)
    ONES.clear()
"""


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_compile(capability: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    script = tmp_path / "compiles.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(script), str(capability)], env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
