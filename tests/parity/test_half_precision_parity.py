"""Half-precision arithmetic of every decoder family: no further from float32 than transformers' own is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from arriero.models.checkpoint import load_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

from tests.parity.test_decoder_parity import CASES, Case, ids_of, make  # noqa: E402

ALLOWED = 1.5
"""Times transformers' error. Both round at every step, in another order; over some thousand logits the errors of two
right ways lie within a few per cent of each other, and one float32 step done in half precision shows beyond this."""
WHOLE = {name: case for name, case in CASES.items() if case.model != "Model"}


def error(found: Tensor, exact: Tensor) -> float:
    """Root of the mean square difference."""
    assert found.isfinite().all()
    return float((found.float() - exact).square().mean().sqrt())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", WHOLE.values(), ids=WHOLE.keys())
@torch.no_grad()
def test_error_beside_theirs(case: Case, dtype: str, tmp_path: Path) -> None:
    half = getattr(torch, dtype)
    drawn = make(case).to(half)
    drawn.save_pretrained(tmp_path)
    # read back, because casting a model casts its rotary frequencies too
    theirs, wide = (type(drawn).from_pretrained(tmp_path, dtype=t).eval() for t in (half, torch.float32))
    ours, ids = load_model(tmp_path), ids_of(theirs, 4, case.length)
    assert {p.dtype for p in ours.parameters()} == {half}
    told, exact = theirs(ids).logits, wide(ids).logits
    limit = (
        torch.finfo(half).eps * exact.square().mean().sqrt()
    )  # no error below the result's own digits is asked for
    found = ours(ids)
    assert found.dtype == half
    assert error(found, exact) <= max(ALLOWED * error(told, exact), limit)
    exact_hidden = load_model(tmp_path, dtype="float32").hidden(ids)
    assert error(ours.hidden(ids), exact_hidden) > 0  # it is half precision that ran
